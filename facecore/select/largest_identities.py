"""The people with the most pictures: of somebody with one there is little to learn, but a class more to tell apart."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from facecore.embeddings import Shard
from facecore.select.ranks import draws
from facecore.select.rivals import Seeded, share_levels
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class LargestIdentities(Seeded):
    """Keep whole identities, those of the most faces first, a draw among equals; the last is cut to the exact count."""

    name: ClassVar[str] = "largest-identities"

    min_per_identity: int = field(default=0, metadata={"help": "Faces that every identity keeps at least."})

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: identities of s faces share the numbers from 1 / (s + 1) to 1 / s, by their draws."""

        def rank(shard: Shard) -> Ranked:
            sizes = np.diff(shard.starts)
            drawn = draws(self.seed, shard.first_identity, shard.identities).astype(np.float64)
            shares = np.repeat((1 + drawn / sizes) / (sizes + 1), sizes)
            return Ranked((1 - shares).astype(np.float32), share_levels(shares))

        return Ranking(rank)
