"""Every query against every point by torch, which is imported only here, for a graphics processor that is there."""

import numpy as np

from facecore.errors import OptionError
from facecore.search.exact import no_answers
from facecore.search.kernels import Floats, Halves, Numbers, judge

QUERIES, POINTS = 2048, 65536  # multiplied at a time: half a gigabyte of products
SPARE = 16  # points listed beyond those asked for: one may be no answer, and products of torch are rounded


class OnTorch:
    """The exact search on the fastest device there is: CUDA, Metal, else the CPU."""

    def __init__(self, points: Halves) -> None:
        try:
            import torch
        except ImportError:
            raise OptionError("search by torch was asked for, but torch is not installed; install it") from None
        fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self._torch, self._points = torch, points
        self._there = torch.from_numpy(points).to(fastest)

    def search(self, queries: Floats, k: int, but: Numbers) -> tuple[Floats, Numbers]:
        """See `Search`."""
        cosines, numbers = no_answers(len(queries), k)
        for start in range(0, len(queries), QUERIES):
            some = slice(start, start + QUERIES)
            listed = np.sort(self._listed(queries[some], min(k + SPARE, len(self._points))), axis=1)
            judge(queries[some], self._points.view(np.uint16), listed, but[some], cosines[some], numbers[some])
        return cosines, numbers

    def _listed(self, queries: Floats, k: int) -> Numbers:
        """The numbers of the k points nearest to each query by torch's reckoning, (q, k), in no order."""
        torch = self._torch
        asked = torch.from_numpy(queries).to(self._there.device)
        best = torch.empty((len(queries), 0), device=self._there.device)
        numbers = torch.empty((len(queries), 0), dtype=torch.int64, device=self._there.device)
        for first in range(0, len(self._points), POINTS):
            rows = torch.nn.functional.normalize(self._there[first : first + POINTS].float())
            near = (asked @ rows.T).topk(min(k, len(rows)))
            both = torch.cat([best, near.values], 1).topk(min(k, best.shape[1] + near.values.shape[1]))
            best = both.values
            numbers = torch.cat([numbers, near.indices + first], 1).gather(1, both.indices)
        listed: Numbers = numbers.cpu().numpy()
        return listed
