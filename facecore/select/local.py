"""The local step on a piece of whole identities, compiled: rank, profile, cut."""

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled
from facecore.embeddings import Vectors
from facecore.grid import Levels
from facecore.select.gram import gram_levels
from facecore.select.greedy import (
    Counts,
    Flags,
    add_ordered_profile,
    add_profile,
    keep_greedily,
    nearest_before,
)
from facecore.select.selector import FAR, KEPT, NEAR_DUPLICATE, OUTRANKED, OVER_MAXIMUM, TRIMMED

# Which faces stay at a level: those that no kept face suppresses; those that no better-ranked face, kept or not,
# suppresses; those with a value of their own up to it.
GREEDY, NESTED, BY_VALUE = 0, 1, 2

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@compiled
def rank_rows(sparsity: Floats, starts: Rows, out: Flags) -> Rows:
    """The rows of each identity, best first; those that are `out` come last, and a tie goes to the earlier row."""
    order = np.arange(len(sparsity))
    for run in range(len(starts) - 1):
        for at in range(starts[run] + 1, starts[run + 1]):  # by insertion: stable, and identities are small
            row, to = order[at], at
            while to > starts[run]:
                other = order[to - 1]
                if out[row] > out[other] or (out[row] == out[other] and sparsity[row] <= sparsity[other]):
                    break
                order[to] = other
                to -= 1
            order[to] = row
    return order


@compiled
def _largest(starts: Rows) -> int:
    n = 0
    for run in range(len(starts) - 1):
        n = max(n, starts[run + 1] - starts[run])
    return n


@compiled
def profile_pairs(
    vectors: Vectors, starts: Rows, order: Rows, able: Rows,
    floors: Rows, max_kept: int, rule: int, lowest: int, highest: int, change: Counts,
) -> None:  # fmt: skip
    """Add to `change` how the number of faces kept by GREEDY or NESTED changes at each level of [lowest, highest].

    Only the first `able` of each identity, in `order`, may stay at all, and as many as its floor do.
    """
    n = _largest(starts)
    pairs = n * (n - 1) // 2
    cosines, levels, nearest = np.empty(pairs, np.float32), np.empty(pairs, np.uint16), np.empty(n, np.uint16)
    events = np.empty((2, pairs if rule == GREEDY else 0), np.int64)
    for run in range(len(starts) - 1):
        m = able[run]
        gram_levels(vectors, order[starts[run] : starts[run] + m], cosines, levels)
        least, most = floors[run], min(max_kept, m)
        if rule == GREEDY:
            add_profile(levels, m, least, most, lowest, highest, events[0], events[1], change)
        else:
            nearest_before(levels, nearest[:m])
            add_ordered_profile(nearest[:m], least, most, change)


@compiled
def profile_values(
    values: Levels, starts: Rows, order: Rows, able: Rows, floors: Rows, max_kept: int, change: Counts
) -> None:
    """The same for the rule BY_VALUE."""
    for run in range(len(starts) - 1):
        m = able[run]
        rows = order[starts[run] : starts[run] + m]
        add_ordered_profile(values[rows], floors[run], min(max_kept, m), change)


@compiled
def keep_within(kept: Flags, over: Flags, least: int, most: int) -> int:
    """Bring back the best-ranked dropped faces up to `least`, give up the worst-ranked kept ones over `most`.

    Marks the latter in `over`; returns how many are kept.
    """
    count = 0
    for j in range(len(kept)):
        over[j] = kept[j] and count == most
        kept[j] = kept[j] and count < most
        count += kept[j]
    for j in range(len(kept)):
        if count < least and not kept[j]:
            kept[j] = True
            count += 1
    return count


