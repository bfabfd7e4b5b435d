"""Chance, over all faces: what every choice has to beat."""

from dataclasses import dataclass
from typing import ClassVar

from facecore.embeddings import Shard
from facecore.select.ranks import draws
from facecore.select.rivals import Seeded, share_levels
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class RandomFaces(Seeded):
    """Draw faces from the whole data set, each with the same chance but for the limits."""

    name: ClassVar[str] = "random"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: what a face draws depends on its row alone."""

        def rank(shard: Shard) -> Ranked:
            drawn = draws(self.seed, shard.first, len(shard))
            return Ranked(1 - drawn, share_levels(drawn))

        return Ranking(rank)
