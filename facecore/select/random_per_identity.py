"""Chance, inside every identity: the fair way to thin out a data set blindly."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from facecore.embeddings import Shard
from facecore.select.ranks import draws
from facecore.select.rivals import Seeded, places, share_levels
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class RandomPerIdentity(Seeded):
    """Draw the same fraction of every identity, rounded to whole faces."""

    name: ClassVar[str] = "random-per-identity"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: what a face draws depends on its row alone."""

        def rank(shard: Shard) -> Ranked:
            drawn = draws(self.seed, shard.first, len(shard))
            whose = np.repeat(np.arange(shard.identities), np.diff(shard.starts))
            order = np.lexsort((drawn, whose))  # stable: a tie goes to the earlier row
            return Ranked(1 - drawn, share_levels(places(shard.starts, order)))

        return Ranking(rank)
