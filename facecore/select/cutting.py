"""The cutter that selectors share: faces ranked inside identities, a rule for who stays at a level, and limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.centres import own_cosines
from facecore.embeddings import Shard
from facecore.grid import LEVELS, to_levels
from facecore.select.greedy import add_ordered_profile
from facecore.select.large import WHOLE_ROWS, is_large, nearest_kept, stay, suppressed_by, walk
from facecore.select.local import (
    BY_VALUE,
    GREEDY,
    Floats,
    Rows,
    admit,
    cut_piece,
    give_reasons,
    profile_pairs,
    profile_values,
    rank_rows,
)
from facecore.select.selector import Cut, Limits, Profile, Ranked, probes


@dataclass(frozen=True)
class RankedCutter:
    """Cuts by the rule GREEDY or NESTED, in the order of the sparsity that `rank` gives, or BY_VALUE."""

    rule: int
    rank: Callable[[Shard], Ranked]
    limits: Limits
    facts: Callable[[], Mapping[str, Any]] = dict
    _remembered: dict[tuple[int, int], tuple[Ranked, npt.NDArray[np.int32], Rows]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def border(self) -> int:
        """None: every level is a cosine, or a rival's own value."""
        return 0

    @property
    def whole_rows(self) -> int:
        """Exact greedy counts at every level need all pairs in order; what has a level of its own does not."""
        return WHOLE_ROWS if self.rule == GREEDY else np.iinfo(np.int64).max

    def profile(self, shard: Shard, lowest: int = 0, highest: int = LEVELS - 1) -> Profile:
        """By how much the number of faces kept changes at every level, see `Cutter`."""
        ranked, order, able = self._ranked(shard)
        floors, most = self._floors(shard), self._most(len(shard))
        change = np.zeros(LEVELS, np.int64)
        if self.rule == BY_VALUE:
            profile_values(ranked.values, shard.starts, order, able, floors, most, change)
        elif is_large(len(shard), shard.identities):
            m = int(able[0])
            self._profile_large(shard.vectors, order[:m], probes(lowest, highest), int(floors[0]), most, change)
        else:
            profile_pairs(shard.vectors, shard.starts, order, able, floors, most, self.rule, lowest, highest, change)
        return change

    def _profile_large(
        self, vectors: Floats, rows: Rows, at: Rows, least: int, most: int, change: npt.NDArray[np.int64]
    ) -> None:
        if self.rule == GREEDY:
            kept, _ = walk(vectors, rows, at)
            counts = np.array([stay(kept, bit).sum() for bit in range(len(at))]).clip(least, most)
            change[at[0]] += counts[0]
            change[at[1:]] += np.diff(counts)
        else:
            _, nearest = walk(vectors, rows, at[:0])
            add_ordered_profile(nearest, least, most, change)

    def cut(self, shard: Shard, level: int, trimmed: npt.NDArray[np.bool_] | None = None) -> Cut:
        """What becomes of every face at one level, see `Cutter`."""
        ranked, order, able = self._ranked(shard)
        cut = Cut.empty(len(shard))
        cut.fates.sparsity[:] = ranked.sparsity
        gone = np.zeros(len(shard), np.bool_) if trimmed is None else trimmed
        if is_large(len(shard), shard.identities):
            self._cut_large(shard, ranked, order, int(able[0]), level, gone, cut)
        else:
            cut_piece(
                shard.vectors, shard.starts, order, able, ranked.values, level,
                self._floors(shard), self._most(len(shard)), self.rule, gone,
                cut.fates.reason, cut.fates.suppression, cut.fates.rival, cut.fates.rival_level,
                cut.admitted, cut.spare,
            )  # fmt: skip
        return cut

    def _cut_large(
        self, shard: Shard, ranked: Ranked, rows: Rows, able: int, level: int,
        trimmed: npt.NDArray[np.bool_], cut: Cut,
    ) -> None:  # fmt: skip
        """As `local.cut_piece` does, in blocks."""
        at = np.array([level - 1, level] if self.rule == GREEDY else [], np.int64)
        masks, nearest = walk(shard.vectors, rows, at)
        value = ranked.values[rows] if self.rule == BY_VALUE else nearest
        before, kept = (stay(masks, bit) if self.rule == GREEDY else value <= level - 1 + bit for bit in (0, 1))
        before &= level > 0
        kept[able:], before[able:] = False, False
        over = np.zeros(len(rows), np.bool_)
        least, most = int(self._floors(shard)[0]), min(self._most(len(rows)), able)
        admit(rows, able, least, most, trimmed, kept, before, over, cut.admitted, cut.spare)
        vectors = shard.vectors
        winner, highest = nearest_kept(vectors, rows, kept)
        fates = cut.fates
        fates.suppression[rows] = nearest
        give_reasons(
            rows, able, level, self.rule, trimmed, kept, over, suppressed_by(vectors, rows, trimmed[rows], level),
            winner, highest,
            fates.reason, fates.rival, fates.rival_level,
        )  # fmt: skip

    def _ranked(self, shard: Shard) -> tuple[Ranked, Rows, Rows]:
        """The faces ranked, `_order` of them, and how many may stay: the second pass remembers, 8 bytes a face."""
        at = shard.first, len(shard)
        if at not in self._remembered:
            ranked = self.rank(shard)
            order, able = self._order(shard, ranked)
            self._remembered[at] = ranked, order.astype(np.int32), able
        ranked, narrow, able = self._remembered[at]
        return ranked, narrow.astype(np.int64), able

    def _order(self, shard: Shard, ranked: Ranked) -> tuple[Rows, Rows]:
        """The rows of each identity, best first, those far from its centre last; how many are not, (identities,)."""
        sizes = np.diff(shard.starts)
        far = np.zeros(len(shard), np.bool_)
        if self.limits.min_centre_cosine is not None:
            far = _far(shard, self.limits.min_centre_cosine, self._floors(shard))
        if is_large(len(shard), shard.identities):
            order = np.lexsort((-ranked.sparsity, far))
        else:
            order = rank_rows(ranked.sparsity, shard.starts, far)
        return order, sizes - np.add.reduceat(far, shard.starts[:-1], dtype=np.int64)

    def _floors(self, shard: Shard) -> Rows:
        """How many faces each identity keeps at least, (identities,): no more than may stay."""
        return self.limits.floors(np.diff(shard.starts))

    def _most(self, faces: int) -> int:
        return faces if self.limits.max_per_identity is None else self.limits.max_per_identity


def _far(shard: Shard, min_cosine: float, floors: Rows) -> npt.NDArray[np.bool_]:
    """The faces too far from the others' centre, (n,); of each identity as many of the nearest as its floor are not."""
    _, to_others = own_cosines(shard.vectors, shard.starts)
    levels = to_levels(to_others)
    far = levels < int(to_levels(np.array(min_cosine)))
    order = rank_rows(levels.astype(np.float32), shard.starts, np.zeros(len(shard), np.bool_))
    sizes = np.diff(shard.starts)
    place = np.arange(len(shard)) - np.repeat(shard.starts[:-1], sizes)
    far[order[place < np.repeat(floors, sizes)]] = False
    return far
