"""Where data lie: in local files, and by the extra `remote` on object storage, at addresses as s3://bucket/faces.

An address is a UPath, of the package universal_pathlib: it answers to what pathlib's paths do, and is called a Path all
over facecore. It is none to the operating system, though, nor to os.path, open, pyarrow or numpy: what reads by those,
reads through the functions here. And text becomes a path by `located` alone, for Path("s3://a") is s3:/a.
"""

import errno
import glob
import io
import os
import re
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from facecore.errors import DataError, OptionError, StorageError

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
ON_DISK = ("file", "local")  # schemes of local paths
DOUBTFUL = ("exists", "isdir", "isfile", "find", "glob")  # what fsspec answers with no, or nothing, after any error
BLOCK = 1 << 20  # bytes of a remote file that are fetched at a time, where it is read like a local one
AHEAD = 1 << 16  # bytes fetched at a place, where records of unknown length follow each other: a few faces


def located(text: str | Path) -> Path:
    """The local path, or the address, that a text means; a path is returned as it is.

    Raises OptionError if there is no such storage, or a package to reach it is missing.
    """
    match = ADDRESS.match(text) if isinstance(text, str) else None
    if match is None:
        return Path(text) if isinstance(text, str) else text
    scheme, rest = match.groups()
    if scheme in ON_DISK:
        return Path(rest)
    try:
        import fsspec
        from upath import UPath

        fsspec.get_filesystem_class(scheme)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storage that universal_pathlib has no class of its own for
            # listings are not kept: what another process has written since, is there
            address = UPath(text, use_listings_cache=False)
            address._fs_cached = _Asked(UPath(text, use_listings_cache=False))  # what is joined to it, has it too
            return cast(Path, address)
    except ImportError as error:
        raise OptionError(f"{text} {_missing(error)}") from None
    except ValueError:
        raise OptionError(f"{text}: no storage is known as {scheme}://; there are s3, gs, az, hf and others") from None


def is_address(text: str | Path) -> bool:
    """Whether a text means storage that is not this machine's, and may or may not be there."""
    match = ADDRESS.match(text) if isinstance(text, str) else None
    return match is not None and match[1] not in ON_DISK


def _missing(error: ImportError) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    package = (cause.name or "").partition(".")[0]
    if package in ("fsspec", "upath"):
        return "is remote; to reach it, pip install 'facecore[remote]'"
    return f"cannot be reached without the package {package}; pip install {package}"


def is_remote(path: Path) -> bool:
    """Whether a path is an address, not a local path."""
    return not isinstance(path, Path)


def check_reached(path: Path) -> None:
    """Raise StorageError if a path is remote and what is there cannot be told; it need not exist."""
    if is_remote(path):
        system, key = _remote(path)
        system.exists(key)


def read_whole(path: Path) -> bytes:
    """The bytes of a file, remotely by one GET; raises OSError, or StorageError if the storage does not answer."""
    if not is_remote(path):
        with open(path, "rb") as stream:
            return stream.read()
    system, key = _remote(path)
    return cast(bytes, system.cat_file(key))


def check_permitted(path: Path) -> None:
    """Raise DataError if a local file is there, but may not be read."""
    if not is_remote(path) and path.is_file() and not os.access(path, os.R_OK):
        raise DataError(f"{path} may not be read; change its permissions")


def read_range(path: Path, start: int, length: int) -> bytes:
    """So many bytes of a file from `start` on, fewer where it ends; raises as `read_whole`.

    Safe to call from threads and forked processes: the file is opened anew, remotely there is one GET of the range.
    """
    if not is_remote(path):
        with open(path, "rb", buffering=0) as stream:
            return os.pread(stream.fileno(), length, start)
    system, key = _remote(path)
    try:
        return cast(bytes, system.cat_file(key, start=start, end=start + length))
    except StorageError:
        if system.size(key) <= start:  # for which object storage has an error, not an answer
            return b""
        raise


class Records:
    """A file of records that is kept open to be read at any place, by several threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ahead = threading.local()
        self._file = -1
        if not is_remote(path):
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return os.fstat(self._file).st_size if self._file >= 0 else _size(self.path)

    def read(self, start: int, length: int) -> bytes:
        """As `read_range`; remotely, what follows is fetched too, for the thread's next calls."""
        if self._file >= 0:
            return os.pread(self._file, length, start)  # of its own position: threads may read at once
        begin, block = getattr(self._ahead, "block", (0, b""))
        if not begin <= start <= start + length <= begin + len(block):
            begin, block = start, read_range(self.path, start, max(length, AHEAD))
            self._ahead.block = begin, block
        return block[start - begin : start - begin + length]


