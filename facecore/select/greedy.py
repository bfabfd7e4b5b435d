"""Greedy suppression inside one identity, compiled: the kept faces at one level, and their number at every level.

Both take the matrix of cosine levels (n, n) with rows and columns in rank order, best first, and both mean the same
rule: a face stays unless its level to a kept face before it is above the given one (Face-NMS, local step).
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from facecore.select.grid import LEVELS, Levels

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    return cast(_Function, numba.njit(cache=True, nogil=True)(function))


@_compiled
def kept_at(levels: Levels, max_level: int) -> npt.NDArray[np.bool_]:
    """Which faces stay, (n,), when a level above `max_level` to an earlier kept face suppresses."""
    n = len(levels)
    kept = np.ones(n, np.bool_)
    for j in range(1, n):
        for i in range(j):
            if kept[i] and levels[j, i] > max_level:
                kept[j] = False
                break
    return kept


@_compiled
def _drop_released(levels: Levels, level: int, kept: npt.NDArray[np.bool_], blockers: npt.NDArray[np.int64]) -> int:
    """Restore kept = (no blockers) in rank order after some blockers were released; returns the change in number."""
    change = 0
    for j in range(len(kept)):
        stays = blockers[j] == 0
        if kept[j] != stays:
            kept[j] = stays
            step = 1 if stays else -1
            change += step
            for k in range(j + 1, len(kept)):
                if levels[j, k] > level:
                    blockers[k] += step
    return change


@_compiled
def add_profile(levels: Levels, floor: int, change: npt.NDArray[np.int64]) -> None:
    """Add to `change` (LEVELS,) by how much the number of kept faces, at least `floor`, changes at each level.

    Exact at every level, though greedy counts are not monotone in the threshold: pairs are released in order of their
    level, and each flip is passed on to the faces ranked after it. O(n^2 log n) for the sort, O(n) for a flip.
    """
    n = len(levels)
    kept = kept_at(levels, 0)
    blockers = np.zeros(n, np.int64)
    pairs = np.empty(n * (n - 1) // 2, np.int64)
    filled = 0
    for j in range(1, n):
        for i in range(j):
            if levels[j, i] > 0:
                pairs[filled] = np.int64(levels[j, i]) * (n * n) + j * n + i
                filled += 1
                blockers[j] += kept[i]
    pairs = np.sort(pairs[:filled])
    count = int(kept.sum())
    shown = max(count, floor)
    change[0] += shown
    at = 0
    while at < filled:
        level = pairs[at] // (n * n)
        released = False
        while at < filled and pairs[at] // (n * n) == level:
            j, i = (pairs[at] % (n * n)) // n, pairs[at] % n
            if kept[i]:
                blockers[j] -= 1
                released = released or blockers[j] == 0
            at += 1
        if released:
            count += _drop_released(levels, level, kept, blockers)
            change[level] += max(count, floor) - shown
            shown = max(count, floor)


def profile_of(change: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number of faces kept at every level, (LEVELS,), from the changes that `add_profile` summed."""
    if change.shape != (LEVELS,):
        raise ValueError(f"expected {LEVELS} levels, got {change.shape}")
    return np.cumsum(change)
