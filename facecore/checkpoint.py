"""What a killed run needs to go on to the same bytes: one file, written whole."""

import pickle
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
        with written_whole(self._path) as part:
            torch.save({"fingerprint": self._fingerprint, **state}, part)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, None if nothing was; raises DataError if it is damaged, or in the way."""
        if not self._path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(f"{self._path} cannot be read; delete it to start again") from error
        if state.pop("fingerprint") == self._fingerprint:
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
