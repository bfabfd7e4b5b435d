"""Herding: faces whose mean is that of their identity (Welling 2009; iCaRL, Rebuffi et al. 2017, arXiv 1611.07725)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from facecore.compiled import compiled
from facecore.embeddings import Shard, Vectors
from facecore.grid import STEPS, Levels, to_levels
from facecore.select.local import Rows
from facecore.select.ranks import central_cosines
from facecore.select.rivals import Rival, level_of, places, share_levels
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@compiled
def _herd(vectors: Vectors, starts: Rows, central: Levels) -> Rows:
    """The rows of each identity in the order in which herding takes them, (n,); ties go to the earlier row.

    Of unit rows, f brings the mean of k chosen ones, of sum s, nearest to mu if f . (k mu - s) is largest. Cosines are
    whole steps of the grid, computed as they are needed, and O(n) are held.
    """
    order = np.empty(len(vectors), np.int64)
    for run in range(len(starts) - 1):
        begin, left = starts[run], starts[run + 1] - starts[run]
        rows, to_sum = np.arange(begin, begin + left), np.zeros(left, np.int64)
        for k in range(1, left + 1):
            at, highest = 0, np.int64(0)
            for i in range(left):
                match = k * (np.int64(central[rows[i]]) - STEPS) - to_sum[i]
                if i == 0 or match > highest or (match == highest and rows[i] < rows[at]):
                    at, highest = i, match
            row = rows[at]
            order[begin + k - 1] = row
            left -= 1
            rows[at], to_sum[at] = rows[left], to_sum[left]
            for i in range(left):
                to_sum[i] += level_of(vectors, row, rows[i]) - STEPS
    return order


@dataclass(frozen=True)
class Herding(Rival):
    """Inside identities, always take the face that brings the mean of those taken nearest to the identity's own.

    Every identity keeps the same fraction, rounded to whole faces.
    """

    name: ClassVar[str] = "herding"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: an identity is enough."""

        def rank(shard: Shard) -> Ranked:
            order = _herd(shard.vectors, shard.starts, to_levels(central_cosines(shard)))
            shares = places(shard.starts, order)
            return Ranked((1 - shares).astype(np.float32), share_levels(shares))

        return Ranking(rank)
