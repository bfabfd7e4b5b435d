"""DiffProb: of faces that a classifier is equally sure of, one is enough (Caldeira et al. 2025, arXiv 2505.15272)."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from facecore.compiled import compiled
from facecore.embeddings import Embeddings, Shard, metadata_path
from facecore.errors import DataError
from facecore.grid import LEVELS, Levels
from facecore.select.cutting import RankedCutter
from facecore.select.local import BY_VALUE, Floats, Rows
from facecore.select.rivals import Rival
from facecore.select.selector import Cut, Cutter, Profile, Ranked, Ranking
from facecore.select.survey import Survey
from facecore.storage import for_arrow


@dataclass(frozen=True)
class DiffProb(Rival):
    """Inside identities, walk from the most to the least probable face and keep one only if it lies more than t below.

    Below the face kept last, that is; the most probable one stays. Where an identity would keep fewer than its minimum,
    its own t falls as far as needed (the authors' code lowers it in steps of 1 %). From level to level t falls as a
    cube, from 1 at the lowest to 0 at the last but one; at the last, equals stay, too.
    """

    name: ClassVar[str] = "diffprob"

    min_per_identity: int = field(default=5, metadata={"help": "Faces that every identity keeps at least."})
    column: str = field(
        default="probability",
        metadata={"help": "Column of the store: what a classifier gives a face's true identity, 0 to 1."},
    )

    def ranking(self, survey: Survey) -> Ranking:
        """Read the probabilities; raises DataError if the store has none, or one that is none."""
        store = survey.store
        probability = np.concatenate([_column(store, number, self.column) for number in range(len(store))])

        def rank(shard: Shard) -> Ranked:
            return Ranked(probability[shard.first : shard.first + len(shard)])

        return Ranking(rank)

    def cutter(self, ranking: Ranking) -> Cutter:
        """The walk: no face has a level of its own."""
        return _Walker(BY_VALUE, ranking.of, self, ranking.facts)


def _column(store: Embeddings, number: int, column: str) -> Floats:
    path = metadata_path(store.path, number)
    if column not in pq.read_schema(for_arrow(path)).names:
        raise DataError(
            f"{path} has no column {column}; facecore embed --head writes the column probability, "
            "or name another that holds probabilities with --column"
        )
    try:
        values: Floats = store.faces(number, columns=[column])[column].cast(pa.float32()).to_numpy()
    except pa.ArrowException:
        values = np.full(1, np.nan, np.float32)  # text, for one
    right = (values >= 0) & (values <= 1)
    if not right.all():
        row = int(np.argmin(right))
        raise DataError(
            f"{path}: row {row:,} of the column {column} is no probability, from 0 to 1; name another with --column"
        )
    return values


class _Walker(RankedCutter):
    """Cuts by the walk: who stays at a level need not stay at the next one, but there are never fewer."""

    def profile(self, shard: Shard, lowest: int = 0, highest: int = LEVELS - 1) -> Profile:
        """By how much the number of faces kept changes at every level, see `Cutter`."""
        ranked, change = self.rank(shard), np.zeros(LEVELS, np.int64)
        order, able = self._order(shard, ranked)
        floors, most = self._floors(shard), self._most(len(shard))
        _add_profile(ranked.sparsity[order], shard.starts, able, floors, most, change)
        return change

    def cut(self, shard: Shard, level: int, trimmed: npt.NDArray[np.bool_] | None = None) -> Cut:
        """What becomes of every face at one level, see `Cutter`: who stays is put as values around that level."""
        ranked, values = self.rank(shard), np.empty(len(shard), np.uint16)
        order, able = self._order(shard, ranked)
        values[order] = _values(ranked.sparsity[order], shard.starts, able, self._floors(shard), level)
        return RankedCutter(BY_VALUE, lambda _: Ranked(ranked.sparsity, values), self.limits).cut(shard, level, trimmed)


@compiled
def _walk(falling: Floats, level: int, kept: npt.NDArray[np.bool_]) -> int:
    """Say of each probability whether it stays at a level; returns how many do."""
    left = 1 - level / (LEVELS - 2)
    drop = left * left * left  # most are sure of most faces: many more levels lie at small differences
    count, last = 0, 0.0
    for j in range(len(falling)):
        kept[j] = j == 0 or last - np.float64(falling[j]) > drop or level == LEVELS - 1
        if kept[j]:
            count, last = count + 1, np.float64(falling[j])
    return count


@compiled
def _first_level(falling: Floats, count: int, low: int, kept: npt.NDArray[np.bool_]) -> int:
    """The lowest level from `low` on at which `count` or more stay, as do at all above; `kept` is memory to work in."""
    high, step = low, 1
    while _walk(falling, high, kept) < count:
        low, high, step = high + 1, min(high + step, LEVELS - 1), 2 * step
    while low < high:
        middle = (low + high) // 2
        if _walk(falling, middle, kept) < count:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _add_profile(falling: Floats, starts: Rows, able: Rows, floors: Rows, max_kept: int, change: Profile) -> None:
    """Add to `change` how the number of faces kept changes at each level; only the first `able` of each may stay."""
    kept = np.empty(len(falling), np.bool_)
    for run in range(len(starts) - 1):
        m = able[run]
        own, most, count, level = falling[starts[run] : starts[run] + m], min(max_kept, m), 0, 0
        while count < m:
            level = _first_level(own, max(count + 1, floors[run]), level, kept)
            now = _walk(own, level, kept)
            # Where the minimum calls for it, an identity is at this level from the lowest one on.
            change[level if count else 0] += min(now, most) - min(count, most)
            count = now


@compiled
def _values(falling: Floats, starts: Rows, able: Rows, floors: Rows, level: int) -> Levels:
    """Values that let stay at a level, and one below it, what the walk does, (n,)."""
    values = np.full(len(falling), np.uint16(LEVELS))
    kept, before = np.empty(len(falling), np.bool_), np.empty(len(falling), np.bool_)
    for run in range(len(starts) - 1):
        begin, m = starts[run], able[run]
        own = falling[begin : begin + m]
        least = _first_level(own, floors[run], 0, kept)
        _walk(own, max(level, least), kept)
        _walk(own, max(level - 1, least), before)
        for j in range(m):
            if kept[j]:
                values[begin + j] = max(level - 1, 0) if before[j] else level
    return values
