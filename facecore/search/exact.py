"""Every query against every point, in blocks."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from facecore.search.kernels import Floats, Halves, Numbers, scan, widen

BLOCK, QUERIES = 4096, 512  # rows multiplied at a time: the products stay in the cache


class Search(Protocol):
    """A way to search."""

    def search(self, queries: Floats, k: int, but: Numbers) -> tuple[Floats, Numbers]:
        """What `Index.nearest` answers to unit rows (q, d), for 1 <= k <= points; `but` (q,) is -1 for none."""
        ...


def no_answers(queries: int, k: int) -> tuple[Floats, Numbers]:
    """Answers (queries, k) to begin with: every point is nearer."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)


def blocks(points: Halves) -> Iterator[tuple[int, Floats]]:
    """The points as float32 rows of unit length, block by block in the same memory, and the number of the first."""
    rows = np.empty((min(BLOCK, len(points)), points.shape[1]), np.float32)
    for first in range(0, len(points), BLOCK):
        part = points[first : first + BLOCK]
        widen(part.view(np.uint16), rows.view(np.uint32), rows[: len(part)])
        yield first, rows[: len(part)]


class Exact:
    """The search that misses nothing."""

    def __init__(self, points: Halves) -> None:
        self._points = points

    def search(self, queries: Floats, k: int, but: Numbers) -> tuple[Floats, Numbers]:
        """See `Search`."""
        cosines, numbers = no_answers(len(queries), k)
        for first, rows in blocks(self._points):
            for start in range(0, len(queries), QUERIES):
                some = slice(start, start + QUERIES)
                products = queries[some] @ rows.T
                scan(products, queries[some], rows, first, but[some], cosines[some], numbers[some])
        return cosines, numbers

    def of(self, queries: Floats, k: int) -> tuple[Floats, Numbers]:
        """The same, with no point left out."""
        return self.search(queries, k, np.full(len(queries), -1, np.int64))
