"""What the rivals of Face-NMS share: most are an order of the faces, cut by one threshold."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled, compiled_sums
from facecore.embeddings import Vectors
from facecore.errors import check_seed
from facecore.grid import LEVELS, STEPS, Levels
from facecore.select.cutting import RankedCutter
from facecore.select.local import BY_VALUE, Rows
from facecore.select.selector import Cutter, Limits, Ranking

Shares = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Rival(Limits):
    """A selector whose limits are among its options."""

    @property
    def limits(self) -> Limits:
        """The options that every selector has."""
        return self

    def cutter(self, ranking: Ranking) -> Cutter:
        """Cut by a level that each face has of its own."""
        return RankedCutter(BY_VALUE, ranking.of, self, ranking.facts)


@dataclass(frozen=True)
class Seeded(Rival):
    """A rival that draws."""

    seed: int = field(default=0, metadata={"help": "Of the draw."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seed(self.seed)


def share_levels(shares: Shares) -> Levels:
    """Shares from 0 to 1 as levels that rise with them, of the same shape: a threshold is then a share."""
    levels: Levels = np.minimum(shares * LEVELS, LEVELS - 1).astype(np.uint16)
    return levels


def places(starts: Rows, order: Rows) -> Shares:
    """How far down its identity each row stands, (n,): place k of m, from 0, is (k + 1/2) / m.

    Of m faces round(share * m) are then at most at that share. `order` holds the rows of each identity, best first.
    """
    sizes = np.repeat(np.diff(starts), np.diff(starts))
    shares = np.empty(len(order), np.float64)
    shares[order] = (np.arange(len(order)) - np.repeat(starts[:-1], np.diff(starts)) + 0.5) / sizes
    return shares


@compiled_sums
def _cosine(vectors: Vectors, a: int, b: int) -> np.float32:
    total = np.float32(0)
    for k in range(vectors.shape[1]):
        total += vectors[a, k] * vectors[b, k]
    return total


@compiled
def level_of(vectors: Vectors, a: int, b: int) -> np.int64:
    """The level of the cosine of two rows, as `grid.to_levels` has it."""
    level = np.int64(_cosine(vectors, a, b) * np.float32(STEPS) + np.float32(STEPS + 0.5))
    return min(max(level, np.int64(0)), np.int64(LEVELS - 1))
