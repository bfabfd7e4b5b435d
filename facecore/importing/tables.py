"""Vectors in a column of Parquet, beside whose they are."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.errors import DataError, OptionError
from facecore.importing.columns import Layout, holds_bytes, holds_vectors
from facecore.importing.labels import label_tables, readable
from facecore.importing.names import Names
from facecore.importing.options import ImportOptions
from facecore.importing.source import Batch
from facecore.importing.units import Raw


class Tables:
    """Parquet files, each row a face and its vector."""

    def __init__(self, files: Sequence[Path], options: ImportOptions) -> None:
        self.files, first = files, files[0]
        with readable(first):
            schema = pq.read_schema(first).remove_metadata()
        self._column = _vector_column(schema, options.vector_column, first)
        if options.dtype is not None and not holds_bytes(schema.field(self._column).type):
            raise OptionError(f"dtype is of the bytes in a binary column, but {self._column} is a list; leave it out")
        for flag in ("identity_column", "face_id_column", "source_column"):
            if getattr(options, flag) == self._column:
                raise OptionError(f"{flag} is the column of names, but {self._column} holds the vectors; name another")
        self.names = Names.among(schema.remove(schema.get_field_index(self._column)), options, first)
        self.rows = sum(map(_rows, files))
        self._layout = Layout.of(self._sample(), options.dtype, self._where(first))
        self.dimension = self._layout.dimension
        if not self.dimension:
            raise DataError(f"{self._where(first)} begins with a vector of no numbers; choose by --vector-column")

    def faces(self) -> Iterator[pa.Table]:
        return (faces for _, _, _, faces in self._walk(self.names.needed))

    def batches(self) -> Iterator[Batch]:
        for path, row, table, faces in self._walk([*self.names.needed, *self.names.others, self._column]):
            yield Batch(faces, partial(self._vectors, table, path, row))

    def _walk(self, columns: Sequence[str]) -> Iterator[tuple[Path, int, pa.Table, pa.Table]]:
        """Some rows at a time: their file, the first one's number there, their columns, and whose they are."""
        number = 0
        for path in self.files:
            row = 0
            for table in label_tables(path, columns):
                yield path, row, table, self.names.faces(table, path, row=row, number=number + row)
                row += len(table)
            number += row

    def _sample(self) -> pa.Array:
        """The first vectors that are there; raises DataError if none is."""
        for path in self.files:
            for table in label_tables(path, [self._column]):
                if len(there := table[self._column].combine_chunks().drop_null()):
                    return there
        raise DataError(f"{self._where(self.files[0])} holds no vectors; choose by --vector-column")

    def _where(self, path: Path) -> str:
        return f"{path}: column {self._column}"

    def _vectors(self, table: pa.Table, path: Path, row: int) -> Raw:
        return self._layout.vectors(table[self._column].combine_chunks(), where=self._where(path), row=row)


def _rows(path: Path) -> int:
    with readable(path):
        return int(pq.read_metadata(path).num_rows)


def _vector_column(schema: pa.Schema, given: str | None, where: Path) -> str:
    """The column given, or the only one that can hold vectors."""
    able = [field.name for field in schema if holds_vectors(field.type)]
    if given is not None and given not in able:
        what = f"is {schema.field(given).type}" if given in schema.names else "is not there"
        raise DataError(f"{where}: column {given} {what}; vectors are lists of floats, or bytes: {_listed(able)}")
    if given is None and len(able) != 1:
        raise DataError(f"{where}: columns that can hold vectors: {_listed(able)}; choose by --vector-column")
    return able[0] if given is None else given


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "there is none"
