"""From the columns of an input to those of a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facecore.errors import DataError
from facecore.importing.options import ImportOptions
from facecore.manifest import COLUMNS, plain_type

DIGITS = 9  # of a row number that stands for a face_id: so padded, names sort as rows do


@dataclass(frozen=True)
class Names:
    """Which columns of an input become which of a manifest, and which ride along, as what type."""

    identity: str
    face_id: str | None  # None: the row number
    source: str | None  # None: the face_id
    others: Mapping[str, pa.DataType]

    @classmethod
    def among(cls, there: pa.Schema, options: ImportOptions, where: Path) -> "Names":
        """Find the columns that the options name; raises DataError if one is not there, or a name is twice."""
        if repeated := sorted({name for name in there.names if there.names.count(name) > 1}):
            raise DataError(f"{where} has {there.names.count(repeated[0])} columns {repeated[0]}; leave one of them")
        if not there.names:
            raise DataError(f"{where} has no column but that of the vectors; add one that says whose face each row is")
        for flag in ("identity_column", "face_id_column", "source_column"):
            column = getattr(options, flag)
            if column is not None and column not in there.names:
                option = "--" + flag.replace("_", "-")
                raise DataError(f"{where} has no column {column}, but {', '.join(there.names)}; choose by {option}")
        face_id = options.face_id_column or ("face_id" if "face_id" in there.names else None)
        source = options.source_column or ("source" if "source" in there.names else None)
        taken = {options.identity_column, face_id, source, "norm", *COLUMNS}
        # what a CSV holds besides has no type, and is left there
        others = {} if where.suffix == ".csv" else {field.name: plain_type(field.type) for field in there}
        return cls(options.identity_column, face_id, source, {k: v for k, v in others.items() if k not in taken})

    @property
    def needed(self) -> list[str]:
        """The columns that say whose face a row is, and what it is called; each once."""
        return list(dict.fromkeys(name for name in (self.identity, self.face_id, self.source) if name))

    def faces(self, table: pa.Table, where: Path, *, row: int, number: int) -> pa.Table:
        """Rows of the input as rows of a manifest; the first is `row` of its file and `number` of all.

        Raises DataError if a column cannot be names, or one is missing.
        """
        identity = _texts(table, self.identity, where, row)
        if self.face_id is None:
            numbers = pa.array(np.arange(number, number + len(table))).cast(pa.string())
            face_id = pa.chunked_array([pc.utf8_lpad(numbers, DIGITS, "0")])
        else:
            face_id = _texts(table, self.face_id, where, row)
        source = face_id if self.source is None else _texts(table, self.source, where, row)
        others = {k: _alike(table[k], kind, k, where) for k, kind in self.others.items() if k in table.column_names}
        return pa.table({"face_id": face_id, "identity": identity, "source": source, **others})


def _alike(column: pa.ChunkedArray, kind: pa.DataType, name: str, where: Path) -> pa.ChunkedArray:
    """A column that rides along, as the type it has in the first file."""
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise DataError(f"{where}: column {name} is {column.type}, but {kind} in the first file; make it so") from error


def _texts(table: pa.Table, name: str, where: Path, row: int) -> pa.ChunkedArray:
    kind = plain_type(table[name].type)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise DataError(f"{where}: column {name} is {kind}; names are strings or whole numbers, so cast it")
    texts = table[name].cast(pa.string())
    empty = pc.fill_null(pc.equal(pc.binary_length(texts), 0), True).to_numpy()
    if empty.any():
        first = row + int(empty.argmax())
        raise DataError(f"{where}: row {first:,}, counted from 0, has no {name}; give it one, or leave the row out")
    return texts
