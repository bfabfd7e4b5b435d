"""Cosines between all faces of one identity, on the grid, as a packed triangle.

The cosine of faces j > i stands at j (j - 1) / 2 + i. Tiles of 4 x 4 cosines are summed in registers; measured, that is
3 times as fast as a matrix product for the 20 faces that an identity has in the mean.
"""

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled, compiled_sums
from facecore.embeddings import Vectors
from facecore.grid import LEVELS, STEPS, Levels

Rows = npt.NDArray[np.int64]

_SCALE, _HALF_UP, _TOP = np.float32(STEPS), np.float32(STEPS + 0.5), np.int32(LEVELS - 1)


@compiled_sums
def _tile(
    vectors: Vectors,
    a0: int, a1: int, a2: int, a3: int,
    b0: int, b1: int, b2: int, b3: int,
    tile: npt.NDArray[np.float32],
) -> None:  # fmt: skip
    """The 16 cosines of four rows a to four rows b. Written out: each sum must live in a register of its own."""
    zero = np.float32(0)
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = zero
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = zero
    for k in range(vectors.shape[1]):
        x0, x1, x2, x3 = vectors[a0, k], vectors[a1, k], vectors[a2, k], vectors[a3, k]
        y0, y1, y2, y3 = vectors[b0, k], vectors[b1, k], vectors[b2, k], vectors[b3, k]
        s00 += x0 * y0
        s01 += x0 * y1
        s02 += x0 * y2
        s03 += x0 * y3
        s10 += x1 * y0
        s11 += x1 * y1
        s12 += x1 * y2
        s13 += x1 * y3
        s20 += x2 * y0
        s21 += x2 * y1
        s22 += x2 * y2
        s23 += x2 * y3
        s30 += x3 * y0
        s31 += x3 * y1
        s32 += x3 * y2
        s33 += x3 * y3
    tile[0], tile[1], tile[2], tile[3] = s00, s01, s02, s03
    tile[4], tile[5], tile[6], tile[7] = s10, s11, s12, s13
    tile[8], tile[9], tile[10], tile[11] = s20, s21, s22, s23
    tile[12], tile[13], tile[14], tile[15] = s30, s31, s32, s33


@compiled_sums
def _strip(
    vectors: Vectors, a: int, b0: int, b1: int, b2: int, b3: int, tile: npt.NDArray[np.float32]
) -> None:  # fmt: skip
    """The 4 cosines of row a to four rows b."""
    s0 = s1 = s2 = s3 = np.float32(0)
    for k in range(vectors.shape[1]):
        x = vectors[a, k]
        s0 += x * vectors[b0, k]
        s1 += x * vectors[b1, k]
        s2 += x * vectors[b2, k]
        s3 += x * vectors[b3, k]
    tile[0], tile[1], tile[2], tile[3] = s0, s1, s2, s3


@compiled_sums
def _corner(vectors: Vectors, r0: int, r1: int, r2: int, r3: int, tile: npt.NDArray[np.float32]) -> None:
    """The 6 cosines among four rows, each where the tile of the four to themselves has it."""
    s10 = s20 = s21 = s30 = s31 = s32 = np.float32(0)
    for k in range(vectors.shape[1]):
        x0, x1, x2, x3 = vectors[r0, k], vectors[r1, k], vectors[r2, k], vectors[r3, k]
        s10 += x1 * x0
        s20 += x2 * x0
        s21 += x2 * x1
        s30 += x3 * x0
        s31 += x3 * x1
        s32 += x3 * x2
    tile[4], tile[8], tile[9], tile[12], tile[13], tile[14] = s10, s20, s21, s30, s31, s32


@compiled
def gram_levels(vectors: Vectors, rows: Rows, cosines: npt.NDArray[np.float32], levels: Levels) -> None:
    """Write the levels of all pairs of the given rows, in the order given; `cosines` is memory to work in."""
    n, last = len(rows), len(rows) - 1
    whole = n - n % 4
    tile = np.empty(16, np.float32)
    for j in range(0, whole, 4):
        for i in range(0, j + 4, 4):
            if i < j:
                _tile(
                    vectors, rows[j], rows[j + 1], rows[j + 2], rows[j + 3],
                    rows[i], rows[i + 1], rows[i + 2], rows[i + 3], tile,
                )  # fmt: skip
            else:
                _corner(vectors, rows[j], rows[j + 1], rows[j + 2], rows[j + 3], tile)
            for y in range(4):
                at = (j + y) * (j + y - 1) // 2 + i
                for x in range(min(4, j + y - i)):
                    cosines[at + x] = tile[4 * y + x]
    for j in range(whole, n):
        at = j * (j - 1) // 2
        for i in range(0, j, 4):
            _strip(
                vectors, rows[j], rows[i], rows[min(i + 1, last)], rows[min(i + 2, last)], rows[min(i + 3, last)], tile
            )
            for x in range(min(4, j - i)):
                cosines[at + i + x] = tile[x]
    for pair in range(n * (n - 1) // 2):  # as grid.to_levels does
        level = np.int32(cosines[pair] * _SCALE + _HALF_UP)
        levels[pair] = np.uint16(min(max(level, np.int32(0)), _TOP))


@compiled
def nearest_levels(vectors: Vectors, starts: Rows) -> Levels:
    """Each face's highest level to another face of its identity, (n,); 0 for a face alone."""
    nearest = np.zeros(len(vectors), np.uint16)
    for run in range(len(starts) - 1):
        rows = np.arange(starts[run], starts[run + 1])
        pairs = len(rows) * (len(rows) - 1) // 2
        levels = np.empty(pairs, np.uint16)
        gram_levels(vectors, rows, np.empty(pairs, np.float32), levels)
        at = 0
        for j in range(len(rows)):
            for i in range(j):
                nearest[rows[j]] = max(nearest[rows[j]], levels[at])
                nearest[rows[i]] = max(nearest[rows[i]], levels[at])
                at += 1
    return nearest
