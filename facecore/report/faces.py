"""Pictures of faces for a page: small, few, and inside it."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecore.errors import DataError
from facecore.images import opened_image, to_rgb
from facecore.readers import READERS, Reader
from facecore.storage import located

SIDE = 112  # pixels at most; shown at 96 to 112, so that more would not be seen
QUALITY = 80


@dataclass(frozen=True)
class Face:
    """A face by its names, with its picture or with why there is none."""

    face_id: str
    identity: str
    uri: str = ""  # data:image/jpeg;base64,...
    reason: str = ""  # in the place of the picture; neither is there on a page without faces

    @property
    def name(self) -> str:
        """Its face_id, less what the identity says already."""
        return self.face_id.removeprefix(f"{self.identity}/")


class Album:
    """Takes pictures for a page until there are `most`; none at all, and no place for one, if `shown` is false."""

    def __init__(self, most: int, *, shown: bool = True) -> None:
        self.shown = shown
        self.left = most
        self.taken = 0
        self.unreadable = 0
        self.unknown = Counter[str]()  # faces whose images are nowhere, by the reason

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """Take back what was taken in a block that fails."""
        before = {**vars(self), "unknown": self.unknown.copy()}
        try:
            yield
        except BaseException:
            vars(self).update(before)
            raise

    def face(self, where: Reader | str, row: Mapping[str, Any]) -> Face:
        """The face of a manifest's row; `where` its images are read, or why they cannot be."""
        face_id, identity = str(row["face_id"]), str(row["identity"])
        if not self.shown:
            return Face(face_id, identity)
        if isinstance(where, str):
            self.unknown[where] += 1
            return Face(face_id, identity, reason=where)
        if not self.left:
            return Face(face_id, identity, reason="more than --max-faces")
        try:
            uri = thumbnail(where.read(str(row["source"])))
        except (DataError, OSError) as error:
            self.unreadable += 1
            missing = isinstance(error, FileNotFoundError)
            return Face(face_id, identity, reason="no such file" if missing else _first_line(error))
        self.left, self.taken = self.left - 1, self.taken + 1
        return Face(face_id, identity, uri)


def thumbnail(data: bytes) -> str:
    """An encoded image as the data: URI of a JPEG of at most SIDE pixels a side; raises DataError if it is none."""
    with opened_image(data) as image:
        small = to_rgb(image)
    small.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def images_of(facts: Mapping[str, Any], images: Path | None) -> Reader | str:
    """Where the images of a manifest are read, by what its maker recorded, or why they cannot be.

    `images` is their root, if not the one recorded. Raises DataError if that is given and there is no such data set.
    """
    reader = READERS.get(facts.get("format", "folder"), READERS["folder"])
    if images is not None:
        if images.is_file() and reader is READERS["folder"]:
            raise DataError(f"{images} is a file; --images is the folder that the faces' sources are relative to")
        return reader(images)
    if not facts.get("root"):
        return "the root of the images is not recorded; give --images"
    try:
        return reader(located(facts["root"]))
    except (DataError, OSError):
        return "the images are not where they were; give --images"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
