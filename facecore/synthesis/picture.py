"""Pixels to JPEG, and JPEG to another JPEG of the same picture."""

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


def encode_again(data: bytes, random: np.random.Generator) -> bytes:
    """The same picture as another site would serve it: a lower quality and, every other time, another size."""
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    if random.random() < 0.5:
        edge = int(random.integers(96, 129))
        picture = picture.resize((edge, edge), Image.Resampling.BICUBIC)
    return encode(np.asarray(picture), int(random.integers(50, 86)))
