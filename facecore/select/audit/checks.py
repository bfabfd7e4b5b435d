"""The claims about the faces of whole identities, held against what was measured."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.grid import STEPS
from facecore.select.audit.claims import FAR, KEPT, NEAR, NOBODY, Claims, Rows, Steps
from facecore.select.audit.measure import SLACK, Flags, Measured, others_centre
from facecore.select.audit.record import Record
from facecore.select.audit.report import Findings

HALF = 0.5 + SLACK  # a level stands for what is up to half a step away


@dataclass(frozen=True)
class Faces:
    """The n faces of some whole identities: what is claimed of them and what was measured."""

    starts: Rows  # (identities + 1,)
    claims: Claims
    measured: Measured
    record: Record

    def count(self, flags: Flags) -> Rows:
        """How many faces of each identity, (identities,)."""
        counts: Rows = np.add.reduceat(flags, self.starts[:-1], dtype=np.int64)
        return counts

    def each(self, of_identity: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What holds for an identity, for each of its faces, (n,)."""
        return np.repeat(of_identity, np.diff(self.starts))

    @property
    def kept(self) -> Flags:
        """Which faces are kept, (n,)."""
        kept: Flags = self.claims.fate == KEPT
        return kept

    @property
    def least(self) -> Rows:
        """How many faces each identity has to keep, (identities,)."""
        record, sizes = self.record, np.diff(self.starts)
        distinct, which = np.unique(sizes, return_inverse=True)
        share = Decimal(str(record.min_share))  # as it is written, in tenths and hundredths
        shares = [int((share * size).to_integral_value(ROUND_CEILING)) for size in distinct.tolist()]
        least: Rows = np.minimum(sizes, np.maximum(np.array(shares, np.int64)[which], record.min_per_identity))
        return least if record.max_per_identity is None else np.minimum(least, record.max_per_identity)


def check_faces(faces: Faces, findings: Findings) -> int:
    """Every claim that needs no rule to be applied again; returns how many pairs nearer than t* a floor excuses."""
    _check_limits(faces, findings)
    _check_rivals(faces, findings)
    _check_near_duplicates(faces, findings)
    _check_centres(faces, findings)
    _check_suppression(faces, findings)
    _check_sparsity(faces, findings)
    return _check_pairs(faces, findings)


def _check_limits(faces: Faces, findings: Findings) -> None:
    kept, sizes = faces.count(faces.kept), np.diff(faces.starts)

    def say(identity: int) -> str:
        return f"{faces.claims.identity[int(faces.starts[identity])]} keeps {kept[identity]:,} of {sizes[identity]:,}"

    findings.add("floor", len(kept), np.flatnonzero(kept < faces.least), say)
    if faces.record.max_per_identity is not None:
        findings.add("maximum", len(kept), np.flatnonzero(kept > faces.record.max_per_identity), say)


def _check_rivals(faces: Faces, findings: Findings) -> None:
    claims, measured = faces.claims, faces.measured
    gone, nobody, who = ~faces.kept, claims.rival == NOBODY, faces.each(np.arange(len(faces.starts) - 1))
    at = np.maximum(claims.rival, 0)
    wrong = {
        "names no rival": nobody & (measured.kept >= 0),
        "states a cosine to nobody": nobody & ~np.isnan(claims.cosine),
        "has a rival that is no face of its identity": ~nobody & ((claims.rival < 0) | (who[at] != who)),
        "has a rival that is not kept": ~nobody & ~faces.kept[at],
        "is not as near to its rival as it states": ~nobody & _off(claims.cosine, measured.rival),
        "has another kept face nearer than its rival": ~nobody & (measured.kept > claims.cosine + HALF),
    }

    def say(row: int) -> str:
        what = next(words for words, flags in wrong.items() if flags[row])
        nearest = (
            f"the nearest kept is at {_level(measured.kept[row])}" if measured.kept[row] >= 0 else "nobody is kept"
        )
        return f"{claims.name(row)} {what} ({_cosine(claims.cosine[row])} stated, {nearest})"

    offends = gone & np.logical_or.reduce(list(wrong.values()))
    findings.add("rivals", int(gone.sum()), np.flatnonzero(offends), say)


