"""The receipt, and the way to change many files or none.

New files wait beside the old ones until all are there. Then the receipt is written as a journal: from here on there is
no way back, the waiting files take their places, and when each file is what it should be the journal becomes the
receipt. Killed before the journal, nothing has happened; killed after it, the next run goes on.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from facecore.errors import DataError
from facecore.provenance import canonical_json, sha256_of_file, write_text_whole

WAITING = ".forgetting"


@dataclass(frozen=True)
class FileEntry:
    """What happened to one file, or would."""

    file: str
    rows_removed: int = 0
    rivals_cleared: int = 0  # rows that stay, but whose rival was removed: it is null now, and so is the cosine to it
    before: str | None = None  # sha256; None in a dry run
    after: str | None = None


@dataclass(frozen=True)
class Receipt:
    """Who was removed, and from which files."""

    names: tuple[str, ...]  # sorted
    hashed: bool  # whether names stand there as their sha256
    identities: int  # how many of them were identities; the others were face_ids
    files: tuple[FileEntry, ...]
    absent: tuple[str, ...] = ()  # those of the names that were in none of the files

    @property
    def rows_removed(self) -> int:
        """In all manifests and stores together; a row of a store counts once."""
        return sum(entry.rows_removed for entry in self.files if entry.file.endswith(".parquet"))

    def to_json(self) -> str:
        """Canonical JSON."""
        return canonical_json({"stage": "forget", **asdict(self)}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Receipt":
        """The reverse of `to_json`."""
        data = json.loads(text)
        files = tuple(FileEntry(**entry) for entry in data["files"])
        return cls(tuple(data["names"]), data["hashed"], data["identities"], files, tuple(data.get("absent", ())))


def waiting_path(file: Path) -> Path:
    """Where what a file is to become waits."""
    return file.parent / (file.name + WAITING)


def entry_of(file: Path, *, rows: int = 0, rivals: int = 0, written: bool) -> FileEntry:
    """What is to happen to a file, with its hashes if what takes its place waits already.

    Raises DataError if the file is a link: what it leads to would not change.
    """
    if file.is_symlink():
        raise DataError(
            f"{file} is a link, and what it leads to would keep them, so nothing was removed anywhere; "
            "put the file itself in its place and run again"
        )
    before, after = (sha256_of_file(file), sha256_of_file(waiting_path(file))) if written else (None, None)
    return FileEntry(file.as_posix(), rows, rivals, before, after)


def journal_path(path: Path) -> Path:
    """Where the receipt to be written at a path is until all is done."""
    return path.parent / f"{path.name}.unfinished"


def write_journal(receipt: Receipt, path: Path) -> None:
    """Write the receipt as a journal: from here on there is no way back."""
    write_text_whole(journal_path(path), receipt.to_json())


def finish(path: Path) -> Receipt:
    """Do what a journal says is left to do; raises DataError if a file was changed in between."""
    receipt = Receipt.from_json(journal_path(path).read_text(encoding="utf-8"))
    for entry in receipt.files:
        file = Path(entry.file)
        if waiting_path(file).exists():
            os.replace(waiting_path(file), file)
    for entry in receipt.files:
        if not Path(entry.file).exists() or sha256_of_file(Path(entry.file)) != entry.after:
            raise DataError(
                f"{entry.file} is not what an unfinished facecore forget made of it; "
                f"delete {journal_path(path)} and run it again"
            )
    os.replace(journal_path(path), path)
    return receipt
