"""The local step for an identity too large for a matrix of all its pairs: cosines in blocks, each used and forgotten.

An identity of 100,000 faces has 5 billion pairs. They are not sorted by cosine; up to 255 levels are walked at once,
a bit each: every face has the set of levels at which it is kept, and takes from it as it is compared with the others.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled
from facecore.embeddings import Vectors
from facecore.grid import LEVELS, STEPS, Levels
from facecore.select.selector import PROBES

WHOLE_ROWS = 2048  # up to here, the pairs of an identity and their order fit in 45 MB
_BLOCK, _STRIP = 512, 4096  # rows and columns of a block of cosines; a strip is whole blocks
_SCALE, _HALF_UP, _TOP = np.float32(STEPS), np.float32(STEPS + 0.5), np.int32(LEVELS - 1)

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Sets = npt.NDArray[np.uint64]  # (n, words): bit b of row i is whether face i is kept at probe b


def is_large(faces: int, identities: int) -> bool:
    """Whether a piece is a single identity too large for a matrix of all its pairs."""
    return identities == 1 and faces > WHOLE_ROWS


def _products(vectors: Vectors, rows: Rows, others: Rows) -> Iterator[tuple[int, int, Vectors]]:
    """The cosines between `rows` and `others`, block by block, with the first row and column of each."""
    for j in range(0, len(rows), _BLOCK):
        left = vectors[rows[j : j + _BLOCK]]
        for i in range(0, len(others), _STRIP):
            yield j, i, left @ vectors[others[i : i + _STRIP]].T


@compiled
def _level(cosine: np.float32) -> np.int32:
    """As grid.to_levels does."""
    return min(max(np.int32(cosine * _SCALE + _HALF_UP), np.int32(0)), _TOP)


@compiled
def _suppress(
    cosines: Vectors,
    first_row: int,
    first_column: int,
    above: npt.NDArray[np.uint8],
    below: Sets,
    kept: Sets,
    nearest: Levels,
) -> None:
    """Take from the set of each row the probes at which a kept face before it, in this block, suppresses it.

    Columns go up to the row itself, so a row of the block is done before it suppresses. `above` is how many probes a
    level is above, `below` the set of that many.
    """
    for y in range(cosines.shape[0]):
        j = first_row + y
        highest = np.int32(nearest[j])
        for x in range(min(cosines.shape[1], j - first_column)):
            level = _level(cosines[y, x])
            highest = max(highest, level)
            if above[level]:
                for word in range(kept.shape[1]):
                    kept[j, word] &= ~(kept[first_column + x, word] & below[above[level], word])
        nearest[j] = highest


def walk(vectors: Vectors, rows: Rows, probes: Rows) -> tuple[Sets, Levels]:
    """Go greedily through the rows, given in rank order, at up to 255 rising levels at once.

    Returns for every row, (n,), the set of probes at which it stays, see `stay`, and its highest level to a row before.
    """
    assert len(probes) <= PROBES
    assert _STRIP % _BLOCK == 0
    words = max(1, -(-len(probes) // 64))
    below = np.zeros((len(probes) + 1, words), np.uint64)
    for count in range(1, len(probes) + 1):
        below[count] = below[count - 1]
        below[count, (count - 1) // 64] |= np.uint64(1 << (count - 1) % 64)
    above = np.searchsorted(probes, np.arange(LEVELS), "left").astype(np.uint8)
    kept = np.tile(below[-1], (len(rows), 1))
    nearest = np.zeros(len(rows), np.uint16)
    for j in range(0, len(rows), _BLOCK):
        here = rows[j : j + _BLOCK]
        for _, first_column, cosines in _products(vectors, here, rows[: j + len(here)]):
            _suppress(cosines, j, first_column, above, below, kept, nearest)
    return kept, nearest


def stay(kept: Sets, bit: int) -> Flags:
    """Which rows stay at a probe, (n,)."""
    return (kept[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(np.bool_)


@compiled
def _improve(cosines: Vectors, first_row: int, positions: Rows, rows: Rows, best: Rows, highest: Levels) -> None:
    """Let rows find a nearer one among the columns, at `positions`, other than itself."""
    for y in range(cosines.shape[0]):
        j = first_row + y
        for x in range(cosines.shape[1]):
            level = _level(cosines[y, x])
            if rows[j] != positions[x] and (best[j] < 0 or level > highest[j]):
                best[j], highest[j] = positions[x], level


def nearest_kept(vectors: Vectors, rows: Rows, kept: Flags) -> tuple[Rows, Levels]:
    """For each row the position of the nearest kept one, a tie to the earlier, and the level, (n,); -1 if none is.

    Of rows that are themselves kept nothing is said.
    """
    positions, gone = np.flatnonzero(kept), np.flatnonzero(~kept)
    best, highest = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.uint16)
    found, level = best[gone], highest[gone]
    for j, i, cosines in _products(vectors, rows[gone], rows[positions]):
        _improve(cosines, j, positions[i : i + cosines.shape[1]], gone, found, level)
    best[gone], highest[gone] = found, level
    return best, highest


@compiled
def _mark(cosines: Vectors, first_row: int, positions: Rows, level: int, marked: Flags) -> None:
    for y in range(cosines.shape[0]):
        for x in range(cosines.shape[1]):
            marked[first_row + y] |= positions[x] < first_row + y and _level(cosines[y, x]) > level


def suppressed_by(vectors: Vectors, rows: Rows, some: Flags, level: int) -> Flags:
    """Which rows, given in rank order, one of some better-ranked ones suppresses at a level, (n,)."""
    positions, marked = np.flatnonzero(some), np.zeros(len(rows), np.bool_)
    for j, i, cosines in _products(vectors, rows, rows[positions]):
        _mark(cosines, j, positions[i : i + cosines.shape[1]], level, marked)
    return marked


def nearest_levels(vectors: Vectors) -> Levels:
    """Each row's highest level to another row, (n,), as `gram.nearest_levels` finds it."""
    rows = np.arange(len(vectors))
    best, highest = np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.uint16)
    for j, i, cosines in _products(vectors, rows, rows):
        _improve(cosines, j, rows[i : i + cosines.shape[1]], rows, best, highest)
    return highest