def _check_near_duplicates(faces: Faces, findings: Findings) -> None:
    near = faces.claims.fate == NEAR
    offends = near & ~(faces.claims.cosine > faces.record.level)  # also where none is stated
    findings.add(
        "near-duplicates",
        int(near.sum()),
        np.flatnonzero(offends),
        lambda row: f"{faces.claims.name(row)} is only {_cosine(faces.claims.cosine[row])} near to its rival",
    )


def _check_pairs(faces: Faces, findings: Findings) -> int:
    if not faces.record.suppresses:
        return 0
    above = np.where(faces.kept, faces.measured.above, 0)
    # to hold a floor above 1 an identity may keep faces nearer than t*, and then keeps no more than the floor
    excused = faces.each(faces.count(faces.kept) <= faces.least)
    findings.add(
        "pairs",
        int(faces.kept.sum()),
        np.flatnonzero((above > 0) & ~excused),
        lambda row: f"{faces.claims.name(row)} has {_level(faces.measured.kept[row])} to another kept face",
    )
    return int(above[excused].sum())


def _check_centres(faces: Faces, findings: Findings) -> None:
    far, bound = faces.claims.fate == FAR, faces.record.min_centre_cosine
    others = others_centre(faces.measured, faces.starts)

    def say(row: int) -> str:
        return f"{faces.claims.name(row)} is {'' if far[row] else 'not '}far: {_cosine(others[row])} to its centre"

    if bound is None:
        findings.add("far-from-centre", int(far.sum()), np.flatnonzero(far), say)
        return
    limit = np.rint((bound + 1) * STEPS) - 0.5  # lower rounds to a lower level than the bound does
    # a floor spares the nearest ones however far they are, where no more than the floor asks for are near enough
    spared = faces.each(faces.count(~far) <= faces.least)
    farthest = faces.each(np.maximum.reduceat(np.where(far, others, -1), faces.starts[:-1])) - 2 * HALF
    offends = np.where(far, others > limit + SLACK, (others < limit - SLACK) & ~(spared & (others >= farthest)))
    findings.add("far-from-centre", len(far), np.flatnonzero(offends), say)


def _check_suppression(faces: Faces, findings: Findings) -> None:
    stated, found = faces.claims.suppression, faces.measured.better
    findings.add(
        "suppression",
        len(stated),
        np.flatnonzero(_off(stated, found)),
        lambda row: f"{faces.claims.name(row)} states {_cosine(stated[row])}, not {_level(found[row])}",
    )


def _check_sparsity(faces: Faces, findings: Findings) -> None:
    """How far a face is from its identity, or how near: 1 - f . mu, or f . mu, mu the mean of the identity's faces."""
    sparsity = faces.claims.sparsity.astype(np.float64)
    nearness = {"identity": 1 - sparsity, "central": sparsity}.get(faces.record.rank)
    if nearness is None:
        return
    stated, found = (nearness + 1) * STEPS, faces.measured.mean
    findings.add(
        "sparsity",
        len(stated),
        np.flatnonzero(_off(stated, found)),
        lambda row: (
            f"{faces.claims.name(row)} states a mean cosine of {_cosine(stated[row])}, not {_level(found[row])}"
        ),
    )


def _off(stated: Steps, found: npt.NDArray[np.floating[Any]]) -> Flags:
    """Whether what is stated is not a level, or not the one of what was found, (n,)."""
    right: Flags = (stated == np.rint(stated)) & (np.abs(stated - found) <= HALF)
    return ~right


def _level(steps: float) -> str:
    return _cosine(np.rint(steps))


def _cosine(steps: float) -> str:
    return f"{steps / STEPS - 1:.5f}"