@compiled
def admit(
    rows: Rows, able: int, least: int, most: int, trimmed: Flags,
    kept: Flags, before: Flags, over: Flags, admitted: Flags, spare: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """Bring one identity within its limits: `kept` at a level and `before` one below it, (n,) in rank order."""
    if before.any():  # below the lowest level there is nothing, not even a floor
        keep_within(before[:able], over[:able], least, most)
    count = keep_within(kept[:able], over[:able], least, most)
    for j in range(len(rows)):
        admitted[rows[j]] = kept[j] and not before[j]
        spare[rows[j]] = count - least
        kept[j] = kept[j] and not trimmed[rows[j]]


@compiled
def give_reasons(
    rows: Rows, able: int, level: int, rule: int, trimmed: Flags, kept: Flags, over: Flags, after_trimmed: Flags,
    winner: Rows, highest: Levels,
    reason: npt.NDArray[np.uint8], rival: npt.NDArray[np.int32], rival_level: Levels,
) -> None:  # fmt: skip
    """Say of each face of one identity why it goes and because of whom: `winner`, a position in rank order, or -1.

    The weightiest reason comes first. By the rule GREEDY, a face that only dropped ones suppress goes for their reason:
    trimmed, if one of them was (`after_trimmed`), else over the maximum.
    """
    for j in range(len(rows)):
        row = rows[j]
        if kept[j]:
            reason[row] = KEPT
            continue
        if winner[j] >= 0:
            rival[row], rival_level[row] = rows[winner[j]], highest[j]
        if j >= able:
            reason[row] = FAR
        elif rule != BY_VALUE and winner[j] >= 0 and highest[j] > level:
            reason[row] = NEAR_DUPLICATE
        elif trimmed[row] or (rule == GREEDY and after_trimmed[j] and not over[j]):
            reason[row] = TRIMMED
        elif over[j] or rule == GREEDY:
            reason[row] = OVER_MAXIMUM
        else:
            reason[row] = OUTRANKED


@compiled
def _find_after_trimmed(rows: Rows, levels: Levels, level: int, trimmed: Flags, after_trimmed: Flags) -> None:
    """Mark whom a better-ranked face suppresses that is trimmed; `levels` as gram_levels packs them."""
    if not trimmed[rows].any():
        return
    at = 0
    for j in range(len(rows)):
        for i in range(j):
            after_trimmed[j] |= trimmed[rows[i]] and levels[at] > level
            at += 1


@compiled
def _nearest_kept(levels: Levels, kept: Flags, winner: Rows, highest: Levels) -> None:
    """For each dropped face the position of the nearest kept one, -1 if there is none, and the level."""
    winner[:], highest[:] = -1, 0
    at = 0
    for j in range(len(kept)):
        for i in range(j):
            if kept[i] != kept[j]:
                gone, stays = (j, i) if kept[i] else (i, j)
                if winner[gone] < 0 or levels[at] > highest[gone]:  # a tie goes to the better rank, which comes first
                    winner[gone], highest[gone] = stays, levels[at]
            at += 1


@compiled
def cut_piece(
    vectors: Vectors, starts: Rows, order: Rows, able: Rows, values: Levels, level: int,
    floors: Rows, max_kept: int, rule: int, trimmed: Flags,
    reason: npt.NDArray[np.uint8], suppression: Levels, rival: npt.NDArray[np.int32], rival_level: Levels,
    admitted: Flags, spare: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    """Fill in the last six arrays, (n,) by row, for every identity at one level; `values` is for the rule BY_VALUE."""
    n = _largest(starts)
    cosines, levels = np.empty(n * (n - 1) // 2, np.float32), np.empty(n * (n - 1) // 2, np.uint16)
    flags, winner = np.empty((4, n), np.bool_), np.empty(n, np.int64)
    nearest, highest = np.empty(n, np.uint16), np.empty(n, np.uint16)
    for run in range(len(starts) - 1):
        rows, m = order[starts[run] : starts[run + 1]], able[run]
        kept, before, over, after_trimmed = flags[:, : len(rows)]
        flags[:] = False
        gram_levels(vectors, rows, cosines, levels)
        nearest_before(levels, nearest[: len(rows)])
        suppression[rows] = nearest[: len(rows)]
        value = values[rows] if rule == BY_VALUE else nearest
        for at, stays in ((level, kept), (level - 1, before)):
            if rule == GREEDY and at >= 0:
                keep_greedily(levels, at, stays[:m])
            elif at >= 0:
                stays[:m] = value[:m] <= at
        admit(rows, m, floors[run], min(max_kept, m), trimmed, kept, before, over, admitted, spare)
        _nearest_kept(levels, kept, winner[: len(rows)], highest[: len(rows)])
        _find_after_trimmed(rows, levels, level, trimmed, after_trimmed)
        give_reasons(
            rows, m, level, rule, trimmed, kept, over, after_trimmed, winner, highest, reason, rival, rival_level
        )
