"""The text files of IJB: columns of one type each, read fast, with the line named where one is amiss."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from facecore.errors import DataError

SHOWN = 80  # characters of a line


def read_columns(path: Path, types: Mapping[str, pa.DataType], *, expected: str) -> pa.Table:
    """The columns of a file without a header, parted by single spaces or, which takes longer, by any white space.

    A boolean is 0 or 1. Raises DataError if the file is missing or empty, or naming a line that is amiss.
    """
    data = _existing(path)
    options = pa.csv.ReadOptions(column_names=list(types), use_threads=False)
    convert = pa.csv.ConvertOptions(column_types=dict(types), null_values=[], true_values=["1"], false_values=["0"])
    parse = pa.csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False)
    try:
        return pa.csv.read_csv(data, options, parse, convert)
    except pa.ArrowInvalid:
        with data.open("rb") as lines:
            plain = b"\n".join(b" ".join(line.split()) for line in lines).rstrip()
    if not plain:
        raise DataError(f"{path} is empty; expected lines of {expected}")
    try:
        return pa.csv.read_csv(io.BytesIO(plain), options, parse, convert)
    except pa.ArrowInvalid as error:
        raise _amiss(path, error, plain.split(b"\n"), expected) from None


def read_table_columns(path: Path, types: Mapping[str, pa.DataType]) -> pa.Table:
    """These columns of a CSV file with a header; raises DataError if it is missing, lacks one, or a line is amiss."""
    data = _existing(path).read_bytes().rstrip() + b"\n"
    if data == b"\n":
        raise DataError(f"{path} is empty; expected a CSV file with {' and '.join(types)}")
    try:
        return pa.csv.read_csv(
            io.BytesIO(data),
            pa.csv.ReadOptions(use_threads=False),
            pa.csv.ParseOptions(ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=dict(types), include_columns=list(types), null_values=[]),
        )
    except pa.ArrowKeyError:
        raise DataError(f"{path} lacks a column of {', '.join(types)}; expected a CSV file with both") from None
    except pa.ArrowInvalid as error:
        expected = f"as many cells as the header, {' and '.join(types)} being whole numbers"
        raise _amiss(path, error, data.split(b"\n"), expected) from None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"no file {path}, which the protocol needs; check that the folder meta is whole")
    return path


def _amiss(path: Path, error: pa.ArrowInvalid, lines: list[bytes], expected: str) -> DataError:
    row = re.search(r"Row #(\d+)", str(error))
    if row is None:
        return DataError(f"{path} cannot be read: {str(error).splitlines()[0]}; expected lines of {expected}")
    number = int(row[1])
    line = lines[number - 1].decode(errors="replace").strip()
    shown = repr(line if len(line) <= SHOWN else line[:SHOWN] + "...")
    return DataError(f"{path}:{number}: found {shown}, expected {expected}")
