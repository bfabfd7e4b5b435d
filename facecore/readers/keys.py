"""A folder of images on object storage, which knows no folders but only keys: root/identity/image.jpg."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError
from facecore.readers.files import MAX_BYTES, check_size, leads_out
from facecore.readers.folder import Folder
from facecore.storage import files_below, is_remote, read_range


def open_folder(root: Path) -> Folder:
    """The images in a folder for each identity, wherever it is; raises DataError if it is none."""
    return Keys(root) if is_remote(root) else Folder(root)


class Keys(Folder):
    """The same as `Folder` of what one recursive listing of the keys finds; there are no links."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._address = root
        self._held: dict[str, dict[str, bool]] = {}  # folder -> name -> whether that is a folder

    def faces(self) -> pa.Table:
        """List the keys; raises as `Folder.faces`."""
        self._held = _folders(files_below(self._address))
        try:
            return super().faces()
        finally:
            self._held = {}

    def read(self, source: str) -> bytes:
        """The bytes of a key; raises OSError, or DataError if it would lie outside."""
        if leads_out(source):
            raise DataError(f"{source!a} leads out of the data set")
        data = read_range(self._address / source, 0, MAX_BYTES + 1)
        check_size(len(data))
        return data

    def exists(self, source: str) -> bool:
        """Whether there is such a key."""
        return not leads_out(source) and (self._address / source).is_file()

    def _entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        for name, is_folder in self._held.get(folder, {}).items():
            if name.startswith("."):
                self._ignored += 1
            else:
                yield name, is_folder

    def _enter(self, folder: str, entered: set[str], identity: str) -> None:
        pass


def _folders(keys: list[str]) -> dict[str, dict[str, bool]]:
    """What each folder that the keys speak of holds, and which of that are folders."""
    held: dict[str, dict[str, bool]] = {}
    for key in keys:
        folder, _, name = key.rpartition("/")
        held.setdefault(folder, {}).setdefault(name, False)
        while folder:
            folder, _, name = folder.rpartition("/")
            if held.setdefault(folder, {}).get(name):
                break
            held[folder][name] = True
    return held
