"""What makes a face worth keeping: the ranks of Face-NMS (Chen et al. 2021 leave the formula open)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.centres import cosines_to, identity_centres, own_cosines
from facecore.compiled import mean_of
from facecore.embeddings import Buffers, Embeddings, Piece, Shard
from facecore.grid import to_cosines, to_levels
from facecore.parallel import in_order
from facecore.progress import progress
from facecore.search import Index
from facecore.select import large
from facecore.select.gram import nearest_levels

Floats = npt.NDArray[np.float32]

_BLOCK = 4096  # identities searched for at a time


@dataclass(frozen=True)
class RankOptions:
    """What the ranks depend on besides the faces."""

    neighbours: int = 10
    search: str = "auto"
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Rank:
    """A rank that knows its store."""

    sparsity: Callable[[Shard], Floats]  # of the faces of a shard, (n,): larger is kept sooner
    facts: Mapping[str, Any] = field(default_factory=dict)


def on_grid(cosines: npt.NDArray[np.floating[Any]]) -> Floats:
    """The nearest cosines of the grid, so that the same faces tie on every machine."""
    return to_cosines(to_levels(cosines))


def identity(store: Embeddings, options: RankOptions) -> Rank:
    """How far a face is from its identity: 1 - f . mu, with mu the mean of the unit rows, not renormalised.

    Ranks as the mean distance to the other faces does, for sum over j != i of s_ij = n f_i . mu - 1.
    """
    return Rank(lambda shard: 1 - central_cosines(shard))


def central(store: Embeddings, options: RankOptions) -> Rank:
    """How near a face is to its identity, f . mu: prototypes first, and wrong labels last."""
    return Rank(central_cosines)


def twin(store: Embeddings, options: RankOptions) -> Rank:
    """How near the nearest other face of the identity is: faces with a near-duplicate are decided on first.

    Ours. Suppression drops both faces of a pair where a third lies near both and goes before them; here few do. The
    guarantees of suppression hold for any order.
    """

    def sparsity(shard: Shard) -> Floats:
        if large.is_large(len(shard), shard.identities):
            return to_cosines(large.nearest_levels(shard.vectors))
        return to_cosines(nearest_levels(shard.vectors, shard.starts))

    return Rank(sparsity)


def random(store: Embeddings, options: RankOptions) -> Rank:
    """A seeded draw from [0, 1)."""
    return Rank(lambda shard: draws(options.seed, shard.first, len(shard)))


def dataset(store: Embeddings, options: RankOptions) -> Rank:
    """How empty the surroundings are: 1 - the mean cosine to the nearest centres of other identities.

    A search for every face, so it takes a pass of its own, and 4 bytes a face.
    """
    centres = identity_centres(store, threads=options.threads)
    index = Index.over(centres, how=options.search, seed=options.seed)
    sparsity, buffers = np.empty(store.rows, np.float32), Buffers()

    def fill(piece: Piece) -> int:
        shard = store.read(piece, buffers)
        own = np.repeat(np.arange(shard.identities) + shard.first_identity, np.diff(shard.starts))
        cosines, _ = index.nearest(shard.vectors, options.neighbours, but=own)
        sparsity[shard.first : shard.first + len(shard)] = 1 - on_grid(cosines.sum(axis=1) / max(cosines.shape[1], 1))
        return len(shard)

    with progress(store.rows, "surroundings", "faces") as bar:
        for faces in in_order(fill, store.pieces(), threads=options.threads):
            bar.update(faces)
    return Rank(lambda shard: sparsity[shard.first : shard.first + len(shard)], _facts(index))


def confusable(store: Embeddings, options: RankOptions) -> Rank:
    """As `dataset`, but against the centres nearest to the face's own identity: one search for all its faces.

    Not an approximation of `dataset`, but a score of its own: how far a face is from those it is confused with.
    """
    centres = identity_centres(store, threads=options.threads)
    index = Index.over(centres, how=options.search, seed=options.seed)
    near = np.empty((len(centres), min(options.neighbours, len(centres) - 1)), np.int32)

    def fill(block: range) -> int:
        own = np.arange(block.start, block.stop)
        near[own] = index.nearest(centres[own], options.neighbours, but=own)[1]
        return len(block)

    blocks = [range(at, min(at + _BLOCK, len(centres))) for at in range(0, len(centres), _BLOCK)]
    with progress(len(centres), "neighbours", "identities") as bar:
        for done in in_order(fill, blocks, threads=options.threads):
            bar.update(done)

    def sparsity(shard: Shard) -> Floats:
        if not near.shape[1]:
            return np.ones(len(shard), np.float32)
        means = mean_of(centres, near[shard.first_identity : shard.first_identity + shard.identities])
        return 1 - on_grid(cosines_to(shard.vectors, shard.starts, means))

    return Rank(sparsity, _facts(index))


def _facts(index: Index) -> dict[str, Any]:
    return {"search": {"how": index.how, "recall": round(index.recall, 4)}}


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


RANKS: dict[str, Callable[[Embeddings, RankOptions], Rank]] = {
    "identity": identity,
    "dataset": dataset,
    "confusable": confusable,
    "central": central,
    "twin": twin,
    "random": random,
}
