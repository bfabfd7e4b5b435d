"""Face-NMS: rank the faces of an identity by sparsity, then suppress near-duplicates (Chen et al. 2021)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Shard, Vectors
from facecore.errors import OptionError
from facecore.select.greedy import add_profile, kept_at, profile_of
from facecore.select.grid import LEVELS, Levels, to_cosines, to_levels
from facecore.select.selector import Cut, Profile

Floats = npt.NDArray[np.float32]


def identity_sparsity(vectors: Vectors) -> Floats:
    """How far each face is from its identity: 1 - f . mu, with mu the mean of the unit rows, not renormalised, (n,).

    Ranks as the mean distance to the other faces does, for sum over j != i of s_ij = n f_i . mu - 1.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    sparsity: Floats = (1 - vectors @ mean).astype(np.float32)
    return sparsity


RANKS: dict[str, Callable[[Vectors], Floats]] = {"identity": identity_sparsity}


@dataclass(frozen=True)
class Nms:
    """Keep a face unless its cosine to a kept face of its identity, ranked before it, is above one threshold."""

    name: ClassVar[str] = "nms"

    rank: str = field(default="identity", metadata={"help": "What makes a face worth keeping: " + ", ".join(RANKS)})
    min_per_identity: int = field(default=1, metadata={"help": "Faces that every identity keeps at least."})

    def __post_init__(self) -> None:
        if self.rank not in RANKS:
            raise OptionError(f"rank is one of {', '.join(RANKS)}; got {self.rank}")
        if self.min_per_identity < 0:
            raise OptionError(f"min_per_identity must be 0 or more, got {self.min_per_identity}")

    def profile(self, shard: Shard) -> Profile:
        """How many faces of the shard stay at every level of the grid, (LEVELS,)."""
        change = np.zeros(LEVELS, np.int64)
        for rows in _identities(shard):
            ranked = self._rank(shard.vectors[rows])
            add_profile(ranked.levels, min(self.min_per_identity, len(ranked.order)), change)
        return profile_of(change)

    def cut(self, shard: Shard, level: int, trimmed: npt.NDArray[np.int64] | None = None) -> Cut:
        """Which faces stay at a level, less the `trimmed` rows, and for each that goes the nearest one kept."""
        cut = Cut.empty(len(shard))
        if trimmed is not None:
            cut.trimmed[trimmed] = True
        for rows in _identities(shard):
            self._cut_identity(self._rank(shard.vectors[rows]), level, cut, rows.start)
        return cut

    def _cut_identity(self, ranked: "_Ranked", level: int, cut: Cut, first: int) -> None:
        rows = first + ranked.order  # (m,), rows of the shard, best first
        floor = min(self.min_per_identity, len(rows))
        kept = _with_floor(kept_at(ranked.levels, level), floor)
        before = kept_at(ranked.levels, level - 1) if level > 0 else np.zeros(len(rows), np.bool_)
        cut.admitted[rows] = kept & ~_with_floor(before, floor)
        cut.spare[rows] = kept.sum() - floor
        kept &= ~cut.trimmed[rows]
        cut.kept[rows] = kept
        cut.sparsity[rows] = ranked.sparsity
        cut.suppression_cosine[rows] = _nearest_before(ranked.levels)
        gone = np.flatnonzero(~kept)
        if len(gone) and kept.any():
            winners = np.flatnonzero(kept)
            nearest = winners[ranked.levels[np.ix_(gone, winners)].argmax(axis=1)]  # a tie goes to the better rank
            cut.rival[rows[gone]] = rows[nearest]
            cut.cosine[rows[gone]] = to_cosines(ranked.levels[gone, nearest])

    def _rank(self, vectors: Vectors) -> "_Ranked":
        sparsity = RANKS[self.rank](vectors)
        order = np.argsort(-to_levels(sparsity - 1).astype(np.int32), kind="stable")  # ties: the earlier face_id
        return _Ranked(order, sparsity[order], to_levels(vectors[order] @ vectors[order].T))


@dataclass(frozen=True)
class _Ranked:
    """The faces of one identity, best first."""

    order: npt.NDArray[np.int64]  # (m,), positions in the identity
    sparsity: Floats  # (m,), falling on the grid
    levels: Levels  # (m, m), cosines on the grid


def _identities(shard: Shard) -> list[slice]:
    return [slice(a, b) for a, b in zip(shard.starts[:-1].tolist(), shard.starts[1:].tolist(), strict=True)]


def _with_floor(kept: npt.NDArray[np.bool_], floor: int) -> npt.NDArray[np.bool_]:
    """The best-ranked dropped faces come back until `floor` are kept."""
    missing = floor - int(kept.sum())
    if missing <= 0:
        return kept
    filled = kept.copy()
    filled[np.flatnonzero(~kept)[:missing]] = True
    return filled


def _nearest_before(levels: Levels) -> Floats:
    """Each face's largest cosine to any face ranked before it, (m,); -1 for the first ("Fast NMS" in detection)."""
    return to_cosines(np.tril(levels, -1).max(axis=1))
