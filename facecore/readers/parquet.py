"""Parquet files that hold the encoded images themselves, as the datasets package of Hugging Face writes them."""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.manifest import check_manifest, plain_type, sort_faces
from facecore.parquet import check_expansion
from facecore.progress import progress
from facecore.readers.files import files_ending
from facecore.readers.names import LeftOut
from facecore.storage import for_arrow

SOURCE = re.compile(r"(.+)#(\d{1,18})", re.DOTALL)  # file, row
IDENTITIES = ("identity", "label", "labels", "target", "cls", "class", "person", "person_id", "subject", "subject_id")
HELD = 1 << 28  # bytes of row groups that are kept, for the next face is often in the same one


@dataclass(frozen=True)
class _File:
    """What is known of a file from its footer."""

    path: Path
    image: str  # the column
    identity: str
    names: list[str] | None  # of a ClassLabel: what its numbers stand for
    footer: Any
    starts: "np.ndarray[tuple[int], np.dtype[np.int64]]"  # the first row of every row group, and the number of rows


class Parquet:
    """The images in a Parquet file, or in all of a folder's that have some.

    The images are a column of bytes, or of structs with a field `bytes`; the identity is the column `identity`, else
    `label` or another of IDENTITIES, by its name where it is a ClassLabel. face_id is the column `face_id` if there is
    one, else file/row; source is file#row. Rows without an identity are left out with a warning; one without an image
    is listed, and cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = {name: _described(path) for name, path in _parquet_files(root).items()}
        self._held: OrderedDict[tuple[str, int], pa.ChunkedArray] = OrderedDict()
        self._lock = Lock()

    def faces(self) -> pa.Table:
        """List the images without reading them."""
        left_out = LeftOut()
        tables = []
        with progress(len(self._files), "list", "files") as bar:
            for name, file in self._files.items():
                tables.append(_listed(name, file, left_out))
                bar.update()
        faces = pa.concat_tables(tables)
        if not len(faces):
            raise DataError(f"no images in {self._root}; its Parquet files have no rows with an identity")
        left_out.tell(self._root)
        check_manifest(faces, self._root)
        return sort_faces(faces)

    def read(self, source: str) -> bytes:
        """The encoded image of a row; raises DataError if there is none, or the file is damaged."""
        name, row = self._place(source)
        group = int(np.searchsorted(self._files[name].starts, row, side="right")) - 1
        with self._lock:  # a file of pyarrow's is not for several threads, and one of them reads for all
            images = self._group(name, group)
        value = images[row - int(self._files[name].starts[group])].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            path = value.get("path") if isinstance(value, dict) else None
            raise DataError(f"only a path and no image: {path}" if path else "no image: null")
        return bytes(data)

    def exists(self, source: str) -> bool:
        """Whether there is such a row."""
        try:
            self._place(source)
        except DataError:
            return False
        return True

    def _place(self, source: str) -> tuple[str, int]:
        match = SOURCE.fullmatch(source)
        if match is None or match[1] not in self._files or int(match[2]) >= self._files[match[1]].starts[-1]:
            raise DataError(f"no image {source} in {self._root}")
        return match[1], int(match[2])

    def _group(self, name: str, group: int) -> pa.ChunkedArray:
        """The images of a row group, read unless they were lately."""
        key = name, group
        if key not in self._held:
            file = self._files[name]
            try:
                check_expansion(file.path, [file.image], footer=file.footer, group=group)
                with pq.ParquetFile(for_arrow(file.path), metadata=file.footer) as parquet:
                    images = parquet.read_row_group(group, columns=[file.image])[file.image]
                images.validate(full=True)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"row group {group} of {file.path} cannot be read; copy the file again") from error
            if len(images) != file.starts[group + 1] - file.starts[group]:
                raise DataError(f"row group {group} of {file.path} is shorter than it says; copy the file again")
            self._held[key] = images
            while len(self._held) > 1 and sum(images.nbytes for images in self._held.values()) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]


def has_images(path: Path) -> bool:
    """Whether a Parquet file has a column of images, so that it is a data set and no manifest."""
    try:
        return bool(_image_columns(pq.read_schema(for_arrow(path))))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return False


def parquet_files_in(folder: Path) -> list[Path]:
    """The Parquet files of a folder, and of data/ in it, sorted."""
    return sorted([*files_ending(folder, ".parquet"), *files_ending(folder / "data", ".parquet")])


def _parquet_files(root: Path) -> dict[str, Path]:
    """The files by name: their paths below the folder."""
    if root.is_file():
        return {root.name: root}
    if not root.is_dir():
        raise DataError(f"no data set at {root}; give a Parquet file of images, or a folder that holds some")
    found = {path.relative_to(root).as_posix(): path for path in parquet_files_in(root) if has_images(path)}
    if not found:
        raise DataError(f"no Parquet files with a column of images in {root} or {root / 'data'}; give their folder")
    return found


def _described(path: Path) -> _File:
    try:
        footer = pq.read_metadata(for_arrow(path))
        schema = footer.schema.to_arrow_schema()
        features = _features(schema.metadata or {})
        identity = next((name for name in IDENTITIES if name in schema.names), None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a whole Parquet file; copy it again") from error
    groups = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    if identity is None:
        raise DataError(
            f"{path} has no column that says whose each image is, {', '.join(IDENTITIES[:2])} or the like, "
            f"only {', '.join(schema.names)}; rename one"
        )
    for column, what in ((identity, "an identity"), ("face_id", "a face_id")):
        kind = plain_type(schema.field(column).type) if column in schema.names else pa.string()
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(f"{path}: column {column} is {kind}, and {what} is a number or a string; cast it")
    names = features.get(identity, {}).get("names")
    image = _image_column(schema, path)
    return _File(path, image, identity, names, footer, np.cumsum([0, *groups], dtype=np.int64))


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, Any]:
    """What the datasets package says of the columns."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _image_columns(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if _holds_bytes(field.type)]


