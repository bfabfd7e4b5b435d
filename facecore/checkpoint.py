"""What a killed run needs to go on to the same bytes: one file, written whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from facecore.errors import DataError
from facecore.provenance import written_whole


class Checkpoint:
    """A file with the state of one run; `fingerprint` says of which options and inputs.

    What a run with other options saved is in the way, unless it may be overwritten.
    """

    def __init__(self, path: Path, fingerprint: str, *, overwrite: bool) -> None:
        self._path, self._fingerprint, self._overwrite = path, fingerprint, overwrite

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved before."""
        save_whole({"fingerprint": self._fingerprint, **state}, self._path)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, None if nothing was; raises DataError if it is damaged, or in the way."""
        if not self._path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
            fingerprint = state.pop("fingerprint")
        except Exception as error:  # zip, pickle and torch each raise their own
            raise DataError(f"{self._path} cannot be read; delete it to start again") from error
        if fingerprint == self._fingerprint:
            return state
        if self._overwrite:
            return None
        raise DataError(
            f"{self._path} is of a run with other options or inputs; run that again to finish it, "
            "choose another --out, or add --overwrite to start again"
        )

    def remove(self) -> None:
        """Forget it: the run is done."""
        self._path.unlink(missing_ok=True)


def save_whole(values: Mapping[str, Any], path: Path) -> None:
    """Write tensors as torch does, whole or not at all; raises OSError if there is no room for them."""
    with written_whole(path) as part, part.open("wb") as stream:
        try:
            torch.save(values, stream)
        except RuntimeError as error:  # what torch makes of an OSError says nothing of it
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
