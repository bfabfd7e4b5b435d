"""The rule of Face-NMS, applied again at t*: who stays, who goes and why, and whether t* is where it should be."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from facecore.select.audit.checks import Faces
from facecore.select.audit.claims import FAR, FATES, KEPT, NEAR, OUTRANKED, OVER, TRIMMED, Floats, Rows
from facecore.select.audit.measure import SLACK, Flags
from facecore.select.audit.record import GREEDY
from facecore.select.audit.report import Findings


@dataclass
class Recount:
    """What the rule gives, added up over identities."""

    at: int = 0  # faces that stay at t*, within the limits
    below: int = 0  # faces that stay one level below
    unsure: int = 0  # identities in which the last bits of a cosine decide
    unclear: int = 0  # identities in which what is claimed does not tell, either
    missing: int = 0  # faces of identities of which one is missing, to which the rule was not applied
    excused: int = 0  # pairs nearer than t* that a floor above 1 brought back
    latest: list["Latest"] = field(default_factory=list)

    def merge(self, other: "Recount") -> None:
        """Take over what a part that comes next gave."""
        self.at += other.at
        self.below += other.below
        self.unsure += other.unsure
        self.unclear += other.unclear
        self.missing += other.missing
        self.excused += other.excused
        self.latest += other.latest


@dataclass(frozen=True)
class Latest:
    """Faces that stay at t* and not one level below, and are trimmed or might be; all arrays are (n,)."""

    row: Rows  # of the store
    sparsity: Floats
    trimmed: Flags


def apply_again(faces: Faces, rows: Rows, findings: Findings) -> Recount:
    """Hold what became of each face against the rule; `rows` are theirs in the store, (n,)."""
    if faces.record.rule is None:
        return Recount()
    measured, kept = faces.measured, faces.kept
    stays, over = _within(faces, measured.stays)
    stayed, _ = _within(faces, measured.stayed)
    if not faces.record.level:
        stayed[:] = False  # below the lowest level there is nothing, not even a floor
    trimmed = stays & (faces.claims.fate == TRIMMED) & (faces.record.keep is not None)  # a cosine trims nobody
    latest = stays & ~stayed if not faces.record.drawn else np.zeros_like(stays)
    _check_reasons(faces, stays, over, trimmed, findings)
    sure = ~measured.unsure
    findings.add(
        "trimmed",
        int((latest & sure).sum()),
        np.flatnonzero(trimmed & ~latest & sure & (not faces.record.drawn)),
        lambda row: f"{faces.claims.name(row)} stays one level below, too, and is trimmed",
    )
    spare = faces.each(faces.count(kept) > faces.least)
    might = latest & sure & (trimmed | (kept & spare))
    return Recount(
        at=int(stays.sum()),
        below=int(stayed.sum()),
        unsure=int(np.count_nonzero(faces.count(measured.unsure))),
        unclear=int(np.count_nonzero(faces.count(measured.unclear))),
        latest=[Latest(rows[might], faces.claims.sparsity[might], trimmed[might])],
    )


def _within(faces: Faces, stays: Flags) -> tuple[Flags, Flags]:
    """Who stays of those that the rule keeps, with the limits, and who of these is over the maximum, (n,) each."""
    order = faces.measured.order
    able = (faces.claims.fate != FAR)[order]
    keeps = stays[order] & able
    most = faces.record.max_per_identity
    within = keeps if most is None else keeps & (_running(faces, keeps) <= most)
    rest = able & ~within
    short = np.minimum(faces.count(able), faces.least) - faces.count(within)
    ranked = np.stack([within | (rest & (_running(faces, rest) <= faces.each(short))), keeps & ~within])
    unranked = np.empty_like(ranked)
    unranked[:, order] = ranked
    return unranked[0], unranked[1]


def _running(faces: Faces, flags: Flags) -> Rows:
    """How many of its identity up to and with each face, (n,), of flags in rank order."""
    total = np.concatenate([[0], np.cumsum(flags)])
    running: Rows = total[1:] - faces.each(total[faces.starts[:-1]])
    return running


def _check_reasons(faces: Faces, stays: Flags, over: Flags, trimmed: Flags, findings: Findings) -> None:
    """Of the reasons to go the weightiest is stated: far, near to a face kept, trimmed, over the maximum, outranked.

    By the rule GREEDY, who is suppressed by faces that all went is trimmed if one of them is, else over the maximum.
    """
    fate, greedy = faces.claims.fate, faces.record.rule == GREEDY
    border = faces.record.level + 0.5
    near = np.where(fate == NEAR, faces.measured.kept > border - SLACK, faces.measured.kept > border + SLACK)
    due = np.select(
        [fate == FAR, trimmed, stays, near, greedy & faces.measured.after_trimmed & ~over, over | greedy],
        [FAR, TRIMMED, KEPT, NEAR, TRIMMED, OVER],
        OUTRANKED,
    )
    sure = ~faces.measured.unclear
    findings.add(
        "reasons",
        int(sure.sum()),
        np.flatnonzero((fate != due) & sure),
        lambda row: f"{faces.claims.name(row)} is {FATES[fate[row]]}, should be {FATES[due[row]]}",
    )


def check_trims(latest: list[Latest], name: Callable[[int], str], findings: Findings) -> None:
    """The faces trimmed are ranked last of those that might be: lowest sparsity, of equals the later row.

    `name` gives the face_id of a row of the store.
    """
    if not latest:
        return
    row, trimmed = (np.concatenate([getattr(part, of) for part in latest]) for of in ("row", "trimmed"))
    sparsity = np.concatenate([part.sparsity for part in latest])
    if not trimmed.any():
        return
    order = np.lexsort((row, -sparsity))  # best first
    after = order[int(np.argmax(trimmed[order])) :]
    findings.add(
        "trimmed",
        0,
        np.sort(row[after[~trimmed[after]]]),
        lambda at: f"{name(at)} is kept, though ranked after a face that is trimmed",
    )
