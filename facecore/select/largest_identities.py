"""The people with the most pictures: of somebody with one there is little to learn, but a class more to tell apart."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from facecore.embeddings import Shard
from facecore.select.ranks import Floats, draws
from facecore.select.rivals import Seeded, Shares, share_levels
from facecore.select.selector import Counts, Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class LargestIdentities(Seeded):
    """Keep whole identities, those of the most faces first, a draw among equals; the last is cut to the exact count."""

    name: ClassVar[str] = "largest-identities"

    min_per_identity: int = field(default=0, metadata={"help": "Faces that every identity keeps at least."})

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: what an identity's place is depends on its size and number alone."""

        def rank(shard: Shard) -> Ranked:
            sizes = np.diff(shard.starts)
            shares = np.repeat(size_shares(sizes, draws(self.seed, shard.first_identity, shard.identities)), sizes)
            return Ranked((1 - shares).astype(np.float32), share_levels(shares))

        return Ranking(rank)


def size_shares(sizes: Counts, drawn: Floats) -> Shares:
    """Shares of identities, both (identities,), lower for more faces: s of them lie by their draw in 1/(s+1) to 1/s."""
    return (1 + drawn.astype(np.float64) / sizes) / (sizes + 1)
