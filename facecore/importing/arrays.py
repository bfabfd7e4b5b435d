"""Vectors in .npy files, each beside a file that says whose they are."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError, OptionError
from facecore.importing.labels import label_schema, label_tables, npy_rows, readable
from facecore.importing.names import Names
from facecore.importing.options import ImportOptions
from facecore.importing.source import Batch
from facecore.npy import read_npy_header


def numbered_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """img_emb/img_emb_N.npy with metadata/metadata_N.parquet in the order of N, as clip-retrieval writes them."""
    vectors, metadata = (
        {
            int(match[1]): path
            for path in (folder / name).glob("*")
            if (match := re.fullmatch(rf"{name}_(\d+)\.{suffix}", path.name))
        }
        for name, suffix in (("img_emb", "npy"), ("metadata", "parquet"))
    )
    if not vectors:
        raise DataError(f"{folder / 'img_emb'} holds no img_emb_N.npy; give another folder")
    if alone := sorted(vectors.keys() ^ metadata.keys()):
        there = vectors.get(alone[0]) or metadata[alone[0]]
        raise DataError(f"{there} has no partner; every img_emb_N.npy needs its metadata_N.parquet")
    return [(vectors[number], metadata[number]) for number in sorted(vectors)]


class Arrays:
    """One or more .npy files of vectors, row i of each described by row i of its label file."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], options: ImportOptions) -> None:
        (first, labels), *_ = pairs
        for name in ("vector_column", "dtype"):
            if getattr(options, name) is not None:
                raise OptionError(f"{name} is about a column of Parquet, but {first} is an array; leave it out")
        self.files: Sequence[Path] = [path for pair in pairs for path in pair]
        shapes = [_shape(vectors) for vectors, _ in pairs]
        self._parts = [(*pair, rows) for pair, (rows, _) in zip(pairs, shapes, strict=True)]
        self.rows, self.dimension = sum(rows for rows, _ in shapes), shapes[0][1]
        for (vectors, _), (_, dimension) in zip(pairs, shapes, strict=True):
            if dimension != self.dimension:
                raise DataError(
                    f"{vectors} has {dimension:,} numbers a row, but {first} {self.dimension:,}; "
                    "all must come from one network"
                )
        self.names = Names.among(label_schema(labels), options, labels)

    def faces(self) -> Iterator[pa.Table]:
        return (faces for _, _, faces in self._walk(self.names.needed))

    def batches(self) -> Iterator[Batch]:
        for path, start, faces in self._walk([*self.names.needed, *self.names.others]):
            yield Batch(faces, partial(npy_rows, path, start, start + len(faces)))

    def _walk(self, columns: Sequence[str]) -> Iterator[tuple[Path, int, pa.Table]]:
        """The faces of some rows at a time, and where their vectors begin."""
        number = 0
        for vectors, labels, rows in self._parts:
            seen = 0
            for table in label_tables(labels, columns):
                yield vectors, seen, self.names.faces(table, labels, row=seen, number=number + seen)
                seen += len(table)
            if seen != rows:
                raise DataError(
                    f"{vectors} has {rows:,} rows, but {labels} {seen:,}; give as many of both, in one order"
                )
            number += seen


def _shape(path: Path) -> tuple[int, int]:
    """The rows of an array in a file, and the numbers in each; raises DataError if they are not vectors."""
    with readable(path):
        array = read_npy_header(path)
    if len(array.shape) != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.shape[1]:
        raise DataError(
            f"{path} is {array.dtype} of shape {array.shape}; "
            "vectors are float16, float32 or float64 of shape (rows, dimension)"
        )
    return array.shape[0], array.shape[1]
