"""What a Parquet file would take of memory, found before it is decoded.

A dictionary, a run or a shared prefix stands for many values, so that a few kilobytes may decode to terabytes. How many
is told by the headers of the pages, by which the decoder itself goes; the footer may say anything, and is asked only
where the pages lie. Both are read here, for pyarrow has no headers, and ends the process at some damaged footers.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.storage import check_permitted, is_remote

MAX_DECODED = 1 << 30  # bytes that any file may take of memory
# Times its own size that a larger one may. Measured: a million names take 30 times what they do on disk; numbers in
# order, sharing prefixes and compressed, 284 times.
MAX_EXPANSION = 256
STEP = 1 << 26  # bytes decoded at a time where there is no telling but by decoding
HEADERS = (1 << 12, 1 << 24)  # bytes to look for a header in: nearly all fit into the first, none exceeds the second
WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
DATA_PAGES = {0: (5, 2), 3: (8, 4)}  # kinds, and where they say their encoding: in which struct's which field
PLAIN, DICTIONARIES, PREFIXES = 0, (2, 8), 7  # encodings
I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12  # types in Thrift's compact protocol
FIXED = {1: 1, 2: 1, 3: 1, 7: 8}  # bytes of truths in a list, bytes and doubles


def check_expansion(
    path: Path, columns: Sequence[str] | None = None, *, footer: Any = None, group: int | None = None
) -> None:
    """Raise DataError if columns of a Parquet file, or of one row group, would take absurdly much memory.

    That is over 1 GiB, and over 256 times the size of the file. Remote files are not looked into, for that would take a
    request a page. Raises ArrowException or OSError if the file is not whole.
    """
    if is_remote(path):
        return
    check_permitted(path)
    footer = footer or pq.read_metadata(path)
    size = path.stat().st_size
    limit = max(MAX_DECODED, MAX_EXPANSION * size)
    groups = range(footer.num_row_groups) if group is None else [group]
    try:
        with path.open("rb") as stream:
            about = _row_groups(stream)
            chunks = [_chunk(stream, footer, about, group, i) for group in groups for i in _leaves(footer, columns)]
    except (LookupError, ArithmeticError, TypeError, ValueError, RecursionError) as error:  # whatever damage leads to
        raise pa.ArrowInvalid(f"damaged: {error}") from error
    repeating = [chunk for chunk in chunks if chunk.repeating]
    surely = sum(chunk.surely for chunk in chunks)
    if surely + sum(chunk.repeating * chunk.encoded for chunk in chunks) <= limit:
        return
    if surely + sum(_longest_first(path, footer, repeating)) <= limit:
        return
    for nbytes in _decoded(path, footer, repeating) if surely <= limit else [limit]:
        surely += nbytes
        if surely > limit:
            raise DataError(
                f"{path} has {size:,} bytes and would take over {limit:,} in memory, as no list of faces does; use "
                "another file, or, if it is right, write it again without compression and dictionaries"
            )


@dataclass(frozen=True)
class _Chunk:
    """The values of one column in one row group, as its pages tell."""

    group: int
    column: str  # by its path, as `image.bytes`
    nested: bool  # in lists
    surely: int  # bytes that they take whatever they are
    encoded: int  # bytes of the pages, uncompressed: no string is longer
    repeating: int  # strings that the pages need not spell out, each that long at most
    prefixed: bool  # and not even once


def _leaves(footer: Any, columns: Sequence[str] | None) -> list[int]:
    """The columns of values of these columns, which may be structs or lists, by number."""
    paths = [footer.schema.column(i).path for i in range(footer.num_columns)]
    return [
        i
        for i, path in enumerate(paths)
        if columns is None or any(path == name or path.startswith(f"{name}.") for name in columns)
    ]


def _chunk(stream: BinaryIO, footer: Any, row_groups: Sequence[Any], group: int, number: int) -> _Chunk:
    """What the pages of a column tell; raises ValueError if they are not what the footer says."""
    kind, rows = footer.schema.column(number), footer.row_group(group).num_rows
    nested = kind.max_repetition_level > 0
    about = row_groups[group][1, LIST][number][3, STRUCT]
    start, length, expected = about[9, I64], about[7, I64], about[5, I64]
    if 0 < about.get((11, I64), 0) < start:
        start = about[11, I64]  # of the dictionary
    values: Counter[int] = Counter()  # by encoding
    encoded = 0
    # where there are no values, it need not say where
    for count, nbytes, encoding in _pages(stream, start, start + length) if rows or expected else ():
        encoded += nbytes
        values[encoding] += count
    if values.total() < max(expected, 0 if nested else rows):  # the decoder might go on to pages not seen here
        raise ValueError(f"{values.total():,} values of {expected:,}")
    strings = kind.physical_type == "BYTE_ARRAY"
    repeating = sum(values[encoding] for encoding in (*DICTIONARIES, PREFIXES)) if strings else 0
    surely = values.total() * WIDTHS.get(kind.physical_type, kind.length) + encoded
    return _Chunk(group, kind.path, nested, surely, encoded, repeating, values[PREFIXES] > 0)


def _row_groups(stream: BinaryIO) -> list[Any]:
    """The row groups as the footer, at the end of the file, describes them."""
    size = stream.seek(0, 2)
    stream.seek(max(size - 8, 0))
    length = int.from_bytes(stream.read(4), "little")
    stream.seek(max(size - 8 - length, 0))
    found: list[Any] = _struct(stream.read(length), 0)[0].get((4, LIST), [])
    return found


def _pages(stream: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The pages of a column: values, bytes when uncompressed, encoding."""
    while at < end:
        fields, length = _header(stream, at, end)
        page, uncompressed, compressed = (fields.get((number, I32), -1) for number in (1, 2, 3))
        struct, encoding = DATA_PAGES.get(page, (0, 0))
        data = fields.get((struct, STRUCT), {})
        count = data.get((1, I32), 0)
        if min(page, uncompressed, compressed, count) < 0:
            raise ValueError(f"no page at byte {at}")
        yield count, uncompressed, data.get((encoding, I32), PLAIN)
        at += length + compressed


