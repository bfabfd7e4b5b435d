"""The exact ratio: one threshold for the whole data set, and which faces are one too many at it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facecore.errors import OptionError
from facecore.select.grid import to_cosines
from facecore.select.selector import Profile


@dataclass(frozen=True)
class Threshold:
    """The smallest level at which at least `target` faces stay, and how many more than that do."""

    level: int
    target: int
    surplus: int

    @property
    def max_cosine(self) -> float:
        """t*: kept faces of an identity are at most this near to each other."""
        return float(to_cosines(np.array(self.level)))


def check_keep(keep: float) -> None:
    """Raise OptionError unless keep is a fraction of the faces, in (0, 1]."""
    if not 0 < keep <= 1:  # also refuses NaN
        raise OptionError(f"keep is the fraction of faces to keep, in (0, 1]; got {keep:g}")


def target_for(keep: float, *, faces: int, floor: int, min_per_identity: int) -> int:
    """Exactly round(keep * faces); raises OptionError if that is none, or fewer than the floor of all identities."""
    target = round(keep * faces)
    if target < max(1, floor):
        least = math.ceil(max(1, floor) / faces * 1e6) / 1e6
        why = f"every identity keeps at least {min_per_identity:,}, {floor:,} in all" if floor else "that is none"
        way_out = f"--keep {least:g}{' or more' if least < 1 else ''}"
        if floor > 1:
            way_out += f", or {'--min-per-identity 0' if min_per_identity == 1 else 'a lower --min-per-identity'}"
        raise OptionError(f"keep {keep:g} asks for {target:,} of {faces:,} faces, but {why}; use {way_out}")
    return target


def threshold_for(profile: Profile, target: int) -> Threshold:
    """The smallest level whose count reaches the target; the last level always does, as it keeps every face."""
    level = int(np.argmax(profile >= target))
    return Threshold(level, target, int(profile[level]) - target)


@dataclass(frozen=True)
class Candidate:
    """A face that was admitted last, and so may be trimmed: where it is, and how many of its identity may go."""

    rank_level: int  # sparsity on the grid
    face_id: str
    shard: int
    row: int
    identity: str
    spare: int


def trimmed_rows(candidates: Sequence[Candidate], surplus: int) -> dict[int, npt.NDArray[np.int64]]:
    """The rows of each shard to trim: the last-ranked candidates, ties by the later face_id, never below the floor.

    At the threshold below the chosen one too few faces stayed, so more were admitted than are too many; that these
    suffice even with floors follows from counting by identity.
    """
    rows: dict[int, list[int]] = {}
    gone: dict[str, int] = {}
    by_face = sorted(candidates, key=lambda c: c.face_id, reverse=True)
    for c in sorted(by_face, key=lambda c: c.rank_level):
        if surplus == 0:
            break
        if gone.get(c.identity, 0) < c.spare:
            gone[c.identity] = gone.get(c.identity, 0) + 1
            rows.setdefault(c.shard, []).append(c.row)
            surplus -= 1
    assert surplus == 0, "fewer candidates than surplus faces"
    return {shard: np.array(sorted(of), np.int64) for shard, of in rows.items()}