def _image_column(schema: pa.Schema, path: Path) -> str:
    found = _image_columns(schema)
    if len(found) > 1 and "image" in found:
        return "image"
    if len(found) != 1:
        raise DataError(
            f"{path} has {len(found)} columns of bytes{''.join(f', {name}' for name in found)}; "
            "name the one with the encoded images image"
        )
    return found[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = plain_type(kind)
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _listed(name: str, file: _File, left_out: LeftOut) -> pa.Table:
    """The faces of a file."""
    named = "face_id" in file.footer.schema.to_arrow_schema().names
    wanted = [file.identity, *(["face_id"] if named else [])]
    try:
        check_expansion(file.path, wanted, footer=file.footer)
        rows = pq.read_table(for_arrow(file.path), columns=wanted, partitioning=None)
        rows.validate(full=True)  # that strings are UTF-8
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path} cannot be read; copy it again") from error
    numbers = pa.array(np.arange(len(rows))).cast(pa.string())
    identity = _identities(rows[file.identity], file)
    columns = {
        "face_id": rows["face_id"].cast(pa.string()) if named else pc.binary_join_element_wise(name, numbers, "/"),
        "identity": identity,
        "source": pc.binary_join_element_wise(name, numbers, "#"),
    }
    known = pc.fill_null(pc.not_equal(identity, ""), False)
    for row in np.flatnonzero(~known.to_numpy(zero_copy_only=False)).tolist():
        left_out.add(f"have no {file.identity}", f"{name}#{row}")
    return pa.table(columns).filter(known)


def _identities(column: pa.ChunkedArray, file: _File) -> pa.ChunkedArray:
    """The names in a column of numbers or strings; null where a number of a ClassLabel has none."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if file.names is None or not pa.types.is_integer(column.type):
        return column.cast(pa.string())
    inside = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(file.names)))
    return pc.take(pa.array(map(str, file.names), pa.string()), pc.if_else(inside, column, None))
