"""Face-NMS: rank the faces of an identity by sparsity, then suppress near-duplicates (Chen et al. 2021)."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from facecore.errors import OptionError
from facecore.grid import STEPS
from facecore.search import check_search
from facecore.select.chance import SHARES, ThenChance
from facecore.select.cutting import RankedCutter
from facecore.select.local import GREEDY, NESTED
from facecore.select.ranks import RANKS, RankOptions
from facecore.select.selector import Cutter, Limits, Ranking
from facecore.select.survey import Survey


@dataclass(frozen=True)
class Nms(Limits):
    """Keep a face unless its cosine to a kept face of its identity, ranked before it, is above one threshold."""

    name: ClassVar[str] = "nms"

    rank: str = field(default="identity", metadata={"help": "What makes a face worth keeping: " + ", ".join(RANKS)})
    nested: bool = field(
        default=False,
        metadata={
            "help": "Let dropped faces suppress, too: subsets of all sizes are then nested, unless identities keep "
            "more than one face at least, or a number at most."
        },
    )
    min_threshold: float | None = field(
        default=None,
        metadata={
            "help": "Where --keep asks for a lower t* than this, it is this, and --then says who else goes: what is "
            "less near is no near-duplicate."
        },
    )
    then: str = field(
        default="random",
        metadata={
            "help": f"Who of those stays, as by these METHODs of facecore select: {', '.join(SHARES)}. Whole "
            "identities want --min-per-identity 0."
        },
    )
    neighbours: int = field(
        default=10, metadata={"help": "Centres of other identities that the ranks dataset and confusable look at."}
    )
    search: str = field(default="auto", metadata={"help": "How those are found: auto, exact, shortlist or torch."})
    seed: int = field(default=0, metadata={"help": "Of the rank random, of --then, of the search."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank not in RANKS:
            raise OptionError(f"rank is one of {', '.join(RANKS)}; got {self.rank}")
        if self.neighbours < 1:
            raise OptionError(f"neighbours must be 1 or more, got {self.neighbours}")
        check_search(self.search, self.seed)
        if self.min_threshold is not None and not -1 <= self.min_threshold <= 1:
            raise OptionError(f"min_threshold must be from -1 to 1, got {self.min_threshold:g}")
        self._check_then()
        for name, default in (("neighbours", 10), ("search", "auto")):
            if self.rank not in ("dataset", "confusable") and getattr(self, name) != default:
                raise OptionError(f"{name} is of the ranks dataset and confusable, not of {self.rank}; leave it out")

    def _check_then(self) -> None:
        if self.then not in SHARES:
            raise OptionError(f"then is one of {', '.join(SHARES)}; got {self.then}")
        if self.then == "random":
            return
        if self.min_threshold is None:
            raise OptionError(f"then {self.then} is for --min-threshold; add that, or leave --then out")
        if self.min_per_identity or self.min_share:
            raise OptionError(
                f"then {self.then} drops whole identities, but every identity keeps at least {self.floor_in_words}; "
                f"add --min-per-identity 0{' and leave --min-share out' if self.min_share else ''}"
            )

    @property
    def limits(self) -> Limits:
        """The options that every selector has."""
        return self

    def ranking(self, survey: Survey) -> Ranking:
        """Find what the rank needs to know of the whole store."""
        return RANKS[self.rank](survey, RankOptions(self.neighbours, self.search, self.seed))

    def cutter(self, ranking: Ranking) -> Cutter:
        """Suppress in the order of that rank."""
        suppression = RankedCutter(NESTED if self.nested else GREEDY, ranking.of, self, ranking.facts)
        if self.min_threshold is None:
            return suppression
        return ThenChance(suppression, math.ceil((self.min_threshold + 1) * STEPS), self.seed, self.then)
