"""Sparsity without suppression: what the local step of Face-NMS adds to its rank shows beside this."""

from dataclasses import dataclass
from typing import ClassVar

from facecore.embeddings import Shard
from facecore.grid import to_levels
from facecore.select.ranks import central_cosines
from facecore.select.rivals import Rival
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class Sparse(Rival):
    """Keep the faces farthest from their identity: by f . mu, mu the mean of its unit rows, one threshold on it."""

    name: ClassVar[str] = "sparse"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: an identity is enough."""

        def rank(shard: Shard) -> Ranked:
            cosines = central_cosines(shard)
            return Ranked(1 - cosines, to_levels(cosines))

        return Ranking(rank)
