"""Arrays in .npy files: mapped where they are local, fetched whole where they are not, or only what the head says."""

import io
import math
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from facecore.storage import is_remote, read_range, read_whole

MAX_HEAD = 4096  # bytes: ten times as many as the head of any array of vectors has
HEADS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# numpy reads a head as Python, and Python before 3.11.8 and 3.12.2 counts the depth of its parser in one place for all
# threads: of two that read a head at a time, one may fail (CPython's issue 106905)
ONE_HEAD_AT_A_TIME = Lock()


def load_npy(path: Path, mode: Literal["r", "c"] = "r") -> npt.NDArray[Any]:
    """The array of a file; a mapped one is not to be written to ("r"), or keeps what is written to itself ("c").

    Raises OSError, ValueError or EOFError unless it is a whole .npy file of numbers or strings.
    """
    stream = io.BytesIO(read_whole(path)) if is_remote(path) else None
    with ONE_HEAD_AT_A_TIME:
        if stream:
            return np.asarray(np.load(stream, allow_pickle=False))
        return np.asarray(np.load(path, mmap_mode=mode, allow_pickle=False))


class NpyHeader(NamedTuple):
    """What a .npy file says of itself before its rows."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    c_order: bool
    begin: int  # the byte at which the rows begin


def read_npy_header(path: Path) -> NpyHeader:
    """The head of a .npy file whose size agrees with it; raises OSError or ValueError if there is no such file."""
    stream = io.BytesIO(read_range(path, 0, MAX_HEAD))
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:  # numpy tells the bytes
        raise ValueError("it is no .npy file") from None
    if version not in HEADS:
        raise ValueError(f"version {version} of .npy")
    try:
        with ONE_HEAD_AT_A_TIME:
            shape, fortran_order, dtype = HEADS[version](stream)
    except Exception as error:  # numpy reads it as Python, whose parser raises several
        raise ValueError("its head is none") from error
    head = NpyHeader(shape, dtype, not fortran_order, stream.tell())
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded")
    size, told = path.stat().st_size, head.begin + math.prod(shape) * dtype.itemsize
    if size != told or min(shape, default=0) < 0:
        raise ValueError(f"it has {size:,} bytes, and its head tells of {told:,}")
    return head
