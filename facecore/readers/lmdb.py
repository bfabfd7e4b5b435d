"""LMDB: a data.mdb of keys and values, as face code bases, Caffe's tools and OCR's write it; an extra.

There is no one layout. Taken are values that are an encoded image, and Caffe's Datum around one, which FaceX-Zoo and
DCP use. What is pickled is not loaded: a pickle is a program. Nor is what is packed by msgpack or pyarrow, for there is
no telling which of the many forms it has.
"""

import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import pyarrow as pa

from facecore.errors import DataError, OptionError
from facecore.progress import progress
from facecore.readers.names import Listing, is_text
from facecore.storage import is_remote

IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"RIFF")  # how JPEG, PNG, BMP and WebP begin
NUMBERED = re.compile(r"image-(\d+)")  # whose label is at label-N
DATA, LABEL = 4, 5  # fields of a Datum
SOUGHT = (
    "a face is at a key IDENTITY/image, at image-N with its label at label-N, or a Datum with a label; "
    "where a list says whose they are, open that list, with --images the database"
)


class Lmdb:
    """The images of an LMDB, a file or the folder of a data.mdb, which is only read, and without a lock.

    The identity is the label of a Datum that has one, else the first folder of the key; of a key image-N it is the text
    at label-N. face_id and source are the key. Keys that begin with __, and num-samples, are ignored.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._database = _opened(root)
        self._datum = False  # whether the values are Datums; the first one tells
        for key in self._keys():
            self._datum = self._holds_datums(key)
            break

    def faces(self) -> pa.Table:
        """List the keys; raises DataError if none is a face."""
        if not self._database.entries:
            raise DataError(f"{self._root} is an empty LMDB; write it again with the code that made it")
        listing = Listing(self._root)
        with progress(self._database.entries, "list", "keys") as bar:
            for key in self._keys():
                bar.update()
                name = key.decode("utf-8", "surrogateescape")
                identity = self._identity(key, name)
                if not is_text(name):
                    listing.left_out.add("have keys that are not UTF-8", name)
                elif identity is None:
                    listing.left_out.add("do not say whose they are", name)
                else:
                    listing.add(name, identity, name)
        return listing.table(SOUGHT)

    def read(self, source: str) -> bytes:
        """The encoded image at a key; raises DataError if there is none."""
        value = self._database.get(source.encode("utf-8", "surrogateescape"))
        if value is None:
            raise DataError(f"no key {source} in {self._root}")
        try:
            return _fields(value)[DATA] if self._datum else value
        except (KeyError, ValueError):
            raise DataError("no Datum with an image") from None

    def exists(self, source: str) -> bool:
        """Whether there is such a key."""
        return self._database.get(source.encode("utf-8", "surrogateescape")) is not None

    def _keys(self) -> Iterator[bytes]:
        """The keys of images, in order."""
        for key in self._database.keys():
            if not key.startswith((b"__", b"label-")) and key != b"num-samples":
                yield key

    def _identity(self, key: bytes, name: str) -> str | None:
        if self._datum:
            try:
                label = _fields(self._database.get(key) or b"").get(LABEL)
            except ValueError:
                label = None  # `read` will say that it is no Datum
            if label is not None:
                return str(label)
        if match := NUMBERED.fullmatch(name):
            text = self._database.get(f"label-{match[1]}".encode())
            return text.decode("utf-8", "replace").strip() or None if text else None
        folder, slash, _ = name.partition("/")
        return folder if slash and folder else None

    def _holds_datums(self, key: bytes) -> bool:
        """Whether a value is a Datum, and not an image; raises DataError if it is neither."""
        value = self._database.get(key) or b""
        if value.startswith(IMAGES):
            return False
        try:
            if _fields(value)[DATA].startswith(IMAGES):
                return True
            what = "a Datum of something else than an encoded image"
        except (KeyError, ValueError):
            what = _described(value)
        raise DataError(
            f"{self._root}: the value at key {key.decode('utf-8', 'replace')!a} is {what}; "
            "facecore reads encoded images, and Datums of them: write those, or a folder, with the code that made it"
        )


def _described(value: bytes) -> str:
    if value[:1] == b"\x80" and value[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickled, which could run anything and was not loaded"
    if value[:1] and (0x81 <= value[0] <= 0x9F or 0xDC <= value[0] <= 0xDF):
        return "packed by msgpack, it seems"
    return f"no image, but bytes that begin with {value[:8].hex(' ')}" if value else "empty"


def _fields(value: bytes) -> dict[int, Any]:
    """The numbers and byte strings of a protobuf message, by field; raises ValueError if it is none."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(value):
        tag, at = _varint(value, at)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            found[field], at = _varint(value, at)
            continue
        length, at = _varint(value, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if not field or not 0 <= length <= len(value) - at:
            raise ValueError("no message")
        if kind == 2:
            found[field] = value[at : at + length]
        at += length
    return found


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where the next thing begins."""
    number = 0
    for i, byte in enumerate(value[at : at + 10]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            signed: int = struct.unpack("<q", struct.pack("<Q", number & 0xFFFFFFFFFFFFFFFF))[0]
            return signed, at + i + 1
    raise ValueError("no number")


@contextmanager
def _whole(file: Path) -> Iterator[None]:
    """Raise DataError where LMDB finds a page that is not what it should be; at some, it ends the process instead."""
    import lmdb

    try:
        yield
    except lmdb.Error as error:
        raise DataError(f"{file} is damaged ({error}); copy it again") from error


class _Database:
    """An open LMDB; a process may open each only once. Without a lock, forked ones may go on with their parent's."""

    def __init__(self, environment: Any, file: Path) -> None:
        self._environment, self._file = environment, file
        self.entries = int(environment.stat()["entries"])

    def keys(self) -> Iterator[bytes]:
        with _whole(self._file), self._environment.begin() as transaction:
            yield from transaction.cursor().iternext(values=False)

    def get(self, key: bytes) -> bytes | None:
        if not 0 < len(key) <= self._environment.max_key_size():
            return None
        with _whole(self._file), self._environment.begin() as transaction:
            value: bytes | None = transaction.get(key)
            return value


_OPEN: "WeakValueDictionary[str, _Database]" = WeakValueDictionary()
_OPENING = threading.Lock()


def _opened(root: Path) -> _Database:
    """Raises DataError if there is no whole LMDB, OptionError if the package is not installed."""
    if is_remote(root):
        raise DataError(f"{root}: an LMDB is mapped into memory, so only a local one can be read; copy it here")
    file = root / "data.mdb" if root.is_dir() else root
    if not file.is_file():
        raise DataError(f"no data set at {root}; give a data.mdb of LMDB, or its folder")
    try:
        import lmdb
    except ImportError:
        raise OptionError(f"{root} is an LMDB; to read it, pip install 'facecore[lmdb]'") from None
    place = os.path.realpath(file)
    with _OPENING:
        if (database := _OPEN.get(place)) is not None:
            return database
        with file.open("rb") as stream:  # an OSError that names the file, where lmdb would call it damaged
            if not stream.read(1):
                raise DataError(f"{file} is empty; copy it again")
        try:
            environment = lmdb.open(
                str(file), subdir=False, readonly=True, lock=False, create=False, readahead=False, meminit=False
            )
            pages = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        except lmdb.Error as error:
            raise DataError(f"{file} is no LMDB: {str(error).removeprefix(f'{file}: ')}; copy it again") from error
        if file.stat().st_size < pages:  # to read beyond its end would end the process
            environment.close()
            raise DataError(f"{file} has {file.stat().st_size:,} bytes of {pages:,}; it was cut short, copy it again")
        return _OPEN.setdefault(place, _Database(environment, file))