def opened(path: Path, *, block: int = BLOCK) -> BinaryIO:
    """A file opened for reading at any place; remotely a GET fetches at least a block of so many bytes.

    It, and its `read`, raise as `read_whole`.
    """
    return cast(BinaryIO, io.BufferedReader(_Ranges(path), block)) if is_remote(path) else path.open("rb")


class _Ranges(io.RawIOBase):
    """A remote file as Python's own readers want it."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._size = path, 0, _size(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, into: Any) -> int:
        wanted = min(len(into), self._size - self._at)
        data = read_range(self._path, self._at, wanted) if wanted > 0 else b""
        into[: len(data)] = data
        self._at += len(data)
        return len(data)


def _size(path: Path) -> int:
    system, key = _remote(path)
    return int(system.size(key))


def for_arrow(path: Path) -> Any:
    """What pyarrow's functions take as a file to read."""
    if not is_remote(path):
        return path
    import pyarrow as pa

    return pa.PythonFile(opened(path), mode="r")


def put(part: Path, path: Path) -> None:
    """Make a local file appear whole at an address, in the place of what was there.

    It is one PUT of the final key, or a completed multipart upload: until that is answered the key is what it was. A
    PUT of another key and a move would not be, for object storage moves by copying and deleting.
    """
    system, key = _remote(path)
    system.put_file(str(part), key)


def files_below(path: Path) -> list[str]:
    """The keys below an address, relative to it, in no order: one recursive listing; raises StorageError."""
    system, key = _remote(path)
    found = system.find(key)
    return [name[len(key.rstrip("/")) + 1 :] for name in found]


def names_in(folder: Path) -> list[str]:
    """What a folder holds, by name, in no order."""
    return [path.name for path in folder.iterdir()] if is_remote(folder) else os.listdir(folder)


def matching(pattern: Path) -> list[Path]:
    """The paths that one with the wildcards *, ? and [] means, sorted; raises StorageError."""
    if not is_remote(pattern):
        return sorted(Path(path) for path in glob.glob(str(pattern)))
    system, key = _remote(pattern)
    found = system.glob(key)
    root = pattern.parents[-1] if len(pattern.parents) else pattern
    below = _remote(root)[1]
    return sorted(root / name.removeprefix(below).lstrip("/") for name in found)


def _remote(path: Path) -> tuple[Any, str]:
    """The file system of an address, and what it calls it."""
    address = cast(Any, path)
    if not isinstance(address.fs, _Asked):  # made elsewhere, or sent from another process
        return _Asked(address), address.path
    return address.fs, address.path


class _Asked:
    """The file system of an address, all of whose errors are told apart: `_reaching`."""

    def __init__(self, address: Any) -> None:
        self._address = address

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        with _reaching(str(self._address)):
            found = getattr(self._address.fs, name)  # made by the first question
        return partial(self._ask, name, found) if callable(found) else found

    def put_file(self, part: str, key: str) -> None:
        """Write a local file there."""
        with _reaching(self._named(key)):
            self._address.fs.put_file(part, key)

    def _ask(self, name: str, ask: Callable[..., Any], key: str, *given: Any, **options: Any) -> Any:
        with _reaching(self._named(key)):
            answer = ask(key, *given, **options)
            if not answer and name in DOUBTFUL:
                with suppress(FileNotFoundError, NotADirectoryError):
                    self._address.fs.info(key)
            return answer

    def _named(self, key: str) -> str:
        """As the user calls it."""
        return key if ADDRESS.match(key) else f"{self._address.protocol}://{key.lstrip('/')}"


@contextmanager
def _reaching(path: str) -> Iterator[None]:
    """Tell apart what is not there, as OSError of local files does, from storage that does not answer."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except PermissionError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None
    except (FileExistsError, IsADirectoryError, NotADirectoryError, StorageError):
        raise
    except Exception as error:  # each storage has its own kinds: of aiohttp, botocore, google.auth, httpx ...
        lines = str(error).splitlines() or [type(error).__name__]
        raise StorageError(
            f"{path} cannot be reached: {lines[0]}; check the address, the credentials and the network"
        ) from error
