"""Vectors of any length as rows of unit length."""

from typing import Any

import numpy as np
import numpy.typing as npt

Raw = npt.NDArray[np.floating[Any]]

# Halves round a length by up to 5e-4. A length this near to 1 is left as it is: what was exported comes back the same.
UNIT_TOLERANCE = 1e-3
BLOCK = 512  # rows at a time, whose doubles fit in the cache


def is_unit(lengths: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Whether lengths are 1, or were before rounding; NaN is not."""
    near: npt.NDArray[np.bool_] = np.abs(lengths - 1) <= UNIT_TOLERANCE
    return near


def unit_rows(raw: Raw) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
    """Vectors (n, d) divided by their lengths, unless these are 1 already, and the lengths (n,).

    A vector of no use becomes zeros; its length is 0, or NaN if it is not finite.
    """
    halves, norms = np.zeros(raw.shape, np.float16), np.empty(len(raw), np.float32)
    for start in range(0, len(raw), BLOCK):
        block = slice(start, start + BLOCK)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            wide = raw[block].astype(np.float64)  # in which no square of a float32 overflows or vanishes
            length = np.sqrt(np.square(wide).sum(axis=1))
        length[~np.isfinite(length)] = np.nan
        sound = length > 0
        other = sound & ~is_unit(length)
        wide[other] /= length[other, None]
        halves[block][sound] = wide[sound]
        limits = np.finfo(np.float32)  # a length beyond them is neither 0 nor infinite
        norms[block] = np.where(sound, np.clip(length, limits.tiny, limits.max), length)
    return halves, norms
