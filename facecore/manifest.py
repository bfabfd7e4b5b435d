"""The manifest: one row a face, as Parquet with its provenance in the footer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError, OptionError
from facecore.parquet import check_expansion
from facecore.provenance import FOOTER_KEY, Provenance, written_whole
from facecore.storage import for_arrow, opened

COLUMNS = ("face_id", "identity", "source")
_UNIQUE = {"face_id", "source", "rival"}
SORTED_CHUNK = 1 << 20  # rows


def manifest_table(columns: Mapping[str, Sequence[str]]) -> pa.Table:
    """A table of string columns, sorted by identity, then face_id, so that every listing order gives the same bytes."""
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return sort_faces(table)


def sort_faces(table: pa.Table) -> pa.Table:
    """The rows sorted by identity, then face_id, compared as UTF-8 bytes."""
    order = pc.sort_indices(table, sort_keys=[("identity", "ascending"), ("face_id", "ascending")])
    return pa.concat_tables(rows_in_order(table, order))


def rows_in_order(table: pa.Table, order: pa.Array, *, chunk: int = SORTED_CHUNK) -> Iterator[pa.Table]:
    """Yield the rows of these numbers, in this order, in tables of at most `chunk` rows; one at least."""
    # a string array holds at most 2 GiB, less than the paths of 42 M faces: gather from large_string, chunk by chunk
    wide = [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in table.schema]
    whole = table.cast(pa.schema(wide)).combine_chunks()
    for start in range(0, max(len(order), 1), chunk):
        yield whole.take(order.slice(start, chunk)).cast(table.schema)


def check_manifest(table: pa.Table, where: Path) -> None:
    """Raise DataError unless the three columns are there as strings without nulls, and face_id is unique.

    An empty face_id or identity is none either.
    """
    for name in COLUMNS:
        if name not in table.column_names:
            raise DataError(f"{where} has no column {name}; a manifest has the string columns {', '.join(COLUMNS)}")
        column = table[name]
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise DataError(f"{where}: column {name} is {column.type}, not string; cast it and write the file again")
        if column.null_count:
            raise DataError(f"{where}: column {name} has {column.null_count:,} nulls; every face needs one")
        if name != "source" and (empty := pc.sum(pc.equal(pc.binary_length(column), 0)).as_py()):
            raise DataError(f"{where}: column {name} is empty for {empty:,} faces; every face needs one")
    # as large_string, for all of them may take more than the 2 GiB that a table of strings may hold
    repeated = len(table) - pc.count_distinct(table["face_id"].cast(pa.large_string())).as_py()
    if repeated:
        raise DataError(f"{where}: {repeated:,} faces repeat the face_id of another; each face needs its own")


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries, which may differ from table to table, and views, whose rows Arrow cannot take."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([_plain(kind.field(at)) for at in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain(kind.value_field))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_field), getattr(kind, "list_size", -1))
    return {"string_view": pa.string(), "binary_view": pa.binary()}.get(str(kind), kind)  # pyarrow 15 has no views


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(plain_type(field.type))


def check_manifest_path(path: Path) -> None:
    """Raise OptionError unless a path ends as manifests do: what is called otherwise is none, and not replaced."""
    if path.suffix != ".parquet":
        raise OptionError(f"{path} does not end in .parquet, the format of manifests; choose another --out")


def dropped_path(subset: Path) -> Path:
    """Where the faces that did not make it into a subset are listed: beside it."""
    return subset.parent / f"{subset.stem}.dropped.parquet"


def read_manifest(path: Path) -> tuple[pa.Table, Provenance | None]:
    """The rows of a manifest, checked, and what made it (None if facecore did not); columns have their `plain_type`.

    Raises DataError if the file is missing, not Parquet, or not a manifest, or would take absurdly much memory.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a manifest; facecore nms writes one")
    if not path.is_file():
        raise missing(path)
    try:
        check_expansion(path)
        table = pq.read_table(for_arrow(path))
        table.validate(full=True)  # that names are UTF-8
        table = table.cast(pa.schema([_plain(field) for field in table.schema]))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        raise unreadable(path) from error
    check_manifest(table, path)
    return table.replace_schema_metadata(), provenance_of(path)


def missing(path: Path) -> DataError:
    """What to say of a manifest that is not there."""
    if path.name.endswith(".dropped.parquet"):
        return DataError(
            f"no {path}, which lists the dropped faces of a subset; put it back beside that, or run facecore nms again"
        )
    return DataError(f"no manifest at {path}; facecore nms writes one")


def unreadable(path: Path) -> DataError:
    """What to say of a file that was given as a manifest, and that Arrow cannot read."""
    with opened(path) as stream:
        if stream.read(4) == b"PAR1":
            return DataError(f"{path} is not a whole Parquet file; copy it again, or run again what wrote it")
    return DataError(
        f"{path} is no Parquet file; facecore nms writes manifests, and embed, export, quantize and train take lists "
        "(.txt, .lst), too"
    )


def provenance_of(path: Path) -> Provenance | None:
    """What made a Parquet file, from its footer; None if facecore did not."""
    footer = pq.read_metadata(for_arrow(path)).metadata or {}
    try:
        return Provenance.from_json(footer[FOOTER_KEY])
    except (KeyError, ValueError):
        return None


def with_provenance(schema: pa.Schema, provenance: Provenance) -> pa.Schema:
    """The schema with the provenance as its only metadata."""
    return schema.with_metadata({FOOTER_KEY: provenance.to_json().encode()})


def write_manifest(table: pa.Table, path: Path, provenance: Provenance, *, shared: bool = False) -> None:
    """Write a checked table as zstd Parquet, whole or not at all, see `written_whole`."""
    check_manifest(table, path)
    with written_whole(path, shared=shared) as part:
        pq.write_table(table.cast(with_provenance(table.schema, provenance)), part, compression="zstd")


def repeating(schema: pa.Schema) -> list[str]:
    """The columns worth a dictionary: of names that differ on every row, looking for repetition doubles the time."""
    return [field.name for field in schema if field.name not in _UNIQUE and not pa.types.is_floating(field.type)]


class RowGroups:
    """A Parquet file written table by table in row groups of one size, so that its bytes tell nothing of the tables."""

    ROWS = 1 << 17

    def __init__(self, path: Path, provenance: Provenance) -> None:
        self._path, self._provenance = path, provenance
        self._writer: pq.ParquetWriter | None = None
        self._waiting: pa.Table | None = None

    def __enter__(self) -> "RowGroups":
        return self

    def write(self, table: pa.Table) -> None:
        """Add rows; the first table settles the schema."""
        if self._writer is None:
            schema = with_provenance(table.schema, self._provenance)
            self._writer = pq.ParquetWriter(
                self._path, schema, compression="zstd", use_dictionary=repeating(table.schema)
            )
        table = table if self._waiting is None else pa.concat_tables([self._waiting, table])
        while len(table) >= self.ROWS:
            self._flush(table.slice(0, self.ROWS))
            table = table.slice(self.ROWS)
        self._waiting = table

    def _flush(self, table: pa.Table) -> None:
        assert self._writer is not None
        self._writer.write_table(table.combine_chunks().cast(self._writer.schema), row_group_size=self.ROWS)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:
            if kind is None and self._waiting is not None:
                self._flush(self._waiting)
            self._writer.close()
