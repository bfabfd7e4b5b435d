"""The exact ratio: one threshold for the whole data set, and which faces are one too many at it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facecore.errors import OptionError
from facecore.grid import LEVELS, STEPS, to_cosines
from facecore.select.selector import Profile, probes


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


def target_for(keep: float, *, faces: int, least: int, most: int, min_per_identity: int) -> int:
    """Exactly round(keep * faces); raises OptionError if that is none, or not within what the limits allow."""
    target = round(keep * faces)
    if target < max(1, least):
        possible = math.ceil(max(1, least) / faces * 1e6) / 1e6
        why = f"every identity keeps at least {min_per_identity:,}, {least:,} in all" if least else "that is none"
        way_out = f"--keep {possible:g}{' or more' if possible < 1 else ''}"
        if least > 1:
            way_out += f", or {'--min-per-identity 0' if min_per_identity == 1 else 'a lower --min-per-identity'}"
        raise OptionError(f"keep {keep:g} asks for {target:,} of {faces:,} faces, but {why}; use {way_out}")
    if target > most:
        possible = math.floor(most / faces * 1e6) / 1e6
        raise OptionError(
            f"keep {keep:g} asks for {target:,} of {faces:,} faces, but --max-per-identity and --min-centre-cosine "
            f"leave {most:,}; use --keep {possible:g} or less, or relax them"
        )
    return target


def find_threshold(profile: Callable[[int, int], tuple[Profile, bool]], target: int) -> Threshold:
    """The smallest level at which at least `target` faces stay.

    `profile(lowest, highest)` gives the whole profile and whether it is exact at every level; if not, it is exact at
    `probes(lowest, highest)`, and asked again between the two probes where the target is reached. With identities that
    large, the level found reaches the target and the level below does not, but a smaller one may by chance.
    """
    lowest, highest = 0, LEVELS - 1
    while True:
        change, exact = profile(lowest, highest)
        counts = np.cumsum(change)
        level = lowest + int(np.argmax(counts[lowest : highest + 1] >= target))
        if exact or highest - lowest < len(probes(lowest, highest)):
            return Threshold(level, int(counts[level]) - target)
        at = probes(lowest, highest)
        above = int(np.searchsorted(at, level))  # counts rise to the target between two probes
        lowest, highest = int(at[max(above - 1, 0)]), int(at[above])


@dataclass(frozen=True)
class Candidates:
    """Faces that were admitted last, and so may be trimmed; all arrays are (n,), in the order of the store."""

    row: npt.NDArray[np.int64]
    identity: npt.NDArray[np.int64]
    sparsity: npt.NDArray[np.float32]
    spare: npt.NDArray[np.int64]  # how many of its identity may go


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
