"""InsightFace's .bin files: a pickle of (2N encoded images, N booleans), read without trusting it.

A pickle is a program. Its instructions can only call what `find_class` hands out, so here that hands out inert
stand-ins: they write down what they were called with, and the few arrays a .bin may hold are put together from those
notes after the pickle has run. No code of numpy, or of anything else, is within a pickle's reach.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from facecore.errors import DataError
from facecore.manifest import sort_faces
from facecore.storage import read_whole

RECONSTRUCT, FROM_BUFFER, SCALAR, DTYPE, ENCODE = "_reconstruct", "_frombuffer", "scalar", "dtype", "encode"

# What numpy's own pickles of arrays and booleans name, under the modules' old and new addresses; _codecs.encode is how
# Python 3 spells a byte string in the protocols of Python 2.
ADMITTED = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): DTYPE,
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): SCALAR,
    ("numpy._core.multiarray", "scalar"): SCALAR,
    ("numpy.core.numeric", "_frombuffer"): FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): FROM_BUFFER,
    ("_codecs", "encode"): ENCODE,
}


class _RefusedError(Exception):
    """A pickle holds something else than byte strings and booleans; the message names it."""


class _Note:
    """What a pickle wanted made: by which stand-in, from which arguments, with which state."""

    __slots__ = ("args", "maker", "state")

    def __init__(self, maker: str, args: tuple[Any, ...]) -> None:
        self.maker, self.args, self.state = maker, args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _StandIn:
    """In the place of something importable: calling it makes a note; without a `__dict__`, nothing can be set on it."""

    __slots__ = ("maker",)

    def __init__(self, maker: str) -> None:
        self.maker = maker

    def __call__(self, *args: Any) -> "bytes | _Note":
        if self.maker != ENCODE:
            return _Note(self.maker, args)
        if len(args) != 2 or type(args[0]) is not str or args[1] != "latin1":
            raise _RefusedError("a call of _codecs.encode")
        return args[0].encode("latin1")

    def __setstate__(self, state: Any) -> NoReturn:
        raise _RefusedError(f"a changed {self.maker}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _StandIn:
        maker = ADMITTED.get((module, name))
        if maker is None:
            raise _RefusedError(f"{module}.{name}")
        return _StandIn(maker)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError("a persistent id")


class Bin:
    """The distinct images of a .bin file, each an identity of its own, for the file does not say whose they are.

    face_id, identity and source are the place of the image in the file, the first one where it is there repeatedly.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_file():
            raise DataError(f"no data set at {root}; give a .bin file of InsightFace's")
        self._path = root
        first: dict[bytes, str] = {}
        for number, data in enumerate(read_pairs(root)[0]):
            first.setdefault(data, str(number))
        self._images = {place: data for data, place in first.items()}

    def faces(self) -> pa.Table:
        """List the images."""
        if not self._images:
            raise DataError(f"no images in {self._path}; check that it is the whole file")
        places = pa.array(self._images, pa.string())
        return sort_faces(pa.table({"face_id": places, "identity": places, "source": places}))

    def read(self, source: str) -> bytes:
        """The encoded image at a place; raises DataError if it is not one that `faces` lists."""
        if source not in self._images:
            raise DataError(f"no image {source} in {self._path}")
        return self._images[source]

    def exists(self, source: str) -> bool:
        """Whether `faces` lists an image at a place."""
        return source in self._images


def read_pairs(path: Path) -> tuple[list[bytes], list[bool]]:
    """The 2N encoded images of a .bin file, and for each pair of them whether both show one person, (N,).

    Raises DataError if the file holds anything but images and booleans.
    """
    try:
        return _unpickled(read_whole(path))
    except _RefusedError as refusal:
        what = str(refusal).encode("unicode_escape").decode()[:120]  # a pickle may name anything; keep it to one line
        raise DataError(
            f"{path} holds {what}, which is neither a byte string nor a boolean; "
            "it was refused and nothing of it was run"
        ) from None
    except ValueError as error:
        raise DataError(f"{path} is not an InsightFace .bin: {error}; download or write it again") from None


def _unpickled(data: bytes) -> tuple[list[bytes], list[bool]]:
    """2N encoded images and N booleans; raises _RefusedError, or ValueError if damaged or of another form."""
    try:
        # encoding="bytes": the byte strings of a Python 2 pickle come as they are
        whole = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except _RefusedError:
        raise
    except Exception:  # a damaged pickle raises almost anything: EOFError, KeyError, MemoryError, UnpicklingError ...
        raise ValueError("it is not a whole pickle") from None
    if type(whole) not in (tuple, list) or len(whole) != 2:
        raise ValueError(f"expected a list of images and a list of booleans, found {_kind(whole)}")
    encoded = [_image(item) for item in _items(whole[0])]
    same = [_boolean(item) for item in _items(whole[1])]
    if len(encoded) != 2 * len(same):
        raise ValueError(f"it has {len(encoded):,} images for {len(same):,} booleans, expected twice as many")
    return encoded, same


def _items(value: Any) -> list[Any]:
    if type(value) in (list, tuple):
        return list(value)
    if isinstance(value, _Note):
        return [bool(item) for item in _array(value, "b1")]
    raise _RefusedError(_kind(value))


def _image(item: Any) -> bytes:
    return item if type(item) is bytes else _array(item, "u1").tobytes()


def _boolean(item: Any) -> bool:
    if type(item) is bool:
        return item
    if isinstance(item, _Note) and item.maker == SCALAR and len(item.args) == 2:
        dtype, data = item.args
        if _code(dtype) == "b1" and data in (b"\0", b"\1"):
            return bool(data == b"\1")
    raise _RefusedError(_kind(item))


def _array(item: Any, code: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The one-dimensional array of one-byte items that a note describes; raises _RefusedError for any other."""
    match item:
        case _Note(maker="_reconstruct", state=(_, (int(length),), dtype, _, bytes(data))):
            pass
        case _Note(maker="_frombuffer", args=(bytes() | bytearray() as data, dtype, (int(length),), _)):
            pass
        case _:
            raise _RefusedError(_kind(item))
    array = np.frombuffer(bytes(data), np.uint8)
    if _code(dtype) != code or len(array) != length or (code == "b1" and np.any(array > 1)):
        raise _RefusedError(_kind(item))
    return array


def _code(dtype: Any) -> str:
    """The code of a noted dtype, as b1 or u1; Python 2 has it as bytes."""
    match dtype:
        case _Note(maker="dtype", args=(str(code), *_)):
            return code
        case _Note(maker="dtype", args=(bytes(code), *_)):
            return code.decode("latin1")
    return ""


def _kind(item: Any) -> str:
    if isinstance(item, _Note | _StandIn):
        return "a numpy array or scalar of another type"
    return f"an item of type {type(item).__name__}"
