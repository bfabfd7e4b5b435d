"""What an audit found: a line for every claim."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

SHOWN = 5  # offenders of a claim
OTHER_STORE = "; if it is of another store, name that with --embeddings; if files were changed, write the store again"

# Every claim that is checked, and what its count counts.
CLAIMS = {
    "provenance": "files carry the record of the selection",
    "contents": "sha256 of the embeddings agree with the record's",
    "faces": "faces of the store are kept or dropped, each once and in order, with their identity and source",
    "facts": "recorded numbers are those counted",
    "count": "faces are kept, round(keep x faces)",
    "threshold": "faces stay at t*; one level below fewer than asked for, or t* is min_threshold",
    "floor": "identities keep min_per_identity faces or more, and min_share of theirs",
    "maximum": "identities keep max_per_identity faces or fewer",
    "pairs": "kept faces are at most t* near to any other kept face of their identity",
    "near-duplicates": "near-duplicates are nearer than t* to their rival",
    "rivals": "dropped faces name the nearest kept face of their identity, and how near it is",
    "far-from-centre": "faces are far from their centre, or near enough, as min_centre_cosine has it",
    "suppression": "faces state their cosine to the nearest better-ranked face of their identity",
    "sparsity": "faces state what their rank says",
    "reasons": "faces stay, or go for the reason stated, when the rule is applied again at t*",
    "trimmed": "faces that only t* lets in: where some are trimmed, they are the last-ranked",
}


@dataclass(frozen=True)
class Check:
    """One claim: how many it was checked on, how many of them it does not hold for, and the first few of these."""

    name: str
    count: int
    failed: int = 0
    offenders: tuple[str, ...] = ()  # each a face_id, or an identity or file, and what is wrong with it
    note: str = ""  # what limits the check, or why it was not made

    @property
    def ok(self) -> bool:
        """Whether the claim holds, as far as it was checked."""
        return not self.failed

    def to_text(self) -> str:
        """One line."""
        if self.failed:
            more = f"; {self.failed - len(self.offenders):,} more" if self.failed > len(self.offenders) else ""
            return f"FAILED  {self.name:16}{self.failed:,} of {self.count:,}: {'; '.join(self.offenders)}{more}"
        if not self.count:
            return f"-       {self.name:16}{self.note or 'there are none'}"
        return f"OK      {self.name:16}{self.count:,} {CLAIMS[self.name]}" + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class Audit:
    """Every check of one subset."""

    subset: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every claim holds."""
        return all(check.ok for check in self.checks)

    @property
    def verdict(self) -> str:
        """One line: which claims hold."""
        failed = [check.name for check in self.checks if not check.ok]
        made = sum(1 for check in self.checks if check.count)
        if not failed:
            return f"{self.subset}: all {made} claims checked hold"
        names = ", ".join(failed)
        verdict = f"{self.subset}: {len(failed)} of {made} claims do not hold: {names}; do not use it, select again"
        return verdict + (OTHER_STORE if "contents" in failed else "")

    def to_text(self) -> str:
        """A line for every claim."""
        return "\n".join(check.to_text() for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        checks = [
            {"name": c.name, "ok": c.ok, "count": c.count, "failed": c.failed, "offenders": list(c.offenders)}
            | ({"note": c.note} if c.note else {})
            for c in self.checks
        ]
        return {"subset": str(self.subset), "ok": self.ok, "checks": checks}


@dataclass
class Findings:
    """What was looked at and what was wrong, claim by claim; those of parts add up, in their order."""

    looked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    offenders: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[str, str] = field(default_factory=dict)

    def add(
        self, name: str, looked: int, offenders: Sequence[Any] | npt.NDArray[Any], say: Callable[[Any], str] = str
    ) -> None:
        """Record so many looks at a claim, and what offends against it; `say` puts an offender in words."""
        assert name in CLAIMS
        self.looked[name] += looked
        self.failed[name] += len(offenders)
        room = SHOWN - len(self.offenders[name])
        self.offenders[name] += [say(offender) for offender in offenders[:room]]

    def merge(self, other: "Findings") -> None:
        """Take over the findings of a part that comes next."""
        for name in other.looked:
            self.looked[name] += other.looked[name]
            self.failed[name] += other.failed[name]
            self.offenders[name] = (self.offenders[name] + other.offenders[name])[:SHOWN]

    def checks(self) -> tuple[Check, ...]:
        """All of it, in the order of CLAIMS."""
        return tuple(
            Check(name, self.looked[name], self.failed[name], tuple(self.offenders[name]), self.notes.get(name, ""))
            for name in CLAIMS
        )
