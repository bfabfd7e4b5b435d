"""What a teacher thinks of faces as they are made: which to drop, and because of whom."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facecore.errors import ModelError, OptionError
from facecore.images import Pixels, Preprocess
from facecore.models import Backbone, embed_pixels
from facecore.search import Index
from facecore.synthesis.options import SynthesisOptions
from facecore.synthesis.picture import resized

SMALL_NORM, NEAR_DUPLICATE = "small-norm", "near-duplicate"
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Verdict:
    """What is to become of a face; where nobody judges, it stays."""

    reason: str | None = None  # None: it stays
    rival: int | None = None  # of a near-duplicate: the number of the nearest face that stays
    cosine: float | None = None  # to it
    norm: float | None = None
    unit: Halves | None = None  # (d,), of a face that stays


class Kept:
    """The embeddings of the faces that stay, in order."""

    def __init__(self, dimension: int) -> None:
        self._units = np.empty((1024, dimension), np.float16)
        self._faces: list[int] = []

    def add(self, face: int, unit: Halves) -> None:
        """Take in the next face."""
        if len(self._faces) == len(self._units):
            self._units = np.concatenate([self._units, np.empty_like(self._units)])
        self._units[len(self._faces)] = unit
        self._faces.append(face)

    def nearest(self, units: Halves) -> list[tuple[float, int]]:
        """The highest cosine of each unit (n, d) to a face, and the number of that face; -1 for both of nobody."""
        if not self._faces:
            return [(-1.0, -1)] * len(units)
        cosines, places = Index.over(self._units[: len(self._faces)], how="exact").nearest(units, 1)
        return [(cosine, self._faces[place]) for cosine, place in zip(cosines[:, 0], places[:, 0], strict=True)]


class Screen:
    """Drops faces whose embedding is short, or too near that of a face made and kept before: greedy, as in Face-NMS.

    Raises OptionError unless there is a bound for one of the two.
    """

    def __init__(self, teacher: Backbone, options: SynthesisOptions) -> None:
        if options.min_norm is None and options.max_cosine is None:
            raise OptionError("a teacher drops faces by --min-norm or --max-cosine; give one, or leave out --teacher")
        self._teacher = teacher
        self._min_norm = 0.0 if options.min_norm is None else options.min_norm
        self._max_cosine = math.inf if options.max_cosine is None else options.max_cosine
        self._preprocess = options.preprocess or teacher.preprocess or Preprocess()
        self.sha256, self.dimension = teacher.sha256, teacher.dimension

    def judge(self, pixels: Pixels, faces: range, first: int, kept: Kept) -> list[Verdict]:
        """A verdict on each face of a batch (n, height, width, 3) from row `first` on; `kept` is as before the row.

        `faces` are the numbers of the batch. Always embedded as a whole, so that no verdict depends on `first`.
        """
        embeddings = embed_pixels(self._teacher, resized(pixels, self._teacher.size), self._preprocess, flip=False)
        norms = np.linalg.norm(embeddings, axis=1)
        if not np.isfinite(norms).all():
            raise ModelError("the teacher's embeddings are not finite; check --teacher, and --mean and --scale")
        units = (embeddings / np.maximum(norms, np.float32(1e-12))[:, None]).astype(np.float16)
        units, norms, faces = units[first:], norms[first:], faces[first:]
        before = kept.nearest(units)
        cosines, order = Index.over(units, how="exact").nearest(units, len(units))
        verdicts: list[Verdict] = []
        for row, norm in enumerate(norms.tolist()):
            nearest = zip(cosines[row], order[row].tolist(), strict=True)
            stays = ((cosine, faces[n]) for cosine, n in nearest if n < row and verdicts[n].reason is None)
            beside = next(stays, (-1.0, -1))
            verdicts.append(self._verdict(units[row], norm, *max(before[row], beside, key=lambda found: found[0])))
        return verdicts

    def _verdict(self, unit: Halves, norm: float, cosine: float, rival: int) -> Verdict:
        if norm < self._min_norm:
            return Verdict(SMALL_NORM, norm=norm)
        if cosine > self._max_cosine:
            return Verdict(NEAR_DUPLICATE, rival, float(cosine), norm)
        return Verdict(norm=norm, unit=unit)
