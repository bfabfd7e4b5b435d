"""The audit of a subset: once through its two files and the store, side by side."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from facecore.embeddings import Buffers, Embeddings, Piece
from facecore.errors import DataError, counted
from facecore.grid import LEVELS, STEPS
from facecore.manifest import provenance_of
from facecore.parallel import cores, in_order
from facecore.progress import progress
from facecore.provenance import Provenance
from facecore.select.audit.again import Recount, apply_again, check_trims
from facecore.select.audit.checks import Faces, check_faces
from facecore.select.audit.claims import FATES, KEPT, MISSING, Claims, Files
from facecore.select.audit.contents import check_contents
from facecore.select.audit.measure import measure
from facecore.select.audit.record import Record
from facecore.select.audit.report import Audit, Findings


def audit(subset: Path, store: Path, *, hashes: bool = True, threads: int | None = None) -> Audit:
    """Recompute every claim of a subset and its dropped faces from the embeddings of a store.

    With `hashes` the files of the store are read once more for their sha256. A shard's names and some thousand vectors
    are held at a time; `threads` is by default the number of cores. Raises DataError if a file cannot be read at all,
    or `subset` carries no record of a selection.
    """
    dropped = subset.parent / f"{subset.stem}.dropped.parquet"
    if subset.stem.endswith(".dropped") and not dropped.exists():
        itself = subset.with_name(subset.name.replace(".dropped.", "."))
        raise DataError(f"{subset} lists the dropped faces; give the subset itself, {itself}")
    made = _made(subset)
    if made is not None:  # an order says that it is one before its dropped faces are missed
        Record.of(made, subset)
    if not store.is_dir():
        raise DataError(
            f"no embedding store at {store}; name with --embeddings the one that {subset} was selected from"
        )
    files, faces, findings = Files(subset, dropped), Embeddings.open(store), Findings()
    record = Record.of(made, subset)
    other = f"{dropped.name} carries another record than {subset.name}, or none"
    findings.add("provenance", 2, [] if provenance_of(dropped) == made else [other])
    check_contents(faces, record, findings, hashes=hashes, threads=threads or cores())
    _Pass(faces, record, files, findings).run(threads or cores())
    return Audit(subset, findings.checks())


def _made(subset: Path) -> Provenance | None:
    """What made a file, None if it cannot be read: that is said when it is read."""
    try:
        return provenance_of(subset)
    except (OSError, pa.ArrowException):
        return None


class _Pass:
    """One pass through everything, and what it adds up to."""

    def __init__(self, store: Embeddings, record: Record, files: Files, findings: Findings) -> None:
        self._store, self._record, self._files, self._findings = store, record, files, findings
        self._fates, self._identities_kept = np.zeros(len(FATES), np.int64), 0
        self._recount, self._buffers = Recount(), Buffers()

    def run(self, threads: int) -> None:
        """Add to the findings all that is to find."""
        with progress(self._store.rows, "audit", "faces") as bar:
            for faces, findings, recount in in_order(self._examine, self._parts(), threads=threads):
                self._findings.merge(findings)
                self._recount.merge(recount)
                bar.update(faces)
        self._files.finish(self._findings)
        self._check_facts()
        self._check_counts()
        check_trims(self._recount.latest, self._name, self._findings)
        self._explain()

    def _parts(self) -> Iterator[tuple[Piece, Claims]]:
        """Every piece of the store, with what is claimed of the faces of its shard file."""
        for number, pieces in itertools.groupby(self._store.pieces(), lambda piece: piece.number):
            claims = self._files.claims(self._store, number, self._findings)
            self._fates += np.bincount(claims.fate, minlength=len(FATES))
            kept = np.add.reduceat(claims.fate == KEPT, self._store.starts(number)[:-1], dtype=np.int64)
            self._identities_kept += int(np.count_nonzero(kept))
            for piece in pieces:
                yield piece, claims

    def _examine(self, part: tuple[Piece, Claims]) -> tuple[int, Findings, Recount]:
        """Measure the faces of a piece, but for identities of which a face is missing, and check their claims."""
        piece, claims = part
        shard, claims = self._store.read(piece, self._buffers), claims.of(np.arange(*piece.starts[[0, -1]]))
        findings, recount = Findings(), Recount()
        vectors, starts, rows = shard.vectors, shard.starts, np.arange(len(shard))
        whole = np.add.reduceat(claims.fate == MISSING, starts[:-1], dtype=np.int64) == 0
        if not whole.all():
            rows = rows[np.repeat(whole, np.diff(starts))]
            recount.missing += len(vectors) - len(rows)
            vectors, claims = vectors[rows], claims.of(rows)
            starts = np.concatenate([[0], np.cumsum(np.diff(starts)[whole])])
        if len(rows):
            faces = Faces(starts, claims, measure(vectors, starts, claims, self._record), self._record)
            recount.excused += check_faces(faces, findings)
            recount.merge(apply_again(faces, rows + piece.first, findings))
        return len(piece), findings, recount

    def _check_facts(self) -> None:
        store, record = self._store, self._record
        counts = dict(zip(FATES, self._fates.tolist(), strict=True))
        found = {
            "faces": store.rows,
            "identities": sum(len(store.starts(number)) - 1 for number in range(len(store))),
            "kept": counts.pop("kept"),
            "identities_kept": self._identities_kept,
            "dropped": {fate: count for fate, count in counts.items() if count and fate != "missing"},
            "max_cosine": self._grid_cosine(),
        }
        wrong = [name for name, value in found.items() if record.facts.get(name) != value]
        self._findings.add(
            "facts", len(found), wrong, lambda name: f"{name} is {found[name]}, not {record.facts.get(name)}"
        )

    def _grid_cosine(self) -> float:
        """What t* must be: the highest cosine of the grid up to the one asked for, or else the nearest one."""
        asked = self._record.max_cosine
        level = round(self._record.threshold) if asked is None else math.floor((asked + 1) * STEPS)
        return min(max(level, self._record.border), LEVELS - 1) / STEPS - 1

    def _check_counts(self) -> None:
        """The exact ratio, and the smallest t* as far as one level tells."""
        target = self._record.target(self._store.rows)
        if target is None:
            return
        kept, recount = int(self._fates[KEPT]), self._recount
        self._findings.add(
            "count", max(kept, 1), [] if kept == target else [f"{kept:,} are kept, {target:,} were asked for"]
        )
        if self._record.rule is not None:
            unknown = recount.unsure + recount.missing
            reached, needed = recount.at + unknown >= target, recount.below - unknown < target or self._record.drawn
            what = f"{recount.at:,} stay at t*, {recount.below:,} one level below, {target:,} were asked for"
            self._findings.add("threshold", recount.at, [] if reached and needed else [what])

    def _name(self, row: int) -> str:
        """The face_id of a row of the store."""
        number = max(number for number in range(len(self._store)) if self._store.first(number) <= row)
        return str(self._store.faces(number, ["face_id"])["face_id"][row - self._store.first(number)])

    def _explain(self) -> None:
        """Say what was not checked, and why."""
        record, recount, notes = self._record, self._recount, self._findings.notes
        if record.keep is None:
            notes["count"] = notes["threshold"] = "a cosine was asked for, no count"
        if record.rule is None:
            notes |= dict.fromkeys(("threshold", "reasons", "trimmed"), f"not applied again for {record.method}")
        for name, left_out, why in (
            ("sparsity", record.rank not in ("identity", "central"), f"not recomputed for {record.rank}"),
            ("pairs", not record.suppresses, f"{record.method} does not promise it"),
            ("maximum", record.max_per_identity is None, "no maximum was asked for"),
            ("trimmed", record.drawn, "not applied again: who stays below --min-threshold is taken as stated"),
        ):
            if left_out:
                notes[name] = why
        if recount.missing:
            why = f"{counted(recount.missing, 'face')} left out, of identities that lack one"
            notes |= dict.fromkeys(("suppression", "sparsity", "reasons", "trimmed"), why)
        for name, count in (("reasons", recount.unclear), ("trimmed", recount.unsure)):
            if count:
                notes[name] = f"{counted(count, 'identity')} left out, where the last bits of a cosine decide"
        if recount.excused:
            notes["pairs"] = f"{recount.excused:,} pairs are nearer to hold {record.floor}"
