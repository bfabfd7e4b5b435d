"""A data set, or a subset of one, for PyTorch's DataLoader."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from facecore.errors import DataError
from facecore.images import Preprocess, decode, to_input
from facecore.readers import READERS, Reader, open_dataset
from facecore.storage import located

__all__ = ["SubsetDataset"]


class SubsetDataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """The faces of a manifest, or of any data set, each as a tensor and the number of its identity.

    The tensor is float32 (3, size, size), RGB, (x - 127.5) / 127.5, as arcface_torch has it before it mirrors half of
    them; the labels number the sorted identities from 0, as `facecore export` does. It goes to the DataLoader's workers
    by pickle or by fork; each opens the files anew.
    """

    def __init__(self, path: Path | str, *, format: str = "auto", images: Path | None = None, size: int = 112) -> None:
        """Open what `facecore embed` would; raises DataError or OptionError as that does."""
        dataset = open_dataset(located(path), format=format, images=images)
        identity = dataset.faces["identity"]
        self.root, self.format, self.size = dataset.root, dataset.format, size
        self.face_ids = dataset.faces["face_id"]
        self.identities: list[str] = pc.unique(identity).to_pylist()  # the name of each label
        self.labels = np.asarray(pc.rank(identity, tiebreaker="dense"), np.int64) - 1  # (n,)
        self._sources = dataset.faces["source"]
        self._reader: tuple[int, Reader] | None = None  # and the process that opened it

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """The image and label of a face; raises DataError, which names the face, if it cannot be read."""
        row = range(len(self))[row]  # IndexError beyond the end, as iteration wants
        try:
            pixels = decode(self._open().read(self._sources[row].as_py()), self.size)
        except (DataError, OSError) as error:
            raise DataError(f"{self.face_ids[row]} cannot be read: {error}; leave it out of the manifest") from error
        return torch.from_numpy(to_input(pixels[None], Preprocess())[0]), int(self.labels[row])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def _open(self) -> Reader:
        # a process that was forked shares the position in an open file with its parent
        if self._reader is None or self._reader[0] != os.getpid():
            self._reader = os.getpid(), READERS[self.format](self.root)
        return self._reader[1]
