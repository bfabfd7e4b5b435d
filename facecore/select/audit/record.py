"""What the record of a selection promises."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from facecore.errors import DataError
from facecore.grid import STEPS
from facecore.provenance import Provenance

GREEDY, NESTED = "greedy", "nested"  # the rules that can be applied again
_RANKS = {"central": "central", "sparse": "identity"}  # methods whose sparsity is that of a rank of nms


@dataclass(frozen=True)
class Record:
    """The options and numbers of a selection, with their types."""

    method: str
    sha256: str  # of the embeddings
    keep: float | None
    max_cosine: float | None  # asked for
    min_per_identity: int
    min_share: float
    max_per_identity: int | None
    min_centre_cosine: float | None
    min_threshold: float | None
    rule: str | None  # GREEDY, NESTED, or another method's, which is not applied again
    rank: str  # what sparsity is
    threshold: float  # t*, in steps of the grid above -1
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, made: Provenance | None, where: Path) -> "Record":
        """Take a record apart; raises DataError if it is not that of a selection."""
        no_record = f"{where} carries no record of a selection; audit a file as facecore nms or select wrote it"
        if made is None:
            raise DataError(no_record)
        if made.options.get("order") or made.stage == "take":
            raise DataError(
                f"{where} is an order, or the first rows of one, and is not audited; "
                "its subsets are those of facecore nms --nested --keep, which are"
            )
        if forgotten := made.facts.get("forgotten"):
            raise DataError(
                f"{forgotten:,} faces of {where} were forgotten after it was selected, "
                "so what it claims held of another set; run facecore nms again"
            )
        try:
            options, nms = made.options, made.stage == "nms"
            return cls(
                method=made.stage,
                sha256=str(made.inputs["embeddings"]),
                keep=_number(options.get("keep")),
                max_cosine=_number(options.get("max_cosine")),
                min_per_identity=int(options["min_per_identity"]),
                min_share=_finite(options.get("min_share", 0)),  # what was recorded before there was one had none
                max_per_identity=_whole(options.get("max_per_identity")),
                min_centre_cosine=_number(options.get("min_centre_cosine")),
                min_threshold=_number(options.get("min_threshold")),
                rule=(NESTED if options["nested"] else GREEDY) if nms else None,
                rank=str(options["rank"]) if nms else _RANKS.get(made.stage, made.stage),
                threshold=(_finite(made.facts["max_cosine"]) + 1) * STEPS,
                facts=made.facts,
            )
        except (KeyError, TypeError, ValueError):
            raise DataError(no_record) from None

    @property
    def suppresses(self) -> bool:
        """Whether no two faces kept of an identity are nearer than t*."""
        return self.method in ("nms", "kcenter")

    @property
    def floor(self) -> str:
        """In words, what an identity keeps at least."""
        share = f" and {self.min_share:g} of its faces" if self.min_share else ""
        return f"{self.min_per_identity} an identity{share}"

    @property
    def level(self) -> int:
        """t* as a level of the grid."""
        return math.floor(self.threshold)

    @property
    def border(self) -> int:
        """The lowest level that t* may have: the first of the grid from min_threshold on."""
        return 0 if self.min_threshold is None else math.ceil((self.min_threshold + 1) * STEPS)

    @property
    def drawn(self) -> bool:
        """Whether a draw, or `then`, decides which of those that stay at t* are too many."""
        return self.keep is not None and self.min_threshold is not None and self.level == self.border

    def target(self, faces: int) -> int | None:
        """How many faces were asked for; None if a cosine was."""
        if self.keep is None:
            return None
        return int((Decimal(str(self.keep)) * faces).to_integral_value(ROUND_HALF_EVEN))  # keep as it is written


def _number(value: Any) -> float | None:
    return None if value is None else _finite(value)


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
