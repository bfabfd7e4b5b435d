"""The selection stage: an embedding store in, a subset and its dropped faces out."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from facecore.embeddings import Buffers, Embeddings, Piece
from facecore.embeddings.store import PIECE_ROWS
from facecore.errors import OptionError
from facecore.grid import LEVELS
from facecore.manifest import check_manifest_path
from facecore.parallel import cores, in_order
from facecore.progress import progress
from facecore.provenance import Provenance
from facecore.select.selector import KEPT, REASONS, Cut, Cutter, Fates, Profile, Selector, prepare
from facecore.select.threshold import (
    Candidates,
    Target,
    Threshold,
    bracket,
    check_keep,
    find_threshold,
    threshold_at,
    trimmed_rows,
)
from facecore.select.write import check_room, write_subset

log = logging.getLogger(__name__)

# Runs of about PIECE_ROWS faces that tell roughly where the threshold lies, and how many times as many there must be
# for that to save time.
SAMPLE, SAMPLED_FROM = 32, 8


@dataclass(frozen=True)
class Selection:
    """What a selection did, in numbers."""

    faces: int
    identities: int
    kept: int
    identities_kept: int
    dropped: dict[str, int]  # how many for each reason there was
    max_cosine: float


def select(
    store: Path,
    selector: Selector,
    *,
    keep: float | None = None,
    max_cosine: float | None = None,
    out: Path,
    overwrite: bool = False,
    threads: int | None = None,
) -> Selection:
    """Keep exactly round(keep * faces) faces of a store by a selector, or cut at a cosine; list the rest with reasons.

    Writes `out` and, beside it, its dropped faces: kept + dropped = all. `threads` is by default the number of cores,
    and changes no byte. Raises OptionError unless one of keep, in (0, 1], and max_cosine is given, or if the limits
    forbid that many faces; DataError if the store is not whole or a file exists.
    """
    job = Job(store, selector, out, keep, max_cosine)
    faces = job.open(overwrite=overwrite)
    target = job.target(faces)
    if job.parts.is_dir():
        log.warning("%s is of a job array that was not finished; this run does without it, so delete it", job.parts)
    stage = Stage.over(faces, selector, threads)
    threshold = stage.find(target) if target else threshold_at(cast(float, max_cosine))
    fates, candidates = stage.cut(faces.pieces(), threshold)
    stage.trim(fates, candidates, threshold)
    return stage.write(job, fates, threshold)


@dataclass(frozen=True)
class Job:
    """What is to be selected, from where and to where: one of keep and max_cosine is given. Small, and can be sent."""

    store: Path
    selector: Selector
    out: Path
    keep: float | None = None
    max_cosine: float | None = None

    def open(self, *, overwrite: bool) -> Embeddings:
        """The faces; raises what would go wrong later, see `select`."""
        if (self.keep is None) == (self.max_cosine is None):
            raise OptionError("give --keep, the fraction of faces to keep, or --max-cosine, and not both")
        if self.keep is not None:
            check_keep(self.keep)
        else:
            threshold_at(cast(float, self.max_cosine))
            if self.options.get("min_threshold") is not None:
                raise OptionError("--min-threshold is for --keep: --max-cosine is the threshold; leave one of them out")
        check_room(self.out, self.store, overwrite=overwrite)
        check_manifest_path(self.out)
        faces = Embeddings.open(self.store)
        faces.check_faces()
        return faces

    def target(self, faces: Embeddings) -> Target | None:
        """How many of the faces shall stay, None if that is not asked; raises OptionError if the floors forbid it."""
        if self.keep is None:
            return None
        target = Target(self.keep, faces.rows, self.selector.limits)
        sizes = np.concatenate([np.diff(faces.starts(number)) for number in range(len(faces))])
        target.check_least(sizes)
        return target

    @property
    def parts(self) -> Path:
        """The folder of what the tasks of a job array find out, see `select.parts`."""
        return self.out.with_name(f"{self.out.stem}.parts")

    @property
    def options(self) -> dict[str, Any]:
        """As the provenance has them."""
        asked = {"keep": self.keep} if self.max_cosine is None else {"max_cosine": self.max_cosine}
        return {**asked, **dataclasses.asdict(cast(Any, self.selector))}


@dataclass(frozen=True)
class Counted:
    """The profiles of some pieces, those of small identities and those of large ones, which are not exact."""

    small: Profile
    large: Profile


@dataclass(frozen=True)
class Stage:
    """The two passes over one store."""

    faces: Embeddings
    cutter: Cutter
    threads: int

    @classmethod
    def over(cls, faces: Embeddings, selector: Selector, threads: int | None) -> "Stage":
        """Prepare a selector for a store; `threads` is by default the number of cores."""
        return cls(faces, prepare(selector, faces, threads=threads or cores()), threads or cores())

    def levels_for(self, target: Target) -> tuple[int, int]:
        """The levels to look at first: all, but around what a sample says where there is enough to save time."""
        faces, large = self.faces, self._by_size(self.faces.pieces())[1]
        if large or faces.rows < SAMPLED_FROM * SAMPLE * PIECE_ROWS:  # a large identity is no part of any sample
            return 0, LEVELS - 1
        count = max(1, faces.identities * PIECE_ROWS // faces.rows)
        firsts = [faces.identities * number // SAMPLE for number in range(SAMPLE)]  # however the store is cut
        sample = [piece for first in firsts for piece in faces.pieces_of(first, count)]
        return bracket(self._profile(sample, 0, LEVELS - 1), target.keep)

    def count(self, pieces: list[Piece], lowest: int, highest: int) -> Counted:
        """First pass: add up the profiles of pieces."""
        small, large = self._by_size(pieces)
        return Counted(self._profile(small, lowest, highest), self._profile(large, lowest, highest))

    def find(self, target: Target) -> Threshold:
        """The threshold, by the first pass."""
        at = self.levels_for(target)
        return self.find_from(self.count(self.faces.pieces(), *at), target, *at)

    def find_from(self, counted: Counted, target: Target, lowest: int, highest: int) -> Threshold:
        """The threshold, from what was counted between two levels.

        Looks again, and again, at those identities that are too large to be exact, if any, and at all of them if the
        threshold lies beyond these levels.
        """
        small, large = self._by_size(self.faces.pieces())
        whole, known, first = counted.small, (lowest, highest), (lowest, highest)

        def profile(lowest: int, highest: int) -> tuple[Profile, bool]:
            nonlocal whole, known
            if not known[0] <= lowest <= highest <= known[1]:
                whole, known = self._profile(small, lowest, highest), (lowest, highest)
            of_large = counted.large if (lowest, highest) == first else self._profile(large, lowest, highest)
            return whole + of_large, not large

        threshold = find_threshold(profile, target, lowest, highest)
        log.info("%d faces stay at %.5f, %d too many", target.count, self.t_star(threshold), threshold.surplus)
        return threshold

    def _by_size(self, pieces: list[Piece]) -> tuple[list[Piece], list[Piece]]:
        """The pieces of small identities, and those of a large one."""
        large = [piece for piece in pieces if len(piece) > self.cutter.whole_rows]
        return [piece for piece in pieces if len(piece) <= self.cutter.whole_rows], large

    def _profile(self, pieces: list[Piece], lowest: int, highest: int) -> Profile:
        total, buffers = np.zeros(LEVELS, np.int64), Buffers()

        def profile(piece: Piece) -> Profile:
            return self.cutter.profile(self.faces.read(piece, buffers), lowest, highest)

        with progress(sum(map(len, pieces)), "profile", "faces") as bar:
            for piece, change in zip(pieces, in_order(profile, pieces, threads=self.threads), strict=True):
                total += change
                bar.update(len(piece))
        return total

    def cut(self, pieces: list[Piece], threshold: Threshold) -> tuple[Fates, Candidates]:
        """Second pass: cut pieces in a row; rivals are rows counted from the first on, candidates of the store.

        Raises DataError if a shard is not the one that meta.json describes, see `Embeddings.read`.
        """
        fates, buffers = Fates.empty(sum(map(len, pieces))), Buffers()
        candidates = [Candidates.none()]

        def cut(piece: Piece) -> tuple[Piece, Cut]:
            return piece, self.cutter.cut(self.faces.read(piece, buffers, checked=True), threshold.level)

        with progress(len(fates.reason), "cut", "faces") as bar:
            for piece, done in in_order(cut, pieces, threads=self.threads):
                fates.put(piece.first - pieces[0].first, done.fates)
                if threshold.surplus:
                    candidates.append(_candidates(piece, done))
                bar.update(len(piece))
        return fates, Candidates.joined(candidates)

    def trim(self, fates: Fates, candidates: Candidates, threshold: Threshold) -> None:
        """Cut once more the identities that lose a face too many."""
        rows = trimmed_rows(candidates, threshold.surplus)
        who = candidates.identity[np.searchsorted(candidates.row, rows)]
        for identity in np.unique(who).tolist():
            piece = self.faces.piece_of(identity)
            trimmed = np.zeros(len(piece), np.bool_)
            trimmed[rows[who == identity] - piece.first] = True
            fates.put(piece.first, self.cutter.cut(self.faces.read(piece), threshold.level, trimmed).fates)

    def t_star(self, threshold: Threshold) -> float:
        """The cosine above which there was suppression: levels below the border are none."""
        return Threshold(max(threshold.level, self.cutter.border)).max_cosine

    def write(self, job: Job, fates: Fates, threshold: Threshold) -> Selection:
        """Write what became of all faces, see `select`."""
        selection = summary(self.faces, fates, self.t_star(threshold))
        made = self.provenance(job.selector.name, job.options, selection)
        write_subset(self.faces, fates, made, job.out, threads=self.threads)
        return selection

    def provenance(self, name: str, options: Mapping[str, Any], selection: Selection) -> Provenance:
        """The options given, and what later stages need to know of data set and network: a subset is a data set."""
        meta = self.faces.meta
        origin = {name: meta[name] for name in ("root", "format", "model", "preprocess") if name in meta}
        return Provenance(
            name,
            options,
            {"embeddings": self.faces.sha256},
            {**origin, **dataclasses.asdict(selection), **self.cutter.facts()},
        )


def _candidates(piece: Piece, cut: Cut) -> Candidates:
    rows = np.flatnonzero(cut.admitted & (cut.spare > 0))
    identity = np.searchsorted(piece.starts - piece.starts[0], rows, "right") - 1 + piece.first_identity
    spare = cut.spare[rows].astype(np.int64)
    return Candidates(rows + piece.first, identity, cut.fates.sparsity[rows], spare)


def summary(faces: Embeddings, fates: Fates, max_cosine: float) -> Selection:
    """Count what became of whom."""
    counts = np.bincount(fates.reason, minlength=len(REASONS)).tolist()
    return Selection(
        faces=faces.rows,
        identities=faces.identities,
        kept=counts[KEPT],
        identities_kept=sum(_identities_kept(faces, number, fates) for number in range(len(faces))),
        dropped={reason: count for reason, count in zip(REASONS, counts, strict=True) if reason and count},
        max_cosine=max_cosine,
    )


def _identities_kept(faces: Embeddings, number: int, fates: Fates) -> int:
    starts = faces.starts(number)
    kept = fates.reason[faces.first(number) :][: starts[-1]] == KEPT
    return int(np.count_nonzero(np.diff(np.concatenate([[0], np.cumsum(kept)])[starts])))
