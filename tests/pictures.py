"""Small images and folders of them, made here."""

import io

import numpy as np
from PIL import Image


def pixels(seed, size=112):
    """A blurred pattern that survives JPEG: (size, size, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def encoded(array, kind="JPEG"):
    """An array as the bytes of an image file."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


def jpeg(seed, size=112):
    """One aligned crop, as a file's bytes."""
    return encoded(pixels(seed, size))


def folder_of(root, files):
    """Write {path: bytes} below a root; an int stands for the jpeg of that seed."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(jpeg(data, 16) if isinstance(data, int) else data)
    return root
