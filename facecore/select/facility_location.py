"""Facility location: cover every face by a near one that stays (lazy greedy: Minoux 1978; apricot, arXiv 1906.03543).

The value of a set of faces is the sum, over all faces of the identity, of the cosine to the nearest one in the set, 0
if that is negative. What a face adds only falls while others are taken, so what it added once bounds what it adds now,
and a face has to be looked at again only when its bound is the largest. Sums are of whole steps of the grid: exact.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled
from facecore.embeddings import Shard, Vectors
from facecore.grid import STEPS, Levels, to_levels
from facecore.select.gram import gram_levels
from facecore.select.large import is_large
from facecore.select.local import Rows
from facecore.select.rivals import Rival
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey

# Faces of a large identity whose cosines to all others are held, and to how many of these they are computed at a time.
_HELD, _STRIP = 512, 4096


@compiled
def _take(cover: Levels, at: Rows, bounds: Rows, best: Levels, gains: Rows) -> None:
    """Take faces, each the one that adds most, a tie to the earlier, until the next may be one that is not here.

    Face j covers the n faces by cover[at[j]], (b, n); at[j] is -1 if it is not here. `bounds`, of what each adds, are
    -1 for faces taken; `best` is how far each face is covered. Writes what each face added when it was taken.
    """
    n = len(bounds)
    while True:
        top = np.argmax(bounds)
        if bounds[top] < 0 or at[top] < 0:
            return
        gain, own = np.int64(0), cover[at[top]]
        for i in range(n):
            gain += max(np.int32(own[i]) - np.int32(best[i]), np.int32(0))
        if gain < bounds[top]:
            bounds[top] = gain
            continue
        gains[top], bounds[top] = bounds[top], -1
        for i in range(n):
            best[i] = max(best[i], own[i])


@compiled
def _gains(vectors: Vectors, starts: Rows) -> Rows:
    """What each row adds to its identity when it is taken, (n,), from the cosines of all its pairs."""
    gains = np.empty(len(vectors), np.int64)
    for run in range(len(starts) - 1):
        begin, n = starts[run], starts[run + 1] - starts[run]
        pairs, rows = n * (n - 1) // 2, np.arange(n)
        levels = np.empty(pairs, np.uint16)
        gram_levels(vectors, begin + rows, np.empty(pairs, np.float32), levels)
        cover = np.empty((n, n), np.uint16)
        for j in range(n):
            cover[j, j] = STEPS
            for i in range(j):
                cover[i, j] = cover[j, i] = max(levels[j * (j - 1) // 2 + i], STEPS) - STEPS
        _take(cover, rows, np.full(n, n * STEPS), np.zeros(n, np.uint16), gains[begin : begin + n])
    return gains


def _gains_of_large(vectors: Vectors) -> Rows:
    """The same for one identity, (n,), from the cosines of as many faces as fit: those that may add most.

    Measured on 10,000 faces: every face is looked at 5 or 6 times, so this takes that many times all their cosines.
    """
    n = len(vectors)
    bounds, best, gains = np.full(n, n * STEPS), np.zeros(n, np.uint16), np.empty(n, np.int64)
    while bounds.max() >= 0:
        here, at = np.argsort(-bounds, kind="stable")[:_HELD], np.full(n, -1)
        at[here] = np.arange(len(here))
        cover = np.empty((len(here), n), np.uint16)
        for first in range(0, n, _STRIP):
            levels = to_levels(vectors[here] @ vectors[first : first + _STRIP].T)
            cover[:, first : first + _STRIP] = np.maximum(levels, STEPS) - STEPS
        _take(cover, at, bounds, best, gains)
    return gains


def _levels_of(gains: npt.NDArray[np.int64]) -> Levels:
    """Gains g as the levels of (1 - g) / (1 + g): 1 for what adds nothing, falling to -1."""
    levels: Levels = ((2 * STEPS * STEPS + (STEPS + gains) // 2) // (STEPS + gains)).astype(np.uint16)
    return levels


@dataclass(frozen=True)
class FacilityLocation(Rival):
    """Inside identities, always take the face that most raises the sum of all faces' cosines to the nearest one taken.

    Identities do not cover each other, so one threshold on what a face adds makes the greedy choice for the whole data
    set.
    """

    name: ClassVar[str] = "facility-location"

    def ranking(self, survey: Survey) -> Ranking:
        """Nothing to find out: an identity is enough."""

        def rank(shard: Shard) -> Ranked:
            large = is_large(len(shard), shard.identities)
            gains = _gains_of_large(shard.vectors) if large else _gains(shard.vectors, shard.starts)
            return Ranked((gains / STEPS).astype(np.float32), _levels_of(gains))

        return Ranking(rank)
