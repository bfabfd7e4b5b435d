"""Names inside archives: which are those of images, which are refused, and what is said of those."""

import logging
from collections import Counter
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError
from facecore.manifest import check_manifest, sort_faces
from facecore.readers.files import leads_out
from facecore.readers.folder import CHUNK, SUFFIXES

log = logging.getLogger(__name__)


class LeftOut:
    """What an archive holds and a reader does not take: how much for each reason, and the first by name."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, why: str, name: str) -> None:
        """Leave out one by this name; `why` continues a number, such as 2 "are links"."""
        self._count[why] += 1
        self._first.setdefault(why, name)

    def __str__(self) -> str:
        reasons = (f"{count:,} {why}, first {self._first[why]!a}" for why, count in self._count.items())
        return "; ".join(reasons)

    def tell(self, root: Path) -> None:
        """Warn of what was left out, in one line."""
        if self._count:
            log.warning("%s: left out: %s", root, self)


def refused(name: str) -> str | None:
    """Why a name inside an archive is not taken, or None."""
    if leads_out(name):
        return "would lie outside the archive"
    return None if is_text(name) else "have names that are not UTF-8"


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8; bytes that are not come from Python's file functions as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_image(name: str) -> bool:
    """Whether a name has the suffix of an image, and neither it nor a folder of it begins with a dot."""
    return name.lower().endswith(SUFFIXES) and not any(
        part.startswith(".") and part != ".." for part in name.split("/")
    )


class Listing:
    """Faces as they are found: gathered into Arrow arrays, checked and sorted at the end."""

    def __init__(self, root: Path) -> None:
        self.left_out = LeftOut()
        self._root = root
        self._chunks: list[pa.Table] = []
        self._rows: list[tuple[str, str, str]] = []

    def add(self, face_id: str, identity: str, source: str) -> None:
        """List a face."""
        self._rows.append((face_id, identity, source))
        if len(self._rows) >= CHUNK:
            self._move()

    def table(self, sought: str) -> pa.Table:
        """All of them, sorted; raises DataError, saying what was sought, if there are none, or one is there twice."""
        self._move()
        faces = pa.concat_tables(self._chunks)
        if not len(faces):
            why = f" (left out: {self.left_out})" if str(self.left_out) else ""
            raise DataError(f"no images in {self._root}{why}; {sought}")
        self.left_out.tell(self._root)
        check_manifest(faces, self._root)
        return sort_faces(faces)

    def _move(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([], [], [])
        names = ("face_id", "identity", "source")
        arrays = [pa.array(values, pa.string()) for values in columns]
        self._chunks.append(pa.table(dict(zip(names, arrays, strict=True))))
        self._rows.clear()
