"""Farthest-first traversal: the k-center core set (Gonzalez 1985; Sener and Savarese 2018, arXiv 1708.00489)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from facecore.compiled import compiled
from facecore.embeddings import Shard, Vectors
from facecore.grid import Levels, to_cosines, to_levels
from facecore.select.local import Rows
from facecore.select.ranks import central_cosines
from facecore.select.rivals import Rival, level_of
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@compiled
def _farthest_first(vectors: Vectors, starts: Rows, central: Levels) -> Levels:
    """The level of each row to the nearest of its identity taken before it, (n,); 0 for the first, the most central.

    Ties go to the earlier row. Cosines are computed as they are needed, and O(n) are held.
    """
    taken_at = np.empty(len(vectors), np.uint16)
    for run in range(len(starts) - 1):
        begin, left = starts[run], starts[run + 1] - starts[run]
        rows, nearest = np.arange(begin, begin + left), np.zeros(left, np.int64)
        at = int(np.argmax(central[begin : begin + left]))
        while left > 0:
            row = rows[at]
            taken_at[row] = nearest[at]
            left -= 1
            rows[at], nearest[at] = rows[left], nearest[left]
            at = 0
            for i in range(left):
                nearest[i] = max(nearest[i], level_of(vectors, row, rows[i]))
                if nearest[i] < nearest[at] or (nearest[i] == nearest[at] and rows[i] < rows[at]):
                    at = i
    return taken_at


@dataclass(frozen=True)
class KCenter(Rival):
    """Inside identities, take the most central face, then always the one farthest from all that were taken before.

    The cosine of a face to the nearest one taken before it only rises along this order, so one threshold on it holds
    for the whole data set: every face that goes, but for the limits, is at least that near to one that stays.
    """

    name: ClassVar[str] = "kcenter"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: an identity is enough."""

        def rank(shard: Shard) -> Ranked:
            levels = _farthest_first(shard.vectors, shard.starts, to_levels(central_cosines(shard)))
            return Ranked(1 - to_cosines(levels), levels)

        return Ranking(rank)
