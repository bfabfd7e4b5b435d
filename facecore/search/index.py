"""Which way to search, and what every way promises.

What is found depends on the points and the query alone: on no other query, and not on the number of threads. Products
by BLAS, which sums in an order of its own for every shape, only propose; one compiled loop states every cosine.
"""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.errors import OptionError, check_seed
from facecore.search.exact import Exact, Search
from facecore.search.kernels import Floats, Halves, Numbers
from facecore.search.on_torch import OnTorch
from facecore.search.shortlist import Shortlist, allows_shortlist

log = logging.getLogger(__name__)

HOW = ("auto", "exact", "shortlist", "torch")
EXACT_POINTS = 50_000  # to here the nearest of all points take less than a minute of one core
JUDGED, OF_NEAREST = 256, 10  # points whose nearest tell how many a shortlist finds


def check_search(how: str, seed: int) -> None:
    """Raise OptionError unless `how` is one of HOW and `seed` is one: to know it before any work."""
    if how not in HOW:
        raise OptionError(f"search must be one of {', '.join(HOW)}; got {how}")
    check_seed(seed)


class Index:
    """Points to be searched by cosine.

    A search runs on the calling thread, apart from BLAS; any number of threads may search at once.
    """

    def __init__(self, how: str, size: int, search: Search, recall: float) -> None:
        self.how = how  # exact, shortlist or torch
        self.recall = recall  # the fraction of a point's ten nearest that is found, measured on a sample; 1 if exact
        self._size, self._search = size, search

    @classmethod
    def over(cls, points: npt.NDArray[Any], *, how: str = "auto", seed: int = 0) -> "Index":
        """Index points (n, d), unit rows: float16 is used where it lies, float32 is rounded to it, as a store does.

        `auto` is exact up to 50,000 points and a shortlist beyond; where the dimension or the number of points allows
        no shortlist, it is exact, too. A row of zeros has the cosine 0 to all. Raises OptionError as `check_search`
        does, or if torch is asked for and not there.
        """
        check_search(how, seed)
        halves: Halves = np.ascontiguousarray(points, np.float16)
        if how == "torch":
            return cls("torch", len(halves), OnTorch(halves), 1.0)
        exact = Exact(halves)
        if how == "exact" or (how == "auto" and len(halves) <= EXACT_POINTS) or not allows_shortlist(halves):
            return cls("exact", len(halves), exact, 1.0)
        shortlist = Shortlist(halves, seed)
        recall = _recall(halves, exact, shortlist, seed)
        log.info("search by shortlist: %.3f of the %d nearest are found", recall, OF_NEAREST)
        return cls("shortlist", len(halves), shortlist, recall)

    def nearest(self, queries: npt.NDArray[Any], k: int, *, but: Numbers | None = None) -> tuple[Floats, Numbers]:
        """The cosines, falling, and the numbers of the k points nearest to each query (q, d): both (q, k).

        `but` (q,) is a point that is no answer, -1 for none. Of equal cosines the lower number comes first. There are
        fewer answers than k where there are fewer points. Queries need not have unit length. Ask many at a time.
        """
        rows = np.array(queries, np.float32, order="C")
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
        k = max(0, min(k, self._size - (but is not None)))
        if not k or not len(rows):
            return np.empty((len(rows), k), np.float32), np.empty((len(rows), k), np.int64)
        none = np.full(len(rows), -1, np.int64)
        return self._search.search(rows, k, none if but is None else np.ascontiguousarray(but, np.int64))


def _recall(points: Halves, exact: Exact, shortlist: Shortlist, seed: int) -> float:
    """The fraction of what is exactly nearest to a sample of the points that a shortlist finds, or as near."""
    own = np.random.default_rng(seed).choice(len(points), JUDGED, replace=False)
    queries = points[own].astype(np.float32)
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.float32(1e-12))
    wanted = exact.search(queries, OF_NEAREST, own)[0]
    found = shortlist.search(queries, OF_NEAREST, own)[0]
    return float(np.mean(found >= wanted[:, -1:] - np.float32(1e-6)))  # the loops of both may round differently
