"""The exact ratio: one threshold for the whole data set, and which faces are one too many at it."""

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from facecore.errors import OptionError
from facecore.grid import LEVELS, STEPS, to_cosines
from facecore.select.selector import Counts, Limits, Profile, probes


@dataclass(frozen=True)
class Threshold:
    """A level, and how many more faces stay at it than shall."""

    level: int
    surplus: int = 0

    @property
    def max_cosine(self) -> float:
        """t*: kept faces of an identity are at most this near to each other."""
        return float(to_cosines(np.array(self.level)))


def check_keep(keep: float) -> None:
    """Raise OptionError unless keep is a fraction of the faces, in (0, 1]."""
    if not 0 < keep <= 1:  # also refuses NaN
        raise OptionError(f"keep is the fraction of faces to keep, in (0, 1]; got {keep:g}")


def threshold_at(max_cosine: float) -> Threshold:
    """The highest level of the grid up to a cosine; raises OptionError unless that is from -1 to 1."""
    if not -1 <= max_cosine <= 1:
        raise OptionError(f"max_cosine must be from -1 to 1, got {max_cosine:g}")
    return Threshold(math.floor((max_cosine + 1) * STEPS))


def faces_to_keep(keep: float, faces: int) -> int:
    """round(keep * faces), a half to the even number; keep is the decimal that is written: 0.07 of 150 are 10."""
    return round(Fraction(str(float(keep))) * faces)


@dataclass(frozen=True)
class Target:
    """How many faces shall stay: exactly `faces_to_keep`."""

    keep: float
    faces: int
    limits: Limits = field(default_factory=Limits)

    @property
    def count(self) -> int:
        """The number itself."""
        return faces_to_keep(self.keep, self.faces)

    def check_least(self, sizes: Counts) -> None:
        """Raise OptionError if that is none, or fewer than the floors of all identities, of these sizes, add up to."""
        least = int(self.limits.floors(sizes).sum())
        if self.count >= max(1, least):
            return
        possible = math.ceil(max(1, least) / self.faces * 1e6) / 1e6
        floor = self.limits.floor_in_words
        why = f"every identity keeps at least {floor}, {least:,} in all" if least else "that is none"
        way_out = f"--keep {possible:g}{' or more' if possible < 1 else ''}"
        if least > 1 and self.count:
            way_out += f", or {self._lower(sizes)}"
        raise OptionError(f"{self}, but {why}; use {way_out}")

    def _lower(self, sizes: Counts) -> str:
        """Which floors can be held, the share in hundredths."""
        if not self.limits.min_share:
            return "--min-per-identity 0" if self.limits.min_per_identity == 1 else "a lower --min-per-identity"

        def least(hundredths: int) -> int:
            return int(dataclasses.replace(self.limits, min_share=hundredths / 100).floors(sizes).sum())

        possible = bisect_right(range(100), self.count, key=least) - 1
        if possible < 0:
            return "a lower --min-share and --min-per-identity"
        return f"--min-share {possible / 100:g}{' or less' if possible else ''}"

    def beyond(self, most: int) -> OptionError:
        """What to say if no threshold leaves more than `most` faces."""
        possible = math.floor(most / self.faces * 1e6) / 1e6
        names = ("max_per_identity", "min_centre_cosine")
        by = [f"--{name.replace('_', '-')}" for name in names if getattr(self.limits, name) is not None]
        less = f"--keep {possible:g} or less, or " if most else ""
        return OptionError(f"{self}, but {most:,} at most can stay with {' and '.join(by)}; use {less}other limits")

    def __str__(self) -> str:
        return f"keep {self.keep:g} asks for {self.count:,} of {self.faces:,} faces"


def bracket(sample: Profile, share: float) -> tuple[int, int]:
    """Levels that the threshold will lie between, judged by the profile of a sample and the share of it to keep.

    Three hundredths of the faces to either side: many times what a sample of whole identities errs by.
    """
    counts = np.cumsum(sample)
    lowest, highest = (int(np.argmax(counts >= counts[-1] * part)) for part in (share - 0.03, min(share + 0.03, 1)))
    return max(lowest - 1, 0), highest


def find_threshold(
    profile: Callable[[int, int], tuple[Profile, bool]], target: Target, lowest: int = 0, highest: int = LEVELS - 1
) -> Threshold:
    """The smallest level at which the target is reached; raises OptionError if none does.

    `profile(lowest, highest)` gives the changes from level to level and whether they are exact at each; if not, they
    are at `probes(lowest, highest)`, and asked again between the two probes where the target is reached. A bracket that
    the target is not in is left for the levels beyond it. Greedy counts may fall as the threshold rises: with a
    bracket, or with identities too large to be exact, the level found reaches the target and the one below does not,
    but a level below the bracket, or between the probes, may by chance.
    """
    while True:
        change, exact = profile(lowest, highest)
        counts = np.cumsum(change)
        if counts[highest] < target.count:
            if highest == LEVELS - 1:
                raise target.beyond(int(counts[-1]))
            lowest, highest = highest, LEVELS - 1
        elif counts[lowest] >= target.count and lowest > 0:
            lowest, highest = 0, lowest
        else:
            level = lowest + int(np.argmax(counts[lowest : highest + 1] >= target.count))
            at = probes(lowest, highest)
            if exact or highest - lowest < len(at):
                return Threshold(level, int(counts[level]) - target.count)
            above = int(np.searchsorted(at, level))  # counts rise to the target between two probes
            lowest, highest = int(at[max(above - 1, 0)]), int(at[above])


@dataclass(frozen=True)
class Candidates:
    """Faces that were admitted last, and so may be trimmed; all arrays are (n,), in the order of the store."""

    row: npt.NDArray[np.int64]
    identity: npt.NDArray[np.int64]
    sparsity: npt.NDArray[np.float32]
    spare: npt.NDArray[np.int64]  # how many of its identity may go

    @classmethod
    def none(cls) -> "Candidates":
        """Nobody."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, np.empty(0, np.float32), nothing)

    @classmethod
    def joined(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """Those of parts of a store, in its order."""
        columns = ("row", "identity", "sparsity", "spare")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def trimmed_rows(candidates: Candidates, surplus: int) -> npt.NDArray[np.int64]:
    """The rows to trim: the last-ranked candidates, of equals the later row, never more of an identity than it spares.

    At the level below the chosen one too few faces stayed, so more were admitted than are too many; that these suffice
    even with floors follows from counting by identity. Rows are in the order of identity, then face_id.
    """
    gone: dict[int, int] = {}
    rows: list[int] = []
    for at in np.lexsort((-candidates.row, candidates.sparsity)).tolist():
        if len(rows) == surplus:
            break
        who = int(candidates.identity[at])
        if gone.get(who, 0) < candidates.spare[at]:
            gone[who] = gone.get(who, 0) + 1
            rows.append(int(candidates.row[at]))
    assert len(rows) == surplus, "fewer candidates than surplus faces"
    return np.array(rows, np.int64)
