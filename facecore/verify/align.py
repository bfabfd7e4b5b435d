"""Loose crops to aligned ones: five landmarks moved onto ArcFace's template by a similarity transform."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from facecore.errors import DataError
from facecore.images import opened_image, to_rgb

SIDE = 112
# Where eyes, nose and corners of the mouth lie in an aligned crop, x + iy in pixels of SIDE (insightface, arcface_dst).
TEMPLATE = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)

Points = npt.NDArray[np.complex128]


def similarity(source: Points, target: Points) -> tuple[complex, complex]:
    """The a, b with the least sum of |a z + b - w|^2 over points z of the source and w of the target.

    A complex factor is a rotation and a scale, so this is Umeyama's least-squares similarity (PAMI 1991) in the plane,
    without reflections. Raises DataError if all points of the source are one.
    """
    centred = source - source.mean()
    spread = np.vdot(centred, centred).real
    if not (np.isfinite(spread) and spread > 0):
        raise DataError("its five landmarks are one point")
    a = np.vdot(centred, target - target.mean()) / spread
    return complex(a), complex(target.mean() - a * source.mean())


def aligned(data: bytes, landmarks: npt.NDArray[np.floating[Any]]) -> bytes:
    """An encoded image as an encoded aligned crop, SIDE x SIDE, black where it reaches beyond the image.

    `landmarks`, (10,), are x and y of both eyes, nose and both corners of the mouth, in pixels. Sampling is bilinear at
    pixel centres, as cv2.warpAffine has it. Raises DataError if the bytes are not an image.
    """
    x, y = landmarks.astype(np.float64).reshape(5, 2).T
    a, b = similarity(x + 1j * y, TEMPLATE)
    if a == 0:
        raise DataError("its five landmarks have no direction in common with a face")
    back, start = 1 / a, -b / a  # from the crop into the image
    # landmarks count from the centre of the first pixel, Pillow from its corner
    start += (0.5 + 0.5j) - back * (0.5 + 0.5j)
    with opened_image(data) as image:
        rgb = to_rgb(image)
    coefficients = (back.real, -back.imag, start.real, back.imag, back.real, start.imag)
    crop = rgb.transform((SIDE, SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    crop.save(stream, "bmp")  # nothing lost, next to nothing to write and to read
    return stream.getvalue()
