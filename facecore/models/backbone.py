"""What a network is to the rest of facecore: a size, a dimension, and a function from batches to embeddings."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from facecore.errors import ModelError
from facecore.images import Floats, Pixels, Preprocess, to_input

DEFAULT_SIZE = 112  # of networks that do not say: the side of ArcFace's aligned crops
MAX_INPUT = 1 << 28  # numbers that a network may insist on at a time, 1 GiB: 7,132 aligned crops


class Backbone(Protocol):
    """A face-recognition network, ready to run."""

    @property
    def size(self) -> int:
        """The side of the square images it takes, in pixels."""
        ...

    @property
    def dimension(self) -> int:
        """The length of an embedding."""
        ...

    @property
    def sha256(self) -> str:
        """The sha256 of the file it came from, and of those where it keeps weights."""
        ...

    @property
    def preprocess(self) -> Preprocess | None:
        """What the file itself says of its input; None if it says nothing."""
        ...

    def embed(self, batch: Floats) -> Floats:
        """(n, 3, size, size) to (n, dimension), not normalised; n may be 0."""
        ...


def embed_pixels(backbone: Backbone, pixels: Pixels, preprocess: Preprocess, *, flip: bool) -> Floats:
    """Embed RGB pixels as f(x), or as f(x) + f(mirrored x) if `flip`; not normalised.

    (n, size, size, 3) to (n, dimension).
    """
    embeddings = backbone.embed(to_input(pixels, preprocess))
    if flip:
        embeddings = embeddings + backbone.embed(to_input(pixels[:, :, ::-1], preprocess))
    return embeddings


def in_chunks(run: Callable[[Floats], Floats], batch: Floats, *, least: int, most: int) -> Floats:
    """Run a network that takes `least` to `most` images at a time; too few are filled up with the last one."""
    outputs = []
    for start in range(0, len(batch), most):
        part = batch[start : start + most]
        missing = max(0, least - len(part))
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        outputs.append(run(filled)[: len(part)])
    return np.concatenate(outputs)


def check_input(batch: int, size: int, path: Path) -> None:
    """Raise ModelError if a network insists on more than memory should hold: a file may claim any number."""
    if batch * 3 * size**2 > MAX_INPUT:
        raise ModelError(f"{path} takes {batch:,} images of {size:,} x {size:,} at a time; export it for fewer")


def first_line(error: Exception) -> str:
    """The first line of what a library said, for use inside an error line of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
