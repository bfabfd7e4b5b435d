"""Rows withdrawn from an embedding store: only the shards that hold them are written again."""

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.embeddings import Embeddings, metadata_path, vectors_path, write_meta, write_shard
from facecore.errors import DataError
from facecore.forget.listing import Listing
from facecore.forget.names import NAMING, Forgotten
from facecore.forget.receipt import WAITING, FileEntry, entry_of, waiting_path
from facecore.manifest import provenance_of
from facecore.npy import load_npy
from facecore.provenance import Provenance


class Store:
    """An embedding store, and its list of rejected faces."""

    def __init__(self, path: Path) -> None:
        try:
            self._store = Embeddings.open(path)
        except DataError as error:
            if any(path.rglob("*" + WAITING)):
                raise DataError(
                    f"{path} was left half-way by a facecore forget that was stopped; "
                    "run it again as it was, with the same --receipt, and it goes on"
                ) from error
            raise
        self._path = path
        rejected = path / "rejected.parquet"
        self._rejected = [Listing(rejected)] if rejected.exists() else []

    def names(self) -> Iterator[pa.Table]:
        """The face_id and identity of every row, the rejected ones, too."""
        for number in range(len(self._store)):
            yield self._store.faces(number, ["face_id", "identity"])
        for listing in self._rejected:
            yield from listing.names()

    def withdraw(self, who: Forgotten, *, write: bool) -> list[FileEntry]:
        """Count the rows to go and the rivals to be cleared, and let the files without them wait if `write`."""
        entries = [entry for listing in self._rejected for entry in listing.withdraw(who, write=write)]
        changed = {}
        for number in range(len(self._store)):
            names = [name for name in NAMING if name in pq.read_schema(metadata_path(self._path, number)).names]
            if any(counts := who.counts(self._store.faces(number, names))):
                changed[number] = counts
        if not changed and not entries:
            return []
        if write:
            removed = sum(entry.rows_removed for entry in entries)
            self._write(who, changed, rejected=removed, forgotten=removed + sum(rows for rows, _ in changed.values()))
        for number, (rows, rivals) in changed.items():
            entries.append(entry_of(vectors_path(self._path, number), rows=rows, written=write))
            entries.append(entry_of(metadata_path(self._path, number), rows=rows, rivals=rivals, written=write))
        return [*entries, entry_of(self._path / "meta.json", written=write)]

    def discard(self) -> None:
        """Remove what waits, of a run that came to nothing."""
        shutil.rmtree(self._view, ignore_errors=True)
        for path in self._path.rglob("*" + WAITING):
            path.unlink()

    @property
    def _view(self) -> Path:
        return self._path / WAITING

    def _write(self, who: Forgotten, changed: Collection[int], *, rejected: int, forgotten: int) -> None:
        """Make the store as it will be in a folder of it, with links to the shards that stay, and let what is new wait.

        Thus meta.json is written and checked as that of any store.
        """
        for number in range(len(self._store)):
            self._store.check_unchanged(number)  # or else the new meta.json would vouch for what is there
            if number in changed:
                self._write_shard(number, who)
            else:
                for path in (vectors_path, metadata_path):
                    link = path(self._view, number)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    os.symlink(path(self._path, number).absolute(), link)
        meta = self._store.meta
        facts = {**meta, "forgotten": meta.get("forgotten", 0) + forgotten}
        if "rejected" in meta:
            facts["rejected"] -= rejected
        write_meta(self._view, facts, dimension=self._store.dimension, shards=len(self._store))
        Embeddings.open(self._view)
        for number in changed:
            for path in (vectors_path, metadata_path):
                os.replace(path(self._view, number), waiting_path(path(self._path, number)))
        os.replace(self._view / "meta.json", waiting_path(self._path / "meta.json"))
        shutil.rmtree(self._view)

    def _write_shard(self, number: int, who: Forgotten) -> None:
        faces = self._store.faces(number)
        made = provenance_of(metadata_path(self._path, number)) or Provenance("forget")
        halves = load_npy(vectors_path(self._path, number))[~who.rows(faces)]
        # its facts were about the rows as they were planned; without them, embed will not go on and bring anyone back
        write_shard(self._view, number, halves, who.without(faces).combine_chunks(), replace(made, facts={}))
