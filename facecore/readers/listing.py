"""A text list: `path label` a line, of images that lie in a folder."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pyarrow as pa

from facecore.errors import DataError
from facecore.readers.names import Listing, refused
from facecore.storage import is_remote, read_whole

LINE = re.compile(r"(.*\S)[ \t]+(\S+)")  # a path may hold spaces, a label none


def listed_paths(path: Path, root: Path) -> pa.Table:
    """The faces of a list: face_id and source are the path below the root, identity is the label.

    A path that begins with the root is shortened, as are // and /./ in it; empty lines are ignored. Raises DataError if
    the file is not a list, or a path does not lie below the root.
    """
    listing = Listing(path)
    starts = [root.as_posix()] if is_remote(root) else [os.path.abspath(root), os.path.realpath(root)]
    for number, line in enumerate(_text(path).split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{path}, line {number:,}: expected an image's path, a space and a label; mend it")
        name = _below(match[1], root, starts)
        if refused(name):
            raise DataError(f"{path}, line {number:,}: {name!a} does not lie below {root}; say with --images what does")
        listing.add(name, match[2], name)
    return listing.table("its lines are an image's path, a space and a label")


def _text(path: Path) -> str:
    try:
        return read_whole(path).decode("utf-8-sig")  # read_text would take a \r in a name for the end of a line
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save the list as such") from None


def _below(name: str, root: Path, starts: Sequence[str]) -> str:
    if is_remote(root):  # where a//1.jpg is another key than a/1.jpg
        return name.removeprefix(f"{starts[0]}/").removeprefix("./")
    path = PurePosixPath(name)
    start = next((start for start in starts if path.is_relative_to(start)), None) if path.is_absolute() else None
    return (path.relative_to(start) if start else path).as_posix()
