"""Below a cosine faces are no near-duplicates, only too many: chance draws who stays, or identities stay whole."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Shard
from facecore.grid import LEVELS
from facecore.select.cutting import RankedCutter
from facecore.select.largest_identities import LargestIdentities, size_shares
from facecore.select.random_faces import RandomFaces
from facecore.select.random_identities import RandomIdentities
from facecore.select.ranks import draws
from facecore.select.rivals import Shares
from facecore.select.selector import KEPT, Cut, Profile

_LAST_SEED = (1 << 64) - 1


def _by_face(shard: Shard, stays: npt.NDArray[np.bool_], seed: int) -> Shares:
    return draws(seed, shard.first, len(shard))


def _by_identity(shard: Shard, stays: npt.NDArray[np.bool_], seed: int) -> Shares:
    return np.repeat(draws(seed, shard.first_identity, shard.identities), np.diff(shard.starts))


def _by_size(shard: Shard, stays: npt.NDArray[np.bool_], seed: int) -> Shares:
    different = np.add.reduceat(stays, shard.starts[:-1], dtype=np.int64)
    drawn = draws(seed, shard.first_identity, shard.identities)
    return np.repeat(size_shares(np.maximum(different, 1), drawn), np.diff(shard.starts))


# As the methods of these names, but among the faces that stay: the lower a face's share, the longer it does.
SHARES: dict[str, Callable[[Shard, npt.NDArray[np.bool_], int], Shares]] = {
    RandomFaces.name: _by_face,
    RandomIdentities.name: _by_identity,
    LargestIdentities.name: _by_size,
}


@dataclass(frozen=True)
class ThenChance:
    """A cutter that suppresses down to the level `border`; who stays there and at a lower level, too, `then` says.

    A face that stays at the border draws a level below it, and stays at this and all above. As many of an identity as
    its floor stay at all levels: those that drew the lowest.
    """

    suppression: RankedCutter
    border: int
    seed: int
    then: str = RandomFaces.name  # one of SHARES

    def facts(self) -> Mapping[str, Any]:
        """What was found out on the way."""
        return self.suppression.facts()

    @property
    def whole_rows(self) -> int:
        """As of the suppression: what is drawn is exact anyway."""
        return self.suppression.whole_rows

    def profile(self, shard: Shard, lowest: int = 0, highest: int = LEVELS - 1) -> Profile:
        """By how much the number of faces kept changes at every level, see `Cutter`."""
        change = np.zeros(LEVELS, np.int64)
        if highest >= self.border:
            change = self.suppression.profile(shard, max(lowest, self.border), highest)
        if lowest < self.border:
            drawn, _ = self._draw(shard)
            change[: self.border + 1] = np.bincount(drawn, minlength=LEVELS)[: self.border + 1]
        return change

    def cut(self, shard: Shard, level: int, trimmed: npt.NDArray[np.bool_] | None = None) -> Cut:
        """What becomes of every face at one level, see `Cutter`; who is not drawn is trimmed."""
        if level >= self.border:
            return self.suppression.cut(shard, level, trimmed)
        drawn, floors = self._draw(shard)
        stays, sizes = drawn <= level, np.diff(shard.starts)
        gone = ~stays & (drawn < self.border)
        cut = self.suppression.cut(shard, self.border, gone if trimmed is None else gone | trimmed)
        cut.admitted[:] = drawn == level
        cut.spare[:] = np.repeat(np.add.reduceat(stays, shard.starts[:-1], dtype=np.int64) - floors, sizes)
        return cut

    def _draw(self, shard: Shard) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The level from which on each face stays, (n,), LEVELS of those suppressed; the floors, (identities,).

        Draws are others than those of the rank random: where both have one seed, neither tells of the other.
        """
        sizes = np.diff(shard.starts)
        floors = self.suppression.limits.floors(sizes)
        stays = self.suppression.cut(shard, self.border).fates.reason == KEPT
        shares = SHARES[self.then](shard, stays, _LAST_SEED - self.seed).astype(np.float64)
        drawn = np.minimum(shares * self.border, self.border - 1).astype(np.int64)
        drawn[~stays] = LEVELS
        identity = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((drawn, identity))  # stable: a tie goes to the earlier row
        place = np.arange(len(shard)) - shard.starts[identity]
        first = order[place < floors[identity]]
        drawn[first[drawn[first] < LEVELS]] = 0
        return drawn, floors
