"""What makes a face worth keeping: the ranks of Face-NMS (Chen et al. 2021 leave the formula open)."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.centres import cosines_to, own_cosines, unit_means
from facecore.compiled import mean_of
from facecore.embeddings import Buffers, Piece, Shard
from facecore.grid import on_grid, to_cosines
from facecore.search import Index
from facecore.select import large
from facecore.select.gram import nearest_levels
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey

Floats = npt.NDArray[np.float32]

_SEARCHED_ROWS = 1 << 15  # faces of the identities that are searched for at a time, which costs less than one by one


@dataclass(frozen=True)
class RankOptions:
    """What the ranks depend on besides the faces."""

    neighbours: int = 10
    search: str = "auto"
    seed: int = 0


Sparsity = Callable[[Shard], Floats]  # of the faces of a shard, (n,): larger is kept sooner


def _by(sparsity: Sparsity, facts: Callable[[], Mapping[str, Any]] = dict) -> Ranking:
    return Ranking(lambda shard: Ranked(sparsity(shard)), facts)


def identity(survey: Survey, options: RankOptions) -> Ranking:
    """How far a face is from its identity: 1 - f . mu, with mu the mean of the unit rows, not renormalised.

    Ranks as the mean distance to the other faces does, for sum over j != i of s_ij = n f_i . mu - 1.
    """
    return _by(lambda shard: 1 - central_cosines(shard))


def central(survey: Survey, options: RankOptions) -> Ranking:
    """How near a face is to its identity, f . mu: prototypes first, and wrong labels last."""
    return _by(central_cosines)


def twin(survey: Survey, options: RankOptions) -> Ranking:
    """How near the nearest other face of the identity is: faces with a near-duplicate are decided on first.

    Ours. Suppression drops both faces of a pair where a third lies near both and goes before them; here few do. The
    guarantees of suppression hold for any order.
    """

    def sparsity(shard: Shard) -> Floats:
        if large.is_large(len(shard), shard.identities):
            return to_cosines(large.nearest_levels(shard.vectors))
        return to_cosines(nearest_levels(shard.vectors, shard.starts))

    return _by(sparsity)


def random(survey: Survey, options: RankOptions) -> Ranking:
    """A seeded draw from [0, 1)."""
    return _by(lambda shard: draws(options.seed, shard.first, len(shard)))


def dataset(survey: Survey, options: RankOptions) -> Ranking:
    """How empty the surroundings are: 1 - the mean cosine to the nearest centres of other identities.

    A search for every face.
    """
    index = _Index(_centres(survey), options)

    def sparsity(shard: Shard) -> Floats:
        own = np.repeat(np.arange(shard.identities) + shard.first_identity, np.diff(shard.starts))
        cosines, _ = index.built.nearest(shard.vectors, options.neighbours, but=own)
        return 1 - on_grid(cosines.sum(axis=1) / max(cosines.shape[1], 1))

    return _by(sparsity, index.facts)


def confusable(survey: Survey, options: RankOptions) -> Ranking:
    """As `dataset`, but against the centres nearest to the face's own identity: one search for all its faces.

    Not an approximation of `dataset`, but a score of its own: how far a face is from those it is confused with.
    """
    centres = _centres(survey)
    index = _Index(centres, options)

    def neighbours(piece: Piece) -> npt.NDArray[np.int64]:
        own = np.arange(len(piece.starts) - 1) + piece.first_identity
        return index.built.nearest(centres[own], options.neighbours, but=own)[1]

    width = min(options.neighbours, len(centres) - 1)
    near = survey.of_identities("neighbours", neighbours, width=width, dtype=np.int32, rows=_SEARCHED_ROWS)

    def sparsity(shard: Shard) -> Floats:
        if not width:
            return np.ones(len(shard), np.float32)
        means = mean_of(centres, near[shard.first_identity : shard.first_identity + shard.identities])
        return 1 - on_grid(cosines_to(shard.vectors, shard.starts, means))

    return _by(sparsity, index.facts)


def _centres(survey: Survey) -> npt.NDArray[np.float16]:
    """As `identity_centres` has them."""
    store, buffers = survey.store, Buffers()

    def centres(piece: Piece) -> npt.NDArray[np.float16]:
        return unit_means(store.read(piece, buffers))

    return survey.of_identities("centres", centres, width=store.dimension, dtype=np.float16)


class _Index:
    """An index over centres that is built when it is first asked: what was found by it before may be on file."""

    def __init__(self, centres: npt.NDArray[np.float16], options: RankOptions) -> None:
        self._centres, self._options, self._lock = centres, options, threading.Lock()
        self._index: Index | None = None

    @property
    def built(self) -> Index:
        with self._lock:
            if self._index is None:
                self._index = Index.over(self._centres, how=self._options.search, seed=self._options.seed)
            return self._index

    def facts(self) -> dict[str, Any]:
        """How it searches, and how well."""
        return {"search": {"how": self.built.how, "recall": round(self.built.recall, 4)}}


def central_cosines(shard: Shard) -> Floats:
    """F . mu of every face, (n,), on the grid."""
    return on_grid(own_cosines(shard.vectors, shard.starts)[0])


def draws(seed: int, first: int, n: int) -> Floats:
    """Uniform draws from [0, 1) for the numbers first to first + n - 1, each a function of (seed, number) alone.

    SplitMix64 (Steele, Lea and Flood 2014), so that a face draws the same whatever the shards.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64
        mixed = (np.arange(first, first + n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed += np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(40)) * 2.0**-24).astype(np.float32)


RANKS: dict[str, Callable[[Survey, RankOptions], Ranking]] = {
    "identity": identity,
    "dataset": dataset,
    "confusable": confusable,
    "central": central,
    "twin": twin,
    "random": random,
}
