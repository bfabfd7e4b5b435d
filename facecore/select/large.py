"""The local step for an identity too large for a matrix of all its pairs: cosines in blocks, each used and forgotten.

An identity of 100,000 faces has 5 billion pairs. Instead of sorting them by cosine, 63 levels are walked at once, a bit
each: one bit set of the levels at which a face is kept, and one product of every block with those before it.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled
from facecore.embeddings import Vectors
from facecore.grid import LEVELS, Levels, to_levels

WHOLE_ROWS = 2048  # up to here, the pairs of an identity and their order fit in 45 MB
_BLOCK, _STRIP = 512, 4096  # rows and columns of a block of cosines

Rows = npt.NDArray[np.int64]
Masks = npt.NDArray[np.uint64]


def _blocks(vectors: Vectors, rows: Rows, others: Rows) -> Iterator[tuple[slice, slice, Levels]]:
    """The levels between `rows` and `others`, block by block, with where each block stands."""
    for j in range(0, len(rows), _BLOCK):
        left = vectors[rows[j : j + _BLOCK]]
        for i in range(0, len(others), _STRIP):
            right = vectors[others[i : i + _STRIP]]
            yield slice(j, j + len(left)), slice(i, i + len(right)), to_levels(left @ right.T)


@compiled
def _suppress(
    levels: Levels, first_row: int, first_column: int, above: npt.NDArray[np.uint8], kept: Masks, nearest: Levels
) -> None:
    """Clear from kept[row] the probes at which a kept face before it, in this block, suppresses it.

    Columns go up to the row itself, so a row of the block is done before it suppresses.
    """
    one = np.uint64(1)
    for y in range(levels.shape[0]):
        j = first_row + y
        for x in range(min(levels.shape[1], j - first_column)):
            level = levels[y, x]
            nearest[j] = max(nearest[j], level)
            kept[j] &= ~(kept[first_column + x] & ((one << np.uint64(above[level])) - one))


def walk(vectors: Vectors, rows: Rows, probes: Rows) -> tuple[Masks, Levels]:
    """Go greedily through the rows, given in rank order, at up to 63 rising levels at once.

    Returns for every row, (n,), the bits of the probes at which it stays, and its highest level to a row before it.
    """
    kept = np.full(len(rows), (1 << len(probes)) - 1, np.uint64)
    nearest = np.zeros(len(rows), np.uint16)
    above = np.searchsorted(probes, np.arange(LEVELS), "left").astype(np.uint8)  # how many probes a level is above
    for j in range(0, len(rows), _BLOCK):
        here = rows[j : j + _BLOCK]
        for _, columns, levels in _blocks(vectors, here, rows[: j + len(here)]):
            _suppress(levels, j, columns.start, above, kept, nearest)
    return kept, nearest


def nearest_kept(vectors: Vectors, rows: Rows, kept: npt.NDArray[np.bool_]) -> tuple[Rows, Levels]:
    """For each row the position of the nearest kept one, a tie to the earlier, and the level, (n,); -1 if none is."""
    positions = np.flatnonzero(kept)
    best = np.full(len(rows), -1, np.int64)
    highest = np.zeros(len(rows), np.uint16)
    for at, columns, levels in _blocks(vectors, rows, rows[positions]):
        column = levels.argmax(axis=1)
        level = levels[np.arange(len(column)), column]
        better = (best[at] < 0) | (level > highest[at])
        best[at][better] = positions[columns][column[better]]
        highest[at][better] = level[better]
    return best, highest


def nearest_levels(vectors: Vectors) -> Levels:
    """Each row's highest level to another row, (n,), as `gram.nearest_levels` finds it."""
    rows, nearest = np.arange(len(vectors)), np.zeros(len(vectors), np.uint16)
    for at, columns, levels in _blocks(vectors, rows, rows):
        same = np.arange(max(at.start, columns.start), min(at.stop, columns.stop))
        levels[same - at.start, same - columns.start] = 0
        nearest[at] = np.maximum(nearest[at], levels.max(axis=1))
    return nearest


def is_large(faces: int, identities: int) -> bool:
    """Whether a piece is a single identity too large for a matrix of all its pairs."""
    return identities == 1 and faces > WHOLE_ROWS
