"""What made a file, and writing whole or not at all."""

import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facecore.errors import DataError
from facecore.storage import check_reached, is_remote, opened, put

FOOTER_KEY = b"facecore"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Provenance:
    """The stage that made a file, its options, the sha256 of its inputs, and what it counted.

    Nothing of the clock or the host goes in: equal inputs must give equal bytes.
    """

    stage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space."""
        return canonical_json(
            {"stage": self.stage, "options": self.options, "inputs": self.inputs, "facts": self.facts}
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Provenance":
        """The reverse of `to_json`; raises ValueError on anything else."""
        data = json.loads(text)
        if not isinstance(data, dict) or set(data) != {"stage", "options", "inputs", "facts"}:
            raise ValueError("not a facecore provenance record")
        return cls(data["stage"], data["options"], data["inputs"], data["facts"])


def canonical_json(value: Any) -> str:
    """JSON with one spelling for one value: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(text: str) -> str:
    """The sha256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex, read in blocks."""
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    with opened(path, block=1 << 23) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_whole(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary local path that becomes `path` when the block ends well, and is removed when it does not.

    On a disk it lies beside `path` and is renamed, which is atomic there. Remote storage has no such rename, but a PUT
    of the whole file is atomic, see `put`: there the temporary one is in the system's folder for such files.
    Where a file is `shared`, other processes may be writing it at the same time: the temporary one is then called by a
    draw, not after `path` alone, and of those that are killed it stays until somebody clears up.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="facecore-") as folder:
            yield (part := Path(folder) / path.name)
            put(part, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part" if shared else f"{path.name}.part")
    try:
        with filling(path):
            yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def filling(path: Path) -> Iterator[None]:
    """Name the file in an OSError for want of room, which those of libraries do not."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def write_text_whole(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a text file whole or not at all, see `written_whole`."""
    with written_whole(path, shared=shared) as part:
        part.write_text(text, encoding="utf-8")


def refuse_to_overwrite(*paths: Path, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Raise DataError if a file cannot be written at any of the paths, or is there and not to be overwritten.

    What is an input, or lies in a folder that is one, is not to be overwritten in any case.
    """
    for path in paths:
        check_reached(path)
        for source in inputs:
            if source.resolve() in (path.resolve(), *path.resolve().parents):
                where = "is" if path.resolve() == source.resolve() else "lies in"
                raise DataError(f"{path} {where} {source}, from which it would be made; choose another --out")
        if path.is_dir():
            raise DataError(f"{path} is a folder; choose another --out")
        if path.exists() and not overwrite:
            raise DataError(f"{path} exists; choose another --out, or add --overwrite to replace it")
        check_folder(path.parent)


def check_folder(path: Path) -> None:
    """Raise DataError unless the path is, or can be made, a folder to write in.

    Remote storage has no folders; there whoever has no right to write is told when a file is written. Raises
    StorageError if the storage does not answer.
    """
    if is_remote(path):
        check_reached(path)
        return
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise DataError(f"{there} is a file, so nothing can be written in it; choose another --out")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"{there} is not writable; choose another --out, or change its permissions")
