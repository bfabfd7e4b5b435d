"""Whose face each row is: label files of four kinds, read as small tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from facecore.errors import DataError, FacecoreError
from facecore.npy import load_npy, read_npy_header
from facecore.parquet import check_expansion

BATCH = 8192  # rows read at a time: 16 MB of 512 floats
SUFFIXES = (".npy", ".txt", ".csv", ".parquet")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a library says of a file that it cannot read into one line."""
    try:
        yield
    except (FacecoreError, OSError):
        raise
    except Exception as error:  # numpy reads a head as Python, whose parser raises several; Arrow has its own
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):  # as Arrow says it
            raise DataError(f"{path} holds names that are not UTF-8; save it as such") from error
        line = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{path} cannot be read: {line}; write it again as {path.suffix}") from error


def label_schema(path: Path) -> pa.Schema:
    """The columns of a label file; a .npy or .txt file has one, the identity."""
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} is no file of labels; give a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    if not path.is_file():
        raise DataError(f"no labels at {path}; give a file that says whose face each row is")
    with readable(path):
        if path.suffix == ".parquet":
            return pq.read_schema(path).remove_metadata()
        names = ["identity"]
        if path.suffix == ".csv":
            with csv.open_csv(path) as stream:
                names = stream.schema.names
        return pa.schema([(name, pa.string()) for name in names])


def label_tables(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Some columns of a label file as tables of at most BATCH rows; raises DataError if it cannot be read."""
    read = {".npy": _from_npy, ".txt": _from_txt, ".csv": _from_csv, ".parquet": _from_parquet}[path.suffix]
    with readable(path):
        for table in read(path, columns):
            for start in range(0, len(table), BATCH):
                yield table.slice(start, BATCH)


def npy_rows(path: Path, start: int, stop: int) -> npt.NDArray[Any]:
    """Some rows of an array in a file; the file is mapped no longer than that, for mapped pages count as memory."""
    rows = np.array(load_npy(path)[start:stop])
    return rows.astype(rows.dtype.newbyteorder("="), copy=False)


def _from_npy(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    labels = read_npy_header(path)
    if len(labels.shape) != 1 or labels.dtype.kind not in "iuUS":
        raise ValueError(f"labels are one string or whole number a row, not {labels.dtype} of shape {labels.shape}")
    for start in range(0, labels.shape[0], BATCH):
        yield pa.table({"identity": pa.array(npy_rows(path, start, start + BATCH)).cast(pa.string())})


def _from_txt(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    with path.open(encoding="utf-8-sig") as stream:
        while lines := [line.rstrip("\n") for line in islice(stream, BATCH)]:
            yield pa.table({"identity": pa.array(lines, pa.string())})


def _from_csv(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    # as text, or 007 would become 7
    text = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), include_columns=list(columns))
    with csv.open_csv(path, convert_options=text, parse_options=csv.ParseOptions(newlines_in_values=True)) as stream:
        for batch in stream:
            yield pa.Table.from_batches([batch])


def _from_parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    # without this, the whole file is read ahead, and held
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise ValueError(f"it has no column {missing[0]}, as the first file has")
        check_expansion(path, columns, footer=file.metadata)
        for batch in file.iter_batches(batch_size=BATCH, columns=list(columns)):
            yield pa.Table.from_batches([batch])
