"""What makes a face worth keeping: the ranks of Face-NMS (Chen et al. 2021 leave the formula open)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.centres import own_cosines
from facecore.embeddings import Embeddings, Shard
from facecore.grid import to_cosines, to_levels

Floats = npt.NDArray[np.float32]


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


def random(store: Embeddings, options: RankOptions) -> Rank:
    """A seeded draw from [0, 1)."""
    return Rank(lambda shard: draws(options.seed, shard.first, len(shard)))


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
    "central": central,
    "random": random,
}
