"""Compiled loops of the search: which of the proposed points are nearest."""

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled, compiled_sums

Halves = npt.NDArray[np.float16]
Bits = npt.NDArray[np.uint16]  # halves as numbers: the compiler knows no halves
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

REBIAS = np.float32(2.0**112)
SLACK = np.float32(1e-5)  # more than a product of unit rows by BLAS is ever off (measured: 6e-7)


@compiled
def _move(halves: Bits, bits: npt.NDArray[np.uint32]) -> None:
    """A point as the bits of floats that are 2^112 times too small; see facecore.compiled."""
    for k in range(len(bits)):
        half = np.uint32(halves[k])
        bits[k] = ((half & np.uint32(0x8000)) << np.uint32(16)) | ((half & np.uint32(0x7FFF)) << np.uint32(13))


@compiled_sums
def widen(halves: Bits, bits: npt.NDArray[np.uint32], rows: Floats) -> None:
    """Points (n, d) as floats of unit length; `bits` are the memory of `rows`, and zeros remain zeros."""
    for i in range(len(rows)):
        _move(halves[i], bits[i])
        square = np.float32(0)
        for k in range(rows.shape[1]):
            rows[i, k] *= REBIAS
            square += rows[i, k] * rows[i, k]
        inverse = np.float32(1) / np.sqrt(square) if square > 0 else np.float32(0)
        for k in range(rows.shape[1]):
            rows[i, k] *= inverse


@compiled_sums
def _cosine(a: Floats, b: Floats) -> np.float32:
    total = np.float32(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@compiled
def _insert(cosine: np.float32, number: int, cosines: Floats, numbers: Numbers) -> None:
    """Put an answer in its place among those so far; of equal cosines the earlier stays before."""
    place = len(cosines) - 1
    while place > 0 and cosines[place - 1] < cosine:
        cosines[place], numbers[place] = cosines[place - 1], numbers[place - 1]
        place -= 1
    cosines[place], numbers[place] = cosine, number


@compiled
def scan(
    products: Floats, queries: Floats, rows: Floats, first: int, but: Numbers, cosines: Floats, numbers: Numbers
) -> None:
    """Take the rows, points from `first` on, into the answers (q, k) where their products (q, rows) say they may be."""
    for q in range(len(queries)):
        last = cosines[q, -1]
        for j in range(len(rows)):
            if products[q, j] > last - SLACK and first + j != but[q]:
                cosine = _cosine(queries[q], rows[j])
                if cosine > last:
                    _insert(cosine, first + j, cosines[q], numbers[q])
                    last = cosines[q, -1]


@compiled_sums
def _cosine_to(query: Floats, halves: Bits, bits: npt.NDArray[np.uint32], row: Floats) -> np.float32:
    """The cosine of a query to a point, which is moved to `bits`, the memory of `row`; 0 if the point is zero."""
    _move(halves, bits)
    product, square = np.float32(0), np.float32(0)
    for k in range(len(row)):
        value = row[k] * REBIAS
        product += query[k] * value
        square += value * value
    return product / np.sqrt(square) if square > 0 else np.float32(0)


@compiled
def judge(queries: Floats, points: Bits, listed: Numbers, but: Numbers, cosines: Floats, numbers: Numbers) -> None:
    """Take the points that are listed (q, m), rising, -1 for none, into the answers (q, k)."""
    bits = np.empty(points.shape[1], np.uint32)
    row = bits.view(np.float32)
    for q in range(len(queries)):
        for number in listed[q]:
            if number >= 0 and number != but[q]:
                cosine = _cosine_to(queries[q], points[number], bits, row)
                if cosine > cosines[q, -1]:
                    _insert(cosine, number, cosines[q], numbers[q])


@compiled
def add_rows(rows: Floats, whose: Numbers, sums: Floats) -> None:
    """Add each row (n, d) to the sum (cells, d) of its cell (n,)."""
    for i in range(len(rows)):
        for k in range(rows.shape[1]):
            sums[whose[i], k] += rows[i, k]
