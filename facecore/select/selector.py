"""What every selector promises: two functions of one shard of whole identities, and nothing else."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Shard

Profile = npt.NDArray[np.int64]  # (LEVELS,), faces kept at every level; the profiles of shards add up


@dataclass(frozen=True)
class Cut:
    """What becomes of each face of a shard at one threshold; all arrays are (n,), one entry a row of the shard."""

    kept: npt.NDArray[np.bool_]
    trimmed: npt.NDArray[np.bool_]  # would stay at the threshold, but is one too many
    admitted: npt.NDArray[np.bool_]  # stays at this threshold, did not one level below: what may be trimmed
    spare: npt.NDArray[np.int32]  # how many faces its identity keeps above the floor: how many may be trimmed
    sparsity: npt.NDArray[np.float32]  # larger is kept sooner
    suppression_cosine: npt.NDArray[np.float32]  # largest cosine to a better-ranked face of its identity; -1: none
    rival: npt.NDArray[np.int32]  # for a face that goes, the row of the nearest one kept; -1: its identity keeps none
    cosine: npt.NDArray[np.float32]  # to that rival; NaN: none

    @classmethod
    def empty(cls, n: int) -> "Cut":
        """Arrays for n faces, to be filled in."""
        no, zero = np.zeros(n, np.bool_), np.zeros(n, np.float32)
        return cls(
            no.copy(), no.copy(), no.copy(), np.zeros(n, np.int32),
            zero.copy(), zero.copy(), np.full(n, -1, np.int32), np.full(n, np.nan, np.float32),
        )  # fmt: skip


class Selector(Protocol):
    """A way to choose faces inside identities, with one threshold for the whole data set."""

    name: ClassVar[str]  # the command and the stage recorded

    @property
    def min_per_identity(self) -> int:
        """Faces that every identity keeps at least."""
        ...

    def profile(self, shard: Shard) -> Profile:
        """How many faces of the shard stay at every level of the grid."""
        ...

    def cut(self, shard: Shard, level: int, trimmed: npt.NDArray[np.int64] | None = None) -> Cut:
        """Which faces stay at one level, less the trimmed rows, and for each that goes, because of whom."""
        ...
