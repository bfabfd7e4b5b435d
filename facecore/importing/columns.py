"""Columns of Arrow that hold a vector a row, as lists of floats or as bytes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from facecore.errors import DataError
from facecore.importing.options import DTYPES
from facecore.importing.units import Raw, is_unit, unit_rows


def holds_vectors(kind: pa.DataType) -> bool:
    """Whether a column of an Arrow type can hold vectors."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return bool(pa.types.is_floating(kind.value_type))
    return holds_bytes(kind)


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of an Arrow type holds bytes, which do not say what numbers they are."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


@dataclass(frozen=True)
class Layout:
    """How a column spells a vector."""

    width: int  # numbers in a list, or bytes
    dtype: np.dtype[Any] | None  # of the numbers in bytes; None for lists, which say

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return self.width // self.itemsize

    @property
    def itemsize(self) -> int:
        """What a number adds to the width."""
        return 1 if self.dtype is None else self.dtype.itemsize

    @classmethod
    def of(cls, sample: pa.Array, dtype: str | None, where: str) -> "Layout":
        """Find the layout from some vectors, none of them null, and for bytes the dtype where the user gave one.

        Raises DataError if the bytes are no whole number of numbers, or could be numbers of either dtype.
        """
        width = int(widths(sample)[0])
        if not holds_bytes(sample.type):
            return cls(width, None)
        layouts = {name: cls(width, np.dtype(name)) for name in DTYPES}
        fitting = {name: layout for name, layout in layouts.items() if width % layout.itemsize == 0}
        if not fitting.keys() & {dtype or "float16"}:
            raise DataError(
                f"{where} has {width:,} bytes a row, no whole number of {dtype or 'floats'}; change --dtype"
            )
        # read as the other, no vector keeps unit length: pairs of halves are floats near zero, and half of a float
        # is anything, 1 in 32 not even finite
        unit = [name for name, layout in fitting.items() if _mostly_unit(layout.vectors(sample, where=where, row=0))]
        if dtype is not None:
            if unit and dtype not in unit:
                raise DataError(f"{where} holds vectors of unit length as {unit[0]}, not as {dtype}; leave --dtype out")
            return fitting[dtype]
        if len(found := unit if len(fitting) > 1 else list(fitting)) != 1:
            raise DataError(f"{where} has {width:,} bytes a row, of float16 or of float32; say which by --dtype")
        return fitting[found[0]]

    def vectors(self, column: pa.Array, *, where: str, row: int) -> Raw:
        """The vectors of a column, (n, dimension); a null vector is NaN, and so is a null number.

        `row` is the number of the first. Raises DataError if one is longer or shorter than the others.
        """
        there = column.is_valid().to_numpy(zero_copy_only=False)
        wrong = there & (widths(column) != self.width)
        if wrong.any():
            first, unit = int(wrong.argmax()), "numbers" if self.dtype is None else "bytes"
            raise DataError(
                f"{where}: row {row + first:,}, counted from 0, has a vector of {widths(column)[first]:,} {unit}, "
                f"but the first has {self.width:,}; all must come from one network, so leave the row out"
            )
        if self.dtype is None:
            values = column.flatten().to_numpy(zero_copy_only=False)  # without what a null holds
        else:
            values = np.frombuffer(b"".join(column.drop_null().to_pylist()), self.dtype)
        raw = np.full((len(column), self.dimension), np.nan, values.dtype)
        raw[there] = values.reshape(-1, self.dimension)
        return raw


def widths(column: pa.Array) -> npt.NDArray[np.int64]:
    """The numbers, or the bytes, in each vector of a column, (n,); 0 for a null."""
    measure = pc.binary_length if holds_bytes(column.type) else pc.list_value_length
    found: npt.NDArray[np.int64] = pc.fill_null(measure(column), 0).to_numpy().astype(np.int64)
    return found


def _mostly_unit(raw: Raw) -> bool:
    return bool(is_unit(unit_rows(raw)[1]).mean() > 0.5)  # some may be zeros
