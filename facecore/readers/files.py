"""An ordinary file below a folder, and nothing else: names come from the data, and so may lead anywhere."""

import os
import stat
from pathlib import Path

from facecore.errors import DataError

MAX_BYTES = 1 << 28  # of an encoded image; whatever claims more is not read into memory


def files_ending(folder: Path, suffix: str) -> list[Path]:
    """What a folder holds with a suffix, in lower case or not, sorted; nothing where there is no folder."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() == suffix)


def leads_out(name: str) -> bool:
    """Whether a name is no path below a folder; links in that folder are its owner's, and are followed."""
    return name.startswith("/") or ".." in name.split("/")


def read_below(root: str | os.PathLike[str], name: str) -> bytes:
    """The bytes of a file below a folder.

    Raises DataError if the name leads out of it, or if there is no ordinary file of at most MAX_BYTES; or OSError.
    """
    if leads_out(name) or "\0" in name:
        raise DataError(f"{name!a} leads out of the data set")
    # a pipe would be waited for, a device read without an end
    with open(os.open(os.path.join(root, name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError("not an ordinary file")
        check_size(status.st_size)
        return stream.read(status.st_size)  # not more: Python takes memory for as much as it is asked for


def check_size(count: int) -> None:
    """Raise DataError if an encoded image claims more bytes than any has."""
    if count > MAX_BYTES:
        raise DataError(f"{count:,} bytes, more than an image has")
