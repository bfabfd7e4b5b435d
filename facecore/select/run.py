"""The selection stage: an embedding store in, a subset and its dropped faces out."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Buffers, Embeddings, Piece
from facecore.errors import DataError, OptionError
from facecore.grid import LEVELS
from facecore.manifest import check_manifest_path
from facecore.parallel import cores, in_order
from facecore.progress import progress
from facecore.provenance import Provenance, refuse_to_overwrite
from facecore.select.selector import KEPT, REASONS, Cut, Cutter, Fates, Profile, Selector
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
from facecore.select.write import dropped_path, write_subset

log = logging.getLogger(__name__)

# Pieces that tell roughly where the threshold lies, and how many times as many there must be for that to save time.
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
    if (keep is None) == (max_cosine is None):
        raise OptionError("give --keep, the fraction of faces to keep, or --max-cosine, and not both")
    if keep is not None:
        check_keep(keep)
    else:
        threshold_at(cast(float, max_cosine))
    refuse_to_overwrite(out, dropped_path(out), overwrite=overwrite, inputs=[store])
    check_manifest_path(out)
    faces = Embeddings.open(store)
    if faces.rows == 0:
        raise DataError(f"{store} holds no faces; see {store / 'rejected.parquet'} for why")
    target = None if keep is None else _target(faces, selector, keep)
    stage = Stage.over(faces, selector, threads)
    threshold = stage.find(target) if target else threshold_at(cast(float, max_cosine))
    fates = stage.cut(threshold)
    selection = summary(faces, fates, threshold.max_cosine)
    asked = {"keep": keep} if max_cosine is None else {"max_cosine": max_cosine}
    made = stage.provenance(asked, selection)
    write_subset(faces, fates, made, out, threads=stage.threads)
    return selection


def _target(faces: Embeddings, selector: Selector, keep: float) -> Target:
    floor, target = selector.limits.min_per_identity, Target(keep, faces.rows)
    sizes = (np.diff(faces.starts(number)) for number in range(len(faces)))
    target.check_least(sum(int(np.minimum(of_shard, floor).sum()) for of_shard in sizes), floor)
    return target


@dataclass(frozen=True)
class Stage:
    """The two passes over one store."""

    faces: Embeddings
    selector: Selector
    cutter: Cutter
    threads: int

    @classmethod
    def over(cls, faces: Embeddings, selector: Selector, threads: int | None) -> "Stage":
        """Prepare a selector for a store; `threads` is by default the number of cores."""
        return cls(faces, selector, selector.prepare(faces, threads=threads or cores()), threads or cores())

    def find(self, target: Target) -> Threshold:
        """First pass: add up the profiles; then again and again those of identities too large to be exact, if any."""
        pieces = self.faces.pieces()
        large = [piece for piece in pieces if len(piece) > self.cutter.whole_rows]
        small = [piece for piece in pieces if len(piece) <= self.cutter.whole_rows]
        at = (0, LEVELS - 1)
        if not large and len(small) >= SAMPLED_FROM * SAMPLE:  # a large identity is no part of any sample
            sample = small[:: len(small) // SAMPLE]
            at = bracket(self._profile(sample, *at), target.keep)
        whole, known = self._profile(small, *at), at

        def profile(lowest: int, highest: int) -> tuple[Profile, bool]:
            nonlocal whole, known
            if not known[0] <= lowest <= highest <= known[1]:
                whole, known = self._profile(small, lowest, highest), (lowest, highest)
            return whole + self._profile(large, lowest, highest), not large

        threshold = find_threshold(profile, target, *at)
        log.info("%d faces stay at %.5f, %d too many", target.count, threshold.max_cosine, threshold.surplus)
        return threshold

    def _profile(self, pieces: list[Piece], lowest: int, highest: int) -> Profile:
        total, buffers = np.zeros(LEVELS, np.int64), Buffers()

        def profile(piece: Piece) -> Profile:
            return self.cutter.profile(self.faces.read(piece, buffers), lowest, highest)

        with progress(sum(map(len, pieces)), "profile", "faces") as bar:
            for piece, change in zip(pieces, in_order(profile, pieces, threads=self.threads), strict=True):
                total += change
                bar.update(len(piece))
        return total

    def cut(self, threshold: Threshold) -> Fates:
        """Second pass: cut every piece, then once more the identities that lose a face too many."""
        fates, buffers = Fates.empty(self.faces.rows), Buffers()
        candidates: list[Candidates] = []

        def cut(piece: Piece) -> tuple[Piece, Cut]:
            return piece, self.cutter.cut(self.faces.read(piece, buffers), threshold.level)

        with progress(self.faces.rows, "cut", "faces") as bar:
            for piece, done in in_order(cut, self.faces.pieces(), threads=self.threads):
                fates.put(piece.first, done.fates)
                if threshold.surplus:
                    candidates.append(_candidates(piece, done))
                bar.update(len(piece))
        if threshold.surplus:
            self._trim(fates, _joined(candidates), threshold)
        return fates

    def _trim(self, fates: Fates, candidates: Candidates, threshold: Threshold) -> None:
        rows = trimmed_rows(candidates, threshold.surplus)
        who = candidates.identity[np.searchsorted(candidates.row, rows)]
        for identity in np.unique(who).tolist():
            piece = self.faces.piece_of(identity)
            trimmed = np.zeros(len(piece), np.bool_)
            trimmed[rows[who == identity] - piece.first] = True
            fates.put(piece.first, self.cutter.cut(self.faces.read(piece), threshold.level, trimmed).fates)

    def provenance(self, asked: Mapping[str, Any], selection: Selection) -> Provenance:
        """The options given, and what later stages need to know of data set and network: a subset is a data set."""
        meta = self.faces.meta
        origin = {name: meta[name] for name in ("root", "format", "model", "preprocess") if name in meta}
        return Provenance(
            self.selector.name,
            {**asked, **dataclasses.asdict(cast(Any, self.selector))},
            {"embeddings": self.faces.sha256},
            {**origin, **dataclasses.asdict(selection), **self.cutter.facts},
        )


def _candidates(piece: Piece, cut: Cut) -> Candidates:
    rows = np.flatnonzero(cut.admitted & (cut.spare > 0))
    identity = np.searchsorted(piece.starts - piece.starts[0], rows, "right") - 1 + piece.first_identity
    spare = cut.spare[rows].astype(np.int64)
    return Candidates(rows + piece.first, identity, cut.fates.sparsity[rows], spare)


def _joined(parts: list[Candidates]) -> Candidates:
    def column(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Candidates(column("row"), column("identity"), column("sparsity"), column("spare"))


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
