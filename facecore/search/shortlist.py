"""A shortlist by FAISS: an inverted file of 4-bit codes names the points that may be nearest, then these are judged.

In 512 dimensions the nearest strangers have cosines near 0.3, and the cells of an inverted file tell little: many must
be read. Read as codes of half a byte for four dimensions, 16 and more at a time, they cost little. Measured beside it:
an inverted file of whole vectors is slower than no index at all, a graph takes longer to build than to do without.
"""

import logging
import math
from typing import Any

import faiss
import numpy as np

from facecore.search.exact import Exact, blocks, no_answers
from facecore.search.kernels import Floats, Halves, Numbers, add_rows, judge

log = logging.getLogger(__name__)

FEWEST = 1_000  # points; with fewer there is nothing to gain, nor enough to learn codes from
MOST_CODES, LONGEST = 128, 8  # half-bytes a point, and dimensions that one of them may stand for
SAMPLED, ROUNDS = 32, 3  # points a cell for k-means, and its rounds: cells tell too little to deserve more
PROBED, LISTED = 40, 128  # cells read for a query, and points that are then judged
TOGETHER = 1024  # queries that share the reading of cells; the lists of more would leave the cache


def allows_shortlist(points: Halves) -> bool:
    """Whether there are enough points, of a dimension that codes can divide; says so if not."""
    n, dimension = points.shape
    if n >= FEWEST and _codes(dimension):
        return True
    log.info("exact search: %d points of %d dimensions allow no shortlist", n, dimension)
    return False


def _codes(dimension: int) -> int:
    """Of how many half-bytes the code of a point consists; 0 if the dimension has no suitable divisor."""
    codes = max(m for m in range(1, MOST_CODES + 1) if dimension % m == 0)
    return codes if dimension <= LONGEST * codes else 0


class Shortlist:
    """The search for many points: nearly all that is nearest, with exact cosines."""

    def __init__(self, points: Halves, seed: int) -> None:
        n, dimension = points.shape
        cells = 2 ** round(math.log2(1.5 * math.sqrt(n)))  # 256 for 50,000 points, 2,048 for 2 million
        drawn = np.random.default_rng(seed).choice(n, min(n, SAMPLED * cells), replace=False)
        sample = points[drawn]
        centres = _k_means(sample, cells)
        self._points, self._cells = points, Exact(centres)
        self._quantizer = faiss.IndexFlatIP(dimension)
        self._quantizer.add(centres.astype(np.float32))
        self._codes = self._coded(next(blocks(sample))[1])
        self._codes.nprobe = self._probed = min(PROBED, cells)
        self._codes.implem = 13  # left alone, FAISS chooses by the number of queries; this is the way for many

    def _coded(self, sample: Floats) -> Any:
        """The codes of all points, learnt from a sample, in the form that is read fast."""
        faiss.omp_set_num_threads(1)  # of the calling thread, as below
        cells, dimension = self._quantizer.ntotal, self._quantizer.d
        plain: Any = faiss.IndexIVFPQ(
            self._quantizer, dimension, cells, _codes(dimension), 4, faiss.METRIC_INNER_PRODUCT
        )
        plain.by_residual = False
        plain.train(sample)
        for _, rows in blocks(self._points):
            whose = self._cells.of(rows, 1)[1]
            plain.add_core(len(rows), faiss.swig_ptr(rows), None, faiss.swig_ptr(whose))
        fast = faiss.IndexIVFPQFastScan(plain)
        plain.replace_invlists(None)  # `fast` keeps `plain` alive, but has codes of its own
        return fast

    def search(self, queries: Floats, k: int, but: Numbers) -> tuple[Floats, Numbers]:
        """See `Search`."""
        faiss.omp_set_num_threads(1)
        cosines, numbers = no_answers(len(queries), k)
        listed = max(LISTED, 4 * k)
        for start in range(0, len(queries), TOGETHER):
            some = slice(start, start + TOGETHER)
            nearness, cells = self._cells.of(queries[some], self._probed)
            _, found = self._codes.search_preassigned(queries[some], listed, cells, nearness)
            found.sort(axis=1)
            judge(queries[some], self._points.view(np.uint16), found, but[some], cosines[some], numbers[some])
        few = np.flatnonzero(numbers[:, -1] < 0)  # where the cells hold fewer than k points
        if len(few):
            cosines[few], numbers[few] = Exact(self._points).search(queries[few], k, but[few])
        return cosines, numbers


def _k_means(points: Halves, cells: int) -> Halves:
    """Centres of cells, unit rows (cells, d), the first points to begin with; an empty cell keeps its centre."""
    centres = points[:cells].copy()
    for _ in range(ROUNDS):
        nearest = Exact(centres)
        sums = np.zeros(centres.shape, np.float32)
        for _, rows in blocks(points):
            add_rows(rows, nearest.of(rows, 1)[1][:, 0], sums)
        length = np.linalg.norm(sums, axis=1)
        filled = length > 0
        centres[filled] = sums[filled] / length[filled, None]
    return centres
