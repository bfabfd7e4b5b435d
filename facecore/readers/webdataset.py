"""WebDataset: tar shards, in which the members 000.jpg and 000.cls or 000.json are one face and whose it is.

A shard is never unpacked. A source says where in which shard an image begins and how long it is, so that any image is
read alone and in any order, and a manifest is opened without listing the shards.
"""

import glob
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from facecore.errors import DataError
from facecore.progress import progress
from facecore.readers.files import check_size, files_ending
from facecore.readers.folder import SUFFIXES
from facecore.readers.names import LeftOut, Listing, refused
from facecore.storage import matching, opened, read_range

SOURCE = re.compile(r"(.+)#(\d{1,18})\+(\d{1,18})", re.DOTALL)  # shard, offset, length
BLOCK = tarfile.BLOCKSIZE
LABELS = ("json", "cls")
MAX_LABEL = 1 << 20  # bytes of a .cls or .json
SOUGHT = "a face is an image (.jpg, .jpeg, .png, .bmp, .webp) and a .cls or .json of the same name"


class WebDataset:
    """The images of tar shards: those in a folder, those that a pattern as set/*.tar means, or one.

    The identity is `identity` in the .json, else the text of the .cls, else `label` in the .json; face_id is `face_id`
    in the .json, else shard/member. Links, and names that would lie outside the archive, are left out with a warning.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shards = _shards(root)  # name -> path

    def faces(self) -> pa.Table:
        """List the shards, which reads the header of every member; raises DataError if one is damaged."""
        listing = Listing(self._root)
        with progress(len(self._shards), "list", "shards") as bar:
            for shard, path in self._shards.items():
                for image, label in _samples(shard, path, listing.left_out):
                    face_id = label.get("face_id") or f"{shard}/{image.name}"
                    listing.add(face_id, label["identity"], f"{shard}#{image.offset}+{image.size}")
                bar.update()
        return listing.table(SOUGHT)

    def read(self, source: str) -> bytes:
        """The encoded image; raises DataError if there is none, or OSError."""
        shard, offset, size = self._place(source)
        check_size(size)
        data = read_range(self._shards[shard], offset, size)
        if len(data) < size:
            raise DataError(f"{self._shards[shard]} ends within {source}; it was cut short, copy it again")
        return data

    def exists(self, source: str) -> bool:
        """Whether a member of this length begins there."""
        try:
            shard, offset, size = self._place(source)
            header = read_range(self._shards[shard], offset - BLOCK, BLOCK) if offset >= BLOCK else b""
            return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size == size
        except (DataError, OSError, tarfile.HeaderError):
            return False

    def _place(self, source: str) -> tuple[str, int, int]:
        match = SOURCE.fullmatch(source)
        if match is None or match[1] not in self._shards:
            raise DataError(f"no image {source} in {self._root}")
        return match[1], int(match[2]), int(match[3])


def _shards(root: Path) -> dict[str, Path]:
    """The shards by name, sorted: their paths below the folder, or below what a pattern begins with."""
    if root.is_file():
        return {root.name: root}
    pattern = glob.has_magic(str(root)) and not root.exists()
    if not pattern and not root.is_dir():
        raise DataError(
            f"no data set at {root}; give a folder of tar shards, a pattern such as set/*.tar, or one shard"
        )
    folder = next(path for path in root.parents if not glob.has_magic(str(path))) if pattern else root
    found = matching(root) if pattern else files_ending(root, ".tar")
    if not found:
        raise DataError(f"no tar shards at {root}; they are sought by the suffix .tar, unpack what is compressed")
    return {path.relative_to(folder).as_posix(): path for path in found}


@dataclass(frozen=True)
class _Member:
    """A file of a shard: its name, cut as the webdataset package does at the first dot of its last part."""

    name: str
    key: str  # of the sample
    kind: str  # what follows the dot, in lower case
    offset: int
    size: int


def _samples(shard: str, path: Path, left_out: LeftOut) -> Iterator[tuple[_Member, dict[str, str]]]:
    """The image of every face of a shard, and what is known of it."""
    with opened(path) as stream:
        yield from _samples_in(stream, shard, path, left_out)


def _samples_in(
    stream: BinaryIO, shard: str, path: Path, left_out: LeftOut
) -> Iterator[tuple[_Member, dict[str, str]]]:
    seen: set[str] = set()
    for key, members in groupby(_files(stream, shard, path, left_out), key=lambda member: member.key):
        parts = {member.kind: member for member in members}
        image = next((parts[kind] for kind in parts if f".{kind}" in SUFFIXES), None)
        label = _label(stream, parts)
        if image is None:
            left_out.add("have no image", f"{shard}/{key}")
        elif isinstance(label, str):
            left_out.add(label, f"{shard}/{image.name}")
        elif key in seen:
            left_out.add("repeat a name", f"{shard}/{image.name}")
        else:
            seen.add(key)
            yield image, label


def _files(stream: BinaryIO, shard: str, path: Path, left_out: LeftOut) -> Iterator[_Member]:
    """The files of a shard that are taken; folders, and names that begin with a dot, are ignored."""
    for member in _members(stream, path):
        name = member.name.removeprefix("./")
        last = name.rpartition("/")[2]
        if member.isdir() or last.startswith("."):
            continue
        why = refused(name) if member.isreg() else "are links or devices"
        if why:
            left_out.add(why, f"{shard}/{name}")
            continue
        kind = last.partition(".")[2]
        key = name[: len(name) - len(kind)]
        yield _Member(name, key, kind.lower(), member.offset_data, member.size)


def _members(stream: BinaryIO, path: Path) -> Iterator[tarfile.TarInfo]:
    """The members of a tar file; raises DataError unless it is a whole one, for tarfile itself ends at any damage."""
    try:
        with tarfile.open(None, "r:", stream, encoding="utf-8", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                yield member
            end = archive.offset
    except tarfile.TarError as error:
        raise DataError(f"{path} is not a whole, uncompressed tar file: {error}; copy or unpack it again") from error
    if _bytes(stream, end, BLOCK) != bytes(BLOCK):
        raise DataError(f"{path} is damaged or was cut short at byte {end:,}; copy it again")


def _label(stream: BinaryIO, parts: dict[str, _Member]) -> dict[str, str] | str:
    """The identity of a sample, and its face_id if it says that; or why there is none."""
    told: dict[str, Any] = {}
    for kind in LABELS:
        if kind in parts:
            if parts[kind].size > MAX_LABEL:
                return f"have a .{kind} of over 1 MiB"
            try:
                text = _bytes(stream, parts[kind].offset, parts[kind].size).decode()
                told[kind] = json.loads(text) if kind == "json" else text.strip()
            except (ValueError, RecursionError):
                return f"have a .{kind} that is not one"
    known = told.get("json", {})
    if not isinstance(known, dict):
        return "have a .json that is not an object"
    identity = next(
        (one for one in (known.get("identity"), told.get("cls"), known.get("label")) if one is not None), ""
    )
    if not told or isinstance(identity, bool) or not isinstance(identity, str | int) or identity == "":
        return "do not say whose they are in a .cls or .json"
    face_id = known.get("face_id")
    return {"identity": str(identity), **({"face_id": face_id} if isinstance(face_id, str) else {})}


def _bytes(stream: BinaryIO, offset: int, count: int) -> bytes:
    stream.seek(offset)  # tarfile seeks itself before it reads on
    return stream.read(count)
