"""The stage: vectors that exist already in, an embedding store out."""

import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

import pyarrow as pa

from facecore.embeddings import Embeddings, write_meta
from facecore.errors import DataError
from facecore.importing.groups import Buckets, Run, bucket_borders, sorted_pieces, whole_identities
from facecore.importing.open import open_source
from facecore.importing.options import ImportOptions
from facecore.importing.shards import write_shards
from facecore.importing.source import Batch, Source
from facecore.importing.survey import Grouping, survey
from facecore.importing.units import unit_rows
from facecore.parallel import cores, in_order
from facecore.progress import progress
from facecore.provenance import Provenance, check_folder, sha256_of_file

STORE_FILES = {"img_emb", "metadata", "meta.json", "rejected.parquet"}
WORK_FILES = {"store", "buckets", "replaced"}


@dataclass(frozen=True)
class ImportReport:
    """What an import did, in numbers."""

    rows: int  # read
    identities: int  # in the store
    rejected: int
    normalised: int  # rows whose vectors were not of unit length
    buckets: int  # that rows were partitioned into; 0: they came grouped, and streamed through
    shards: int
    seconds: float

    @property
    def faces(self) -> int:
        """How many are in the store."""
        return self.rows - self.rejected


def import_vectors(
    vectors: Path,
    out: Path,
    options: ImportOptions,
    *,
    labels: Path | None = None,
    images: Path | None = None,
    overwrite: bool = False,
    threads: int | None = None,
) -> ImportReport:
    """Make the store `out` of vectors that exist, see `open_source`; equal rows in any order give equal shards.

    `labels` say whose the vectors of a .npy file are; `images` is the root that sources are relative to; `threads` is
    by default the number of cores. The store is made in a folder beside `out`, and appears whole or not at all. Raises
    DataError if the input is not sound, more than `max_rejected` of it is of no use, or `out` holds it or is there
    (`overwrite` replaces a store, nothing else).
    """
    began = time.perf_counter()
    _check_folders(out, [path for path in (vectors, labels, images) if path is not None], overwrite=overwrite)
    if images is not None and not images.exists():
        raise DataError(f"no images at {images}; --images is the root that sources are relative to")
    source = open_source(vectors, labels, options)
    found = survey(source)
    facts = {"inputs": _hashes(source, vectors, labels), **({"root": images.as_posix()} if images else {})}
    with _made_beside(out) as work:
        runs, buckets = _grouped(_runs(source, threads or cores()), source, found, options, work)
        _write(work / "store", runs, source, options, facts)
    store = Embeddings.open(out)
    return ImportReport(
        rows=source.rows,
        identities=store.identities,
        rejected=store.meta["rejected"],
        normalised=store.meta["normalised"],
        buckets=buckets,
        shards=len(store),
        seconds=time.perf_counter() - began,
    )


def _work_folder(out: Path) -> Path:
    return out.parent / f"{out.name}.part"


def _check_folders(out: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Raise DataError unless the store can be made, and nothing but a store would be lost, and no input."""
    work = _work_folder(out)
    for folder in (out, work):
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file; choose another --out, a folder to be made")
    check_folder(out.parent)
    if {path.name for path in work.glob("*")} - WORK_FILES:
        raise DataError(f"{work}, where the store would be made, holds other files; choose another --out")
    there = {path.name for path in out.glob("*")}
    if there and there <= STORE_FILES - {"meta.json"}:
        raise DataError(f"{out} has no meta.json: it may be vectors of clip-retrieval, no store; choose another --out")
    if there and ("meta.json" not in there or there - STORE_FILES):
        raise DataError(f"{out} holds other files and is not an embedding store; choose another --out")
    for folder, source in product((out, work), inputs):
        if folder.resolve() in (source.resolve(), *source.resolve().parents):
            itself = folder.resolve() == source.resolve()
            what = "is what is imported, and" if itself else f"holds {source}, which is imported, and"
            raise DataError(f"{folder} {what} would be replaced; choose another --out")
    if there and not overwrite:
        shutil.rmtree(work, ignore_errors=True)  # after a run that was killed when all was done
        raise DataError(f"{out} exists; choose another --out, or add --overwrite to replace it")


@contextmanager
def _made_beside(out: Path) -> Iterator[Path]:
    """Yield a folder whose `store` becomes `out` when the block ends well; it is removed in any case."""
    work = _work_folder(out)
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    try:
        (work / "store").mkdir(parents=True)
        yield work
        if out.exists():
            os.rename(out, work / "replaced")  # whole: a store that is half removed would be in the way
        os.rename(work / "store", out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _hashes(source: Source, vectors: Path, labels: Path | None) -> dict[str, str]:
    """The sha256 of every file of the input."""
    if vectors.is_dir():
        return {path.relative_to(vectors).as_posix(): sha256_of_file(path) for path in source.files}
    given = {"vectors": vectors} if labels is None else {"vectors": vectors, "labels": labels}
    return {role: sha256_of_file(path) for role, path in given.items()}


def _runs(source: Source, threads: int) -> Iterator[Run]:
    """All rows, their vectors of unit length, in the order of the input."""
    with progress(source.rows, "import", "faces") as bar:
        for run in in_order(_unit_run, source.batches(), threads=threads, ahead=4):
            bar.update(len(run))
            yield run


def _unit_run(batch: Batch) -> Run:
    halves, norms = unit_rows(batch.read())
    return Run(halves, batch.faces.append_column("norm", pa.array(norms)))


def _grouped(
    runs: Iterator[Run], source: Source, found: Grouping, options: ImportOptions, work: Path
) -> tuple[Iterator[Run], int]:
    """The rows as whole identities, which come sorted, and the number of buckets that took; 0 if they did already."""
    if found.grouped:
        return whole_identities(runs), 0
    buckets = _partitioned(runs, source, found, work / "buckets", memory=int(options.memory * 1e9))
    return buckets.runs(), len(buckets)


def _partitioned(runs: Iterator[Run], source: Source, found: Grouping, folder: Path, *, memory: int) -> Buckets:
    """Spill all rows to buckets: one fits in half of the memory, and so do twice the rows that wait to be spilled."""
    first = next(runs)
    needed = first.nbytes / len(first) * source.rows
    borders = bucket_borders(found.identities, math.ceil(needed / (memory / 2)))
    buckets = Buckets(folder, borders, dimension=source.dimension, memory=memory // 4)
    for run in chain([first], runs):
        buckets.add(run)
    return buckets


def _write(store: Path, runs: Iterator[Run], source: Source, options: ImportOptions, facts: dict[str, Any]) -> None:
    """Write whole identities, which come sorted, as a store."""
    names = source.names
    columns = {"identity_column": names.identity, "face_id_column": names.face_id, "source_column": names.source}
    # inputs are told in meta.json alone: rows in another order are another file, but must give the same shards
    made = Provenance("import", columns)
    written = write_shards(store, chain.from_iterable(map(sorted_pieces, runs)), options, made, rows=source.rows)
    if not written.faces:
        raise DataError(f"none of the {source.rows:,} vectors of {source.files[0]} is finite and not zero; give others")
    counts = {"rejected": source.rows - written.faces, "normalised": written.normalised}
    whole = {"stage": "import", "options": columns, **facts, **counts}
    write_meta(store, whole, dimension=source.dimension, shards=written.shards)
