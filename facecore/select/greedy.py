"""Greedy suppression inside one identity, compiled: the kept faces at one level, and their number at every level.

All take the packed triangle of `gram.gram_levels`, faces in rank order, best first, and all mean the same rule: a face
stays unless its level to a kept face before it is above the given one (Face-NMS, local step).
"""

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled
from facecore.grid import Levels

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

_RADIX = 256


@compiled
def keep_greedily(levels: Levels, max_level: int, kept: Flags) -> None:
    """Say for each of the n faces in `kept` whether it stays when a level above `max_level` suppresses."""
    for j in range(len(kept)):
        before = j * (j - 1) // 2
        kept[j] = True
        for i in range(j):
            if kept[i] and levels[before + i] > max_level:
                kept[j] = False
                break


@compiled
def nearest_before(levels: Levels, nearest: Levels) -> None:
    """Each face's highest level to any face ranked before it; 0 for the first ("Fast NMS" in detection)."""
    for j in range(len(nearest)):
        before = j * (j - 1) // 2
        nearest[j] = 0
        for i in range(j):
            nearest[j] = max(nearest[j], levels[before + i])


@compiled
def _sorted_pairs(levels: Levels, n: int, lowest: int, highest: int, pairs: Counts, spare: Counts) -> int:
    """Write the pairs above `lowest`, up to `highest`, by level, as level << 32 | j << 16 | i; returns how many."""
    count = 0
    for j in range(1, n):
        before = j * (j - 1) // 2
        for i in range(j):
            if lowest < levels[before + i] <= highest:
                pairs[count] = (np.int64(levels[before + i]) << 32) | (j << 16) | i
                count += 1
    ends = np.empty(_RADIX, np.int64)
    for shift in (32, 40):  # by the low byte of the level, then, stably, by the high one
        ends[:] = 0
        for at in range(count):
            ends[(pairs[at] >> shift) & (_RADIX - 1)] += 1
        for digit in range(1, _RADIX):
            ends[digit] += ends[digit - 1]
        for at in range(count - 1, -1, -1):
            digit = (pairs[at] >> shift) & (_RADIX - 1)
            ends[digit] -= 1
            spare[ends[digit]] = pairs[at]
        pairs, spare = spare, pairs
    return count


@compiled
def _settle(levels: Levels, level: int, first: int, kept: Flags, blockers: Counts) -> int:
    """Restore kept = (no blockers) from face `first` on, after blockers were released; returns the change in number."""
    change = 0
    for j in range(first, len(kept)):
        stays = blockers[j] == 0
        if kept[j] != stays:
            kept[j] = stays
            step = 1 if stays else -1
            change += step
            for k in range(j + 1, len(kept)):
                if levels[k * (k - 1) // 2 + j] > level:
                    blockers[k] += step
    return change


@compiled
def add_profile(
    levels: Levels, n: int, least: int, most: int, lowest: int, highest: int,
    pairs: Counts, spare: Counts, change: Counts,
) -> None:  # fmt: skip
    """Add to `change` (LEVELS,) how the number of n faces kept, clipped, changes at each level of [lowest, highest].

    Exact at every level, though greedy counts are not monotone in the threshold: pairs are released in order of their
    level, and each flip is passed on to the faces ranked after it. O(n^2), O(n) more for a flip. The number at `lowest`
    is all added there. `pairs` and `spare` are memory to work in, n (n - 1) / 2 each.
    """
    kept = np.empty(n, np.bool_)
    keep_greedily(levels, lowest, kept)
    filled = _sorted_pairs(levels, n, lowest, highest, pairs, spare)
    count = int(kept.sum())
    shown = min(max(count, least), most)
    change[lowest] += shown
    if not filled:
        return
    blockers = np.zeros(n, np.int64)
    for j in range(1, n):
        for i in range(j):
            blockers[j] += kept[i] and levels[j * (j - 1) // 2 + i] > lowest
    at = 0
    while at < filled:
        level = pairs[at] >> 32
        first = n
        while at < filled and pairs[at] >> 32 == level:
            j, i = (pairs[at] >> 16) & 0xFFFF, pairs[at] & 0xFFFF
            if kept[i]:
                blockers[j] -= 1
                if blockers[j] == 0:
                    first = min(first, j)
            at += 1
        if first < n:
            count += _settle(levels, level, first, kept, blockers)
            change[level] += min(max(count, least), most) - shown
            shown = min(max(count, least), most)


@compiled
def add_ordered_profile(values: Levels, least: int, most: int, change: Counts) -> None:
    """Add to `change` (LEVELS,) how the number of faces with a value up to a level, clipped, changes at each level."""
    ordered = np.sort(values)
    shown = min(least, most)
    change[0] += shown
    for at in range(len(ordered)):
        if at + 1 == len(ordered) or ordered[at + 1] != ordered[at]:
            now = min(max(at + 1, least), most)
            change[ordered[at]] += now - shown
            shown = now
