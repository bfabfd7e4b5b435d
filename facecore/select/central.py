"""Prototypes: what a clean but narrow choice looks like."""

from dataclasses import dataclass
from typing import ClassVar

from facecore.embeddings import Shard
from facecore.grid import to_levels
from facecore.select.ranks import central_cosines
from facecore.select.rivals import Rival
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class Central(Rival):
    """Keep the faces nearest to their identity: by f . mu, mu the mean of its unit rows, one threshold on it."""

    name: ClassVar[str] = "central"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: an identity is enough. The threshold is on -f . mu, as lower levels stay."""

        def rank(shard: Shard) -> Ranked:
            cosines = central_cosines(shard)
            return Ranked(cosines, to_levels(-cosines))

        return Ranking(rank)
