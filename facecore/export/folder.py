"""A folder of images: identity/image.jpg, copied or linked."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from facecore.errors import DataError, OptionError
from facecore.export.plan import Face, Form, Plan, kind_of
from facecore.export.workspace import OWN
from facecore.provenance import written_whole
from facecore.readers.folder import SUFFIXES

LONGEST = 255 - len(".jpeg.part")  # bytes of a name, on all common file systems


class FolderWriter:
    """Writes each image to identity/name, the name being its face_id without the identity.

    A name without the suffix of an image gets that of its kind. Raises DataError for names that cannot be those of
    files in the folder, or that two faces would have, and OptionError for links to what are no files.
    """

    form = Form("folder")

    def __init__(self, plan: Plan) -> None:
        self._part, self._link, self._root = plan.part, plan.options.link, plan.dataset.root
        if self._link != "copy" and plan.dataset.format != "folder":
            raise OptionError(f"--link is for images in files, and these are in {plan.dataset.format}; leave it out")
        for name in plan.names:
            _check_part(name, "identity", name)
            if name in OWN:
                raise DataError(f"the identity {name} is called as a file beside it would be; export to another format")
        for batch in plan.batches():
            for face_id, identity in zip(batch["face_id"].to_pylist(), batch["identity"].to_pylist(), strict=True):
                for part in _name(face_id, identity).split("/"):
                    _check_part(part, "face", face_id)
        _check_apart(plan)

    def refuses(self, face: Face) -> str | None:
        """Every kind of image is taken."""
        return None if kind_of(face.data) else "neither JPEG, PNG, BMP nor WebP by its first bytes"

    def write(self, number: int, written: int, faces: Sequence[Face]) -> list[str]:
        """Write or link the images of a batch."""
        sources = [_path(face) for face in faces]
        for source, face in zip(sources, faces, strict=True):
            with written_whole(self._part / source) as part:
                if self._link == "copy":
                    part.write_bytes(face.data)
                else:
                    self._link_to(self._root / face.source, part)
        return sources

    def finish(self, written: pa.Table) -> None:
        """Every image is whole already."""

    def _link_to(self, there: Path, link: Path) -> None:
        link.unlink(missing_ok=True)
        if self._link == "symbolic":
            link.symlink_to(there.resolve())
            return
        try:
            os.link(there.resolve(), link)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise DataError(
                    f"no hard link to {there} can be made from {link.parent}: {error.strerror}; use --link symbolic"
                ) from error
            raise


def _name(face_id: str, identity: str) -> str:
    return face_id.removeprefix(f"{identity}/")


def _path(face: Face) -> str:
    name = _name(face.face_id, face.identity)
    suffix = "" if name.lower().endswith(SUFFIXES) else f".{kind_of(face.data)}"
    return f"{face.identity}/{name}{suffix}"


def _check_part(part: str, what: str, name: str) -> None:
    """Raise DataError unless a part of a path is the name of a file or folder that our reader would list."""
    if part.startswith(".") or not part or "/" in part or "\0" in part or len(part.encode()) > LONGEST:
        raise DataError(
            f"the {what} {name[:300]!a} cannot be a path: its parts may not be empty, begin with a dot, "
            f"hold a / or be over {LONGEST} bytes; export to another format"
        )


def _check_apart(plan: Plan) -> None:
    """Raise DataError if two faces would be one file, or one the folder of another."""
    names = pa.chunked_array([_names(batch) for batch in plan.batches()], pa.large_string())
    suffixed = pc.ends_with(pc.utf8_lower(names), SUFFIXES[0])
    for suffix in SUFFIXES[1:]:
        suffixed = pc.or_(suffixed, pc.ends_with(pc.utf8_lower(names), suffix))
    bare = names.filter(pc.invert(suffixed))
    taken = pa.chunked_array([*names.chunks, *(chunk for kind in SUFFIXES for chunk in _with(bare, kind).chunks)])
    counts = pc.value_counts(taken.combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(twice):
        folders = pc.unique(pc.replace_substring_regex(names, r"/[^/]*$", ""))
        twice = pc.filter(folders, pc.is_in(folders, value_set=taken.combine_chunks()))
    if len(twice):
        raise DataError(f"two faces would have the path {twice[0].as_py()!a}, or one in it; export to another format")


def _names(batch: pa.Table) -> pa.Array:
    pairs = zip(batch["face_id"].to_pylist(), batch["identity"].to_pylist(), strict=True)
    return pa.array((f"{identity}/{_name(face_id, identity)}" for face_id, identity in pairs), pa.large_string())


def _with(names: pa.ChunkedArray, suffix: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(names, pa.scalar(suffix, pa.large_string()), pa.scalar("", pa.large_string()))
