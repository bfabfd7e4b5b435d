"""What an explanation says: one face among the faces of its identity, in words that need no knowledge of the files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from facecore.errors import printable
from facecore.grid import STEPS
from facecore.report.subset import UNKNOWN, Subset

KEPT = "kept"
SHOWN = 12  # faces of the identity at most

RANKS = {
    "identity": "those least like the rest of their identity first",
    "dataset": "those least like any other identity first",
    "confusable": "those least like the identities most like their own first",
    "central": "those most like the rest of their identity first",
    "twin": "those that have a near-duplicate first",
    "random": "drawn by lot",
}


@dataclass(frozen=True)
class Fate:
    """What became of one face."""

    face_id: str
    sparsity: float
    suppression_cosine: float  # to the nearest face ranked before it; -1 for the first
    reason: str  # KEPT, or why it was dropped
    rival: str | None = None
    rival_cosine: float | None = None
    place: int = 0  # inside its identity, by rank, from 1
    cosine: float | None = None  # to the face asked about, where vectors are at hand

    @property
    def is_kept(self) -> bool:
        """Whether it is in the subset."""
        return self.reason == KEPT


@dataclass(frozen=True)
class Explanation:
    """One face among the faces of its identity."""

    subset: Subset
    identity: str
    fate: Fate
    relatives: Sequence[Fate]  # all faces of the identity in order of rank, the face itself included

    def to_text(self) -> str:
        """Why it stays or goes, what the words mean, and what became of the faces around it."""
        verdict = "was kept" if self.fate.is_kept else f"was dropped: {self.fate.reason}"
        why = self._why_kept() if self.fate.is_kept else self._why_dropped()
        lines = [f"{self.fate.face_id} {verdict}", *why, "", *self._terms(), "", *self._table()]
        return "\n".join(map(printable, lines))

    @property
    def _chooser(self) -> str:
        """The method that chose, if the subset says which."""
        stage = self.subset.made.stage
        return "A selection that left no record" if stage == UNKNOWN else stage

    def _why_kept(self) -> Iterator[str]:
        fate, limit = self.fate, self.subset.max_cosine
        nearest = f"the nearest face ranked before it has a cosine of {fate.suppression_cosine:.4f} to it"
        if len(self.relatives) == 1:
            yield f"It is the only face of {self.identity}, so no other can take its place."
        elif fate.place == 1:
            yield f"It ranks first of the {len(self.relatives):,} faces of {self.identity}: nothing can take its place."
        elif limit is None:
            yield f"{self._chooser} chose it; {nearest}."
        elif fate.suppression_cosine <= limit:
            yield f"Nothing before it is too much like it: {nearest}, not above t* = {limit:.4f}."
        else:
            floor = self._floor()
            also = f", unless it fills up {floor} that every identity keeps" if floor else ""
            yield f"A face does not suppress if it was dropped itself: {nearest}, above t* = {limit:.4f},"
            yield f"but that one was dropped. No kept face before it is as near{also}."

    def _floor(self) -> str:
        """What every identity keeps at least, if that is more than one face."""
        faces, share = (self.subset.made.options.get(name, 0) for name in ("min_per_identity", "min_share"))
        parts = [f"the {faces:,} faces"] if faces > 1 else []
        return " and ".join([*parts, f"the {share:g} of its faces"] if share else parts)

    def _why_dropped(self) -> Iterator[str]:
        fate, options = self.fate, self.subset.made.options
        yield {
            "near-duplicate": f"It is too much like {fate.rival}, which is kept in its place.",
            "trimmed": self._why_trimmed(),
            "far-from-centre": "It is too unlike the other faces of its identity, perhaps a wrong label: its cosine to "
            f"their centre is below {options.get('min_centre_cosine') or 0:g}.",
            "over-maximum": f"Its identity keeps at most {options.get('max_per_identity') or 0:,} faces, "
            "and others rank before it.",
            "outranked": f"{self._chooser} chose other faces before it.",
        }.get(fate.reason, "The subset does not say more.")
        if fate.rival is None:
            yield "Which kept face is nearest is not recorded: its identity keeps none, or that face was withdrawn."
        else:
            yield self._about_the_rival(fate.rival)

    def _why_trimmed(self) -> str:
        lowest, limit = self.subset.made.options.get("min_threshold"), self.subset.max_cosine
        if lowest is not None and limit is not None and limit < lowest + 1 / STEPS:
            taken = "it" if self.fate.suppression_cosine <= limit else "it, or the one that it is too much like"
            then = self.subset.made.options.get("then", "random")
            by = "chance took" if then == "random" else f"by --then {then} others came before"
            return f"More faces stay at t* than were asked for, and --min-threshold has it no lower: {by} {taken}."
        return "At t* a few faces too many stay; the last ones by rank go, so that the count is exact."

    def _about_the_rival(self, rival: str) -> str:
        cosine, limit = self.fate.rival_cosine or 0.0, self.subset.max_cosine
        if self.fate.reason != "near-duplicate" or limit is None:
            return f"The kept face nearest to it is {rival}, with a cosine of {cosine:.4f}."
        place = next((fate.place for fate in self.relatives if fate.face_id == rival), self.fate.place)
        before = f", and that one ranks before it: {place:,} against {self.fate.place:,}"
        return f"Their cosine is {cosine:.4f}, above t* = {limit:.4f}{before if place < self.fate.place else ''}."

    def _terms(self) -> Iterator[str]:
        """What the words mean."""
        made, facts = self.subset.made, self.subset.made.facts
        rank = RANKS.get(str(made.options.get("rank")), "as the method ranks them")
        yield "cosine    how alike two faces are to the network: 1 the same, 0 nothing in common"
        yield f"rank      the order in which faces of an identity are taken: {rank}"
        if self.subset.max_cosine is not None:
            forgotten = facts.get("forgotten", 0)
            yield (
                f"t*        {self.subset.max_cosine:.4f}, one limit for the whole data set: {facts.get('kept', 0):,} "
                f"of {facts.get('faces', 0):,} faces stay"
                + (f"; {forgotten:,} of these were forgotten since" if forgotten else "")
            )

    def _table(self) -> Iterator[str]:
        """The face and those of its identity nearest to it, or around it by rank if no cosines are known."""
        kept = sum(fate.is_kept for fate in self.relatives)
        known = self.fate.cosine is not None
        shown = self._shown(known)
        yield f"{self.identity}: {kept:,} of {len(self.relatives):,} faces kept"
        yield f"  {'rank':>6}  {'cosine':>7}  what became of it" if known else f"  {'rank':>6}  what became of it"
        for fate in shown:
            here = ">" if fate is self.fate else " "
            cosine = f"  {fate.cosine:7.4f}" if fate.cosine is not None else ""
            yield f"{here} {fate.place:>6,}{cosine}  {fate.face_id} {self._fate(fate)}"
        if left := len(self.relatives) - len(shown):
            yield f"  and {left:,} more"
        if not known:
            yield "--embeddings STORE adds the cosine of each to this face"

    def _shown(self, known: bool) -> list[Fate]:
        """The nearest first, and the rival; or by rank, as many from before the face as after it, where there are."""
        if known:
            others = sorted(self.relatives, key=lambda fate: (-(fate.cosine or 0.0), fate.place))
            others.remove(self.fate)
            rival = [fate for fate in others[SHOWN - 1 :] if fate.face_id == self.fate.rival]
            return [self.fate, *others[: SHOWN - 1], *rival]
        first = min(max(self.fate.place - 1 - SHOWN // 2, 0), max(len(self.relatives) - SHOWN, 0))
        return list(self.relatives[first : first + SHOWN])

    def _fate(self, fate: Fate) -> str:
        if fate.is_kept:
            return "kept"
        of = "of" if fate.reason == "near-duplicate" else "beside"
        instead = f" {of} {fate.rival} ({fate.rival_cosine:.4f})" if fate.rival is not None else ""
        return f"dropped, {fate.reason}{instead}"