def _header(stream: BinaryIO, at: int, end: int) -> tuple[dict[Any, Any], int]:
    """The header of a page, and its length."""
    for most in HEADERS:
        stream.seek(at)
        with contextlib.suppress(IndexError):
            return _struct(stream.read(min(most, end - at)), 0)
    raise ValueError(f"no page at byte {at}")


def _struct(data: bytes, at: int) -> tuple[dict[Any, Any], int]:
    """A struct by number and type of its fields, and where it ends: as Thrift, we take none of another type."""
    found: dict[Any, Any] = {}
    field = 0
    while head := data[at]:
        at += 1
        field += head >> 4
        if not head >> 4:
            field, at = _signed(data, at)
        if (field, head & 15) in found:
            raise ValueError(f"field {field} is there twice")
        found[field, head & 15], at = (None, at) if head & 15 in (1, 2) else _value(data, at, head & 15)
    return found, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """A whole number, list or struct, and where it ends; None for what is of no use here."""
    if kind in (I32, I64, 4):
        return _signed(data, at)
    if kind == STRUCT:
        return _struct(data, at)
    if kind == BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind == LIST:
        count, kind = data[at] >> 4, data[at] & 15
        count, at = (count, at + 1) if count < 15 else _varint(data, at + 1)
        values = []
        for _ in range(count):
            value, at = _value(data, at, kind)
            values.append(value)
        return values, at
    if kind in FIXED:
        return None, at + FIXED[kind]
    raise ValueError(f"type {kind}")


def _signed(data: bytes, at: int) -> tuple[int, int]:
    number, at = _varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where the next thing begins."""
    number = shift = 0
    while shift < 70:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
    raise ValueError("no number")


def _longest_first(path: Path, footer: Any, chunks: Sequence[_Chunk]) -> Iterator[int]:
    """What the strings of each chunk take at most, from the longest in its dictionary."""
    by_name = [chunk for chunk in chunks if not chunk.prefixed]
    yield from (chunk.repeating * chunk.encoded for chunk in chunks if chunk.prefixed)
    names = sorted({chunk.column for chunk in by_name})
    with pq.ParquetFile(path, metadata=footer, read_dictionary=names, buffer_size=1 << 16) as file:
        for chunk in by_name:
            batch = next(file.iter_batches(1, row_groups=[chunk.group], columns=[chunk.column]), None)
            yield chunk.repeating * _longest(batch.column(0)) if batch is not None else 0


def _longest(values: pa.Array) -> int:
    """The length of the longest string in a dictionary, which may lie in structs or lists."""
    while not pa.types.is_dictionary(values.type):
        values = values.field(0) if pa.types.is_struct(values.type) else values.values
    return int(pc.max(pc.binary_length(values.dictionary)).as_py() or 0)


def _decoded(path: Path, footer: Any, chunks: Sequence[_Chunk]) -> Iterator[int]:
    """What the strings take, found by decoding some at a time."""
    with pq.ParquetFile(path, metadata=footer, buffer_size=1 << 16) as file:
        for chunk in chunks:
            if chunk.nested:  # a single row may hold all of them
                yield chunk.repeating * chunk.encoded
                continue
            rows = max(1, STEP // max(chunk.encoded, 1))
            for batch in file.iter_batches(rows, row_groups=[chunk.group], columns=[chunk.column]):
                yield batch.nbytes
