"""What every selector promises: two functions of one shard of whole identities, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Embeddings, Shard
from facecore.errors import OptionError
from facecore.grid import LEVELS, Levels
from facecore.select.survey import Survey

# By how much the number of faces kept changes at every level of the grid, (LEVELS,): its running sum is that number,
# and the profiles of shards add up.
Profile = npt.NDArray[np.int64]

Counts = npt.NDArray[np.int64]  # of faces, (identities,)

PROBES = 255  # levels at which a large identity is walked at once

# Why a face goes; the position is what `Fates.reason` holds.
REASONS = ("", "near-duplicate", "trimmed", "far-from-centre", "over-maximum", "outranked")
KEPT, NEAR_DUPLICATE, TRIMMED, FAR, OVER_MAXIMUM, OUTRANKED = range(len(REASONS))

_NO_VALUES = np.empty(0, np.uint16)


@dataclass(frozen=True)
class Fates:
    """What became of n faces; all arrays are (n,), 13 bytes a face."""

    reason: npt.NDArray[np.uint8]  # why it goes, a position in REASONS; 0: it stays
    sparsity: npt.NDArray[np.float32]  # larger is kept sooner; a tie goes to the earlier row
    suppression: Levels  # highest level to a better-ranked face of its identity; 0 for the best
    rival: npt.NDArray[np.int32]  # for a face that goes, the row of the nearest one kept; -1: its identity keeps none
    rival_level: Levels  # of its cosine to that rival

    @classmethod
    def empty(cls, n: int) -> "Fates":
        """Arrays for n faces, to be filled in."""
        short, rival = np.zeros(n, np.uint16), np.full(n, -1, np.int32)
        return cls(np.zeros(n, np.uint8), np.zeros(n, np.float32), short, rival, short.copy())

    def put(self, first: int, part: "Fates") -> None:
        """Take over the fates of some rows, from row `first` on."""
        rows = slice(first, first + len(part.reason))
        self.reason[rows] = part.reason
        self.sparsity[rows] = part.sparsity
        self.suppression[rows] = part.suppression
        self.rival[rows] = np.where(part.rival < 0, -1, part.rival + np.int32(first))
        self.rival_level[rows] = part.rival_level


@dataclass(frozen=True)
class Cut:
    """The fates of a shard's faces at one level, rivals as rows of the shard, and which faces may be trimmed."""

    fates: Fates
    admitted: npt.NDArray[np.bool_]  # stays at this level, did not one level below: what may be trimmed
    spare: npt.NDArray[np.int32]  # how many faces its identity keeps above the floor: how many may be trimmed

    @classmethod
    def empty(cls, n: int) -> "Cut":
        """Arrays for n faces, to be filled in."""
        return cls(Fates.empty(n), np.zeros(n, np.bool_), np.zeros(n, np.int32))


@dataclass(frozen=True)
class Ranked:
    """The faces of a shard inside their identities, best first."""

    sparsity: npt.NDArray[np.float32]  # (n,), larger is kept sooner; a tie goes to the earlier row
    values: Levels = field(default_factory=lambda: _NO_VALUES)  # (n,), the level from which on each stays: BY_VALUE


@dataclass(frozen=True)
class Ranking:
    """How the faces of any shard of a store rank, and what was found out on the way, for the provenance."""

    of: Callable[[Shard], Ranked]
    facts: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True)
