"""Chance, over identities: a smaller data set of the same kind, as the official WebFace subsets are."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from facecore.embeddings import Shard
from facecore.select.ranks import draws
from facecore.select.rivals import Seeded, share_levels
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class RandomIdentities(Seeded):
    """Draw whole identities; the one drawn last is cut to the exact count."""

    name: ClassVar[str] = "random-identities"

    min_per_identity: int = field(default=0, metadata={"help": "Faces that every identity keeps at least."})

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: what an identity draws depends on its number alone."""

        def rank(shard: Shard) -> Ranked:
            drawn = np.repeat(draws(self.seed, shard.first_identity, shard.identities), np.diff(shard.starts))
            return Ranked(1 - drawn, share_levels(drawn))

        return Ranking(rank)
