"""A data set: one row a face, and how to read the image of each."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from facecore.manifest import COLUMNS


@dataclass(frozen=True)
class Dataset:
    """Faces sorted by identity, then face_id, whose images lie under a root."""

    root: Path  # of the images: what a `source` is relative to
    format: str  # of the root, a name in READERS
    faces: pa.Table  # face_id, identity, source, and what rides along
    read: Callable[[str], bytes]  # source -> encoded image; raises DataError or OSError; safe to call from threads
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the maker of a manifest recorded

    def __len__(self) -> int:
        return len(self.faces)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of what was listed, see `sha256_of_faces`."""
        return sha256_of_faces(self.faces)


class Reader(Protocol):
    """An open data set in one format; made from its root, and raises DataError if that is not one."""

    def faces(self) -> pa.Table:
        """Every face, sorted by identity, then face_id; raises DataError if there are none."""
        ...

    def read(self, source: str) -> bytes:
        """The encoded image of a face; raises DataError or OSError."""
        ...

    def exists(self, source: str) -> bool:
        """Whether there is such a face, without reading it."""
        ...


def sha256_of_faces(faces: pa.Table) -> str:
    """The sha256 of face_id, identity and source in row order, the same however the rows are cut into chunks."""
    digest = hashlib.sha256()
    for name in COLUMNS:
        lengths, text = hashlib.sha256(), hashlib.sha256()
        for chunk in faces[name].chunks:
            if len(chunk):
                offsets = _offsets(chunk)
                lengths.update(np.diff(offsets).astype("<i8").tobytes())
                text.update(memoryview(chunk.buffers()[2] or b"")[offsets[0] : offsets[-1]])
        digest.update(lengths.digest() + text.digest())
    return digest.hexdigest()


def _offsets(chunk: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where each string of a chunk begins in its text, and where the last one ends."""
    width = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    offsets = np.frombuffer(chunk.buffers()[1], width)
    return offsets[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
