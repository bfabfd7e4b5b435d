"""A folder of images: root/identity/image.jpg."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError, counted
from facecore.readers.files import leads_out, read_below

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
CHUNK = 1 << 18  # faces turned into Arrow strings at a time: Python's own take ten times the memory

log = logging.getLogger(__name__)


class Folder:
    """Images in a folder for each identity.

    The identity is the first folder under the root, as in torchvision's ImageFolder; images may lie deeper in it
    (001/frontal/01.jpg is a face of 001). Names that begin with a dot are ignored, as is what has no image suffix.
    face_id and source are the path below the root with forward slashes, the same on every machine.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"no data set at {root}; give a folder that holds a folder of images for each identity")
        self._root = str(root)
        self._ignored = 0

    def faces(self) -> pa.Table:
        """List the folder; raises DataError if it has no images, or images outside every identity's folder."""
        self._ignored = 0
        columns: dict[str, list[pa.Array]] = {"face_id": [], "identity": []}
        face_ids: list[str] = []
        identities: list[str] = []
        for identity in self._identities():
            # in order of code points, which is that of UTF-8 bytes: sort_faces would change nothing
            found = sorted(self._images(identity))
            face_ids += found
            identities += [identity] * len(found)
            if len(face_ids) >= CHUNK:
                self._move(face_ids, identities, columns)
        self._move(face_ids, identities, columns)
        table = {name: pa.chunked_array(chunks, pa.string()) for name, chunks in columns.items()}
        if not len(table["face_id"]):
            raise DataError(
                f"no images in {self._root} ({self._ignored:,} other files); "
                f"they are sought as IDENTITY/image with one of {', '.join(SUFFIXES)}"
            )
        if self._ignored:
            log.info(
                "%s: ignored %s without an image suffix or with a dot in front",
                self._root,
                counted(self._ignored, "name"),
            )
        return pa.table({**table, "source": table["face_id"]})

    def read(self, source: str) -> bytes:
        """The bytes of the file; raises OSError, or DataError if it is none, or would lie outside."""
        return read_below(self._root, source)

    def exists(self, source: str) -> bool:
        """Whether there is such a file."""
        return not leads_out(source) and os.path.isfile(os.path.join(self._root, source))

    def _identities(self) -> list[str]:
        """The folders in the root, sorted."""
        folders, loose = [], []
        for name, is_folder in self._entries(""):
            if is_folder:
                folders.append(name)
            elif _is_image(name):
                loose.append(name)
            else:
                self._ignored += 1
        if loose:
            raise DataError(
                f"{counted(len(loose), 'image')} directly in {self._root}, first {min(loose)}, and nothing says whose; "
                "move each into a folder of its identity"
            )
        return sorted(folders)

    def _images(self, identity: str) -> Iterator[str]:
        """The paths of the images below an identity's folder, relative to the root, in no order.

        No folder is entered by two links, so that circles of them end; raises DataError where one is.
        """
        entered: set[str] = set()
        folders = [identity]
        while folders:
            folder = folders.pop()
            for name, is_folder in self._entries(folder):
                path = f"{folder}/{name}"
                if is_folder:
                    self._enter(path, entered, identity)
                    folders.append(path)
                elif _is_image(name):
                    yield path
                else:
                    self._ignored += 1

    def _enter(self, folder: str, entered: set[str], identity: str) -> None:
        """Add where a folder leads, if it is a link; raises DataError if a link has led there before."""
        path = os.path.join(self._root, folder)
        if os.path.islink(path):
            entered.add(os.path.realpath(os.path.join(self._root, identity)))
            real = os.path.realpath(path)
            if real in entered:
                raise DataError(f"{path} is a link to a folder that its identity already holds; remove it")
            entered.add(real)

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """What a folder holds, but for names that begin with a dot, and which of them are folders.

        A link is followed; for anything else the listing itself tells folders from files, without a stat each.
        """
        path = os.path.join(self._root, folder)
        try:
            with os.scandir(path) as entries:  # to its end at once: whoever asks may stop in the middle
                found = [(entry.name, _is_folder(entry)) for entry in entries]
        except OSError as error:
            raise DataError(f"cannot list {path}: {error.strerror}; make it readable, or move it elsewhere") from error
        for name, is_folder in found:
            if name.startswith("."):
                self._ignored += 1
            else:
                yield name, is_folder

    def _move(self, face_ids: list[str], identities: list[str], columns: dict[str, list[pa.Array]]) -> None:
        """Turn the faces gathered so far into Arrow arrays, and forget them."""
        try:
            columns["face_id"].append(pa.array(face_ids, pa.string()))
            columns["identity"].append(pa.array(identities, pa.string()))
        except UnicodeEncodeError as error:
            name = os.fsencode(error.object)
            raise DataError(f"{self._root} holds a name that is not UTF-8, {name!r}; rename it") from error
        face_ids.clear()
        identities.clear()


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is one or a link to one; raises DataError where a link cannot be followed, as one to itself."""
    try:
        return entry.is_dir()
    except OSError as error:
        if not entry.is_symlink():
            raise
        raise DataError(f"{entry.path} is a link that cannot be followed: {error.strerror}; remove it") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
