"""Cosines on a grid of 2^-14, so that two machines compare the same numbers.

Summing in another order (another CPU, another BLAS) moves a float32 cosine by up to 6e-7. Rounded to the grid, cosines
compare equal between machines unless one lies within 6e-7 of the middle between two levels: one pair in fifty, moved by
a level, and of those only the few whose level is the threshold's can change a decision. What remains of that is not
hidden: the threshold is recorded, and a run repeated on one machine gives the same bytes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

STEPS = 1 << 14
LEVELS = 2 * STEPS + 1  # level 0 is cosine -1, the last is 1

Levels = npt.NDArray[np.uint16]


def to_levels(cosines: npt.NDArray[np.floating[Any]]) -> Levels:
    """Cosines as the nearest levels of the grid, of the same shape."""
    scaled = np.float32(STEPS) * np.asarray(cosines, np.float32) + np.float32(STEPS + 0.5)
    levels: Levels = np.clip(scaled, 0, LEVELS - 1).astype(np.uint16)
    return levels


def to_cosines(levels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Levels as the cosines they stand for, exactly: every level is a float32."""
    return ((np.asarray(levels).astype(np.int32) - STEPS) / np.float32(STEPS)).astype(np.float32)


def on_grid(cosines: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """The nearest cosines of the grid, of the same shape: the same faces tie, and give the same figures, anywhere."""
    return to_cosines(to_levels(cosines))
