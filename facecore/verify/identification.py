"""Who is it: searching galleries for probes, some of whom are not enrolled. Pure functions of arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.images import Floats
from facecore.verify.metrics import tar_at_far

RANKS = (1, 5)
FPIRS = {"0.01": 0.01, "0.1": 0.1}
PROBES_AT_ONCE = 1024  # by 3,531 people of IJB-C's galleries: 14 MB of cosines

Subjects = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Identification:
    """How well probes are found in a gallery, as ISO/IEC 19795-1 and NIST's FRVT 1:N have it; fractions."""

    rank: dict[int, float]  # of the mated probes, those whose person is among the first k
    tpir: dict[str, float]  # by FPIR, as far down as the non-mated probes allow
    mated: int  # probes whose person is enrolled
    non_mated: int
    enrolled: int  # people

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, by name."""
        ranks = {f"rank-{k}": share for k, share in self.rank.items()}
        counts = {"mated": self.mated, "non_mated": self.non_mated, "enrolled": self.enrolled}
        return {**ranks, "tpir": dict(self.tpir), **counts}


def identify(gallery: Floats, enrolled: Subjects, probes: Floats, subjects: Subjects) -> Identification:
    """Search unit rows (p, d) of these subjects (p,) among unit rows (g, d) of people enrolled (g,).

    The cosine of a probe to a person is that to the nearest of the person's templates. A mated probe's rank is one more
    than the number of other people at least as near as its own: a tie counts against it. At a cosine t, FPIR is the
    fraction of non-mated probes nearer than t to anybody, TPIR that of mated probes nearer than t to their own person
    and with rank 1; t is the highest cosine of a non-mated probe that leaves FPIR at most what is asked, so it is
    `tar_at_far` of the first candidates. (Definitions: ISO/IEC 19795-1; Grother, Ngan, Hanaoka: FRVT Part 2; open-set
    as in Maze et al. 2018, IJB-C.)
    """
    people = np.unique(enrolled)
    rank, cosine = np.empty(len(probes), np.int64), np.empty(len(probes), np.float32)
    mated = np.isin(subjects, people)
    order = np.argsort(enrolled, kind="stable")
    gallery, starts = gallery[order], np.searchsorted(enrolled[order], people)
    for start in range(0, len(probes), PROBES_AT_ONCE):
        block = slice(start, start + PROBES_AT_ONCE)
        nearest = np.maximum.reduceat(probes[block] @ gallery.T, starts, axis=1)  # (block, people)
        own = np.minimum(np.searchsorted(people, subjects[block]), len(people) - 1)
        of_own = nearest[np.arange(len(nearest)), own]
        rank[block] = (nearest >= of_own[:, np.newaxis]).sum(axis=1)
        cosine[block] = np.where(mated[block], of_own, nearest.max(axis=1))
    # a mated probe that somebody else is nearer to is not found at any cosine
    found = np.where(mated & (rank > 1), np.float32(-np.inf), cosine)
    rates = {name: tar_at_far(found, mated, fpir) for name, fpir in FPIRS.items()}
    return Identification(
        rank={k: float(np.mean(rank[mated] <= k)) for k in RANKS} if mated.any() else {},
        tpir={name: rate for name, rate in rates.items() if rate is not None},
        mated=int(mated.sum()),
        non_mated=int((~mated).sum()),
        enrolled=len(people),
    )


def mean_of(found: list[Identification]) -> Identification:
    """The mean over galleries, as IJB reports it; the counts are sums, and a figure that one lacks is left out."""
    return Identification(
        rank={k: float(np.mean([one.rank[k] for one in found])) for k in RANKS if all(k in one.rank for one in found)},
        tpir={f: float(np.mean([one.tpir[f] for one in found])) for f in FPIRS if all(f in one.tpir for one in found)},
        mated=sum(one.mated for one in found),
        non_mated=sum(one.non_mated for one in found),
        enrolled=sum(one.enrolled for one in found),
    )
