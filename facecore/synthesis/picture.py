"""Pixels to PNG or JPEG, to another size, and JPEG to another JPEG of the same picture."""

import io

import numpy as np
from PIL import Image

from facecore.images import Pixels

QUALITY = 92


def encode(pixels: Pixels, quality: int = QUALITY) -> bytes:
    """The pixels (height, width, 3) as a JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def encode_losslessly(pixels: Pixels) -> bytes:
    """The pixels (height, width, 3) as a PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def resized(pixels: Pixels, size: int) -> Pixels:
    """Pictures (n, height, width, 3) as (n, size, size, 3), resampled as `images.decode` does."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    whole = (Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR) for picture in pixels)
    return np.stack([np.asarray(picture) for picture in whole])


def encode_again(data: bytes, random: np.random.Generator) -> bytes:
    """The same picture as another site would serve it: a lower quality and, every other time, another size."""
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    if random.random() < 0.5:
        edge = int(random.integers(96, 129))
        picture = picture.resize((edge, edge), Image.Resampling.BICUBIC)
    return encode(np.asarray(picture), int(random.integers(50, 86)))