class Limits:
    """What every selector observes, whatever it prefers."""

    min_per_identity: int = field(default=1, metadata={"help": "Faces that every identity keeps at least."})
    min_share: float = field(
        default=0.0,
        metadata={"help": "Share of its faces that every identity keeps at least, rounded up; a maximum comes first."},
    )
    max_per_identity: int | None = field(default=None, metadata={"help": "Faces that an identity keeps at most."})
    min_centre_cosine: float | None = field(
        default=None,
        metadata={"help": "Drop faces whose cosine to the centre of their identity's other faces is lower."},
    )

    def __post_init__(self) -> None:
        if self.min_per_identity < 0:
            raise OptionError(f"min_per_identity must be 0 or more, got {self.min_per_identity}")
        for name in ("min_per_identity", "max_per_identity"):
            if (getattr(self, name) or 0) >= 1 << 31:  # a shard has fewer rows: they are counted in int32
                raise OptionError(f"{name} must be below 2**31, got {getattr(self, name)}")
        if not 0 <= self.min_share <= 1:  # also refuses NaN
            raise OptionError(f"min_share is a share of an identity's faces, from 0 to 1; got {self.min_share:g}")
        if self.max_per_identity is not None and self.max_per_identity < max(1, self.min_per_identity):
            raise OptionError(
                f"max_per_identity must be 1 or more, and at least min_per_identity, {self.min_per_identity}; "
                f"got {self.max_per_identity}"
            )
        if self.min_centre_cosine is not None and not -1 <= self.min_centre_cosine <= 1:
            raise OptionError(f"min_centre_cosine must be from -1 to 1, got {self.min_centre_cosine:g}")

    @property
    def floor_in_words(self) -> str:
        """What every identity keeps at least: 2, or 0.3 of its faces, or both."""
        share = [f"{self.min_share:g} of its faces"] if self.min_share else []
        number = [f"{self.min_per_identity:,}"] if self.min_per_identity or not share else []
        return " and ".join(number + share)

    def floors(self, sizes: Counts) -> Counts:
        """How many faces identities of these sizes keep at least, (identities,); never more than they may.

        A share is the decimal number that is written: 0.07 of 100 faces are 7, where floats, rounded up, have 8.
        """
        least = np.minimum(sizes, self.min_per_identity)
        if self.min_share:
            share = Fraction(str(self.min_share))
            rounded_up = -(-share.numerator * sizes.astype(object) // share.denominator)  # numbers of any length
            least = np.maximum(least, rounded_up.astype(np.int64))
        return least if self.max_per_identity is None else np.minimum(least, self.max_per_identity)


class Cutter(Protocol):
    """A selector that knows its store: the two functions of one shard."""

    def facts(self) -> Mapping[str, Any]:
        """What was found out on the way, for the provenance."""
        ...

    @property
    def border(self) -> int:
        """The level below which levels are no cosines: t* is never lower."""
        ...

    @property
    def whole_rows(self) -> int:
        """Identities of more faces than this are profiled at some levels only, see `profile`."""
        ...

    def profile(self, shard: Shard, lowest: int = 0, highest: int = LEVELS - 1) -> Profile:
        """How many faces of the shard stay at every level from `lowest` to `highest`.

        Exact at each for identities of at most `whole_rows` faces; for a larger one exact at PROBES levels evenly
        spread over them, and taken to be constant in between. What it says of other levels means nothing.
        """
        ...

    def cut(self, shard: Shard, level: int, trimmed: npt.NDArray[np.bool_] | None = None) -> Cut:
        """What becomes of every face at one level, less the `trimmed` ones, (n,)."""
        ...


class Selector(Protocol):
    """A way to choose faces inside identities, with one threshold for the whole data set: its options."""

    name: ClassVar[str]  # of the method, and of the stage recorded

    @property
    def limits(self) -> Limits:
        """What holds whatever the threshold."""
        ...

    def ranking(self, survey: Survey) -> Ranking:
        """Look over the whole store, where a method needs to; for most an identity is enough."""
        ...

    def cutter(self, ranking: Ranking) -> Cutter:
        """Cut by that."""
        ...


def prepare(selector: Selector, store: Embeddings, *, threads: int = 1) -> Cutter:
    """A selector that knows its store."""
    return selector.cutter(selector.ranking(Survey(store, threads)))


def probes(lowest: int, highest: int) -> npt.NDArray[np.int64]:
    """At most PROBES levels evenly spread from lowest to highest, both included."""
    return np.unique(np.linspace(lowest, highest, PROBES).round().astype(np.int64))
