"""The teacher: the float network, asked for each face once."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facecore.images import Floats
from facecore.models import Backbone
from facecore.provenance import written_whole


class Teacher:
    """A network's embeddings of the faces of a data set, mirrored or not, each computed when first asked for."""

    def __init__(self, backbone: Backbone, faces: int) -> None:
        self._backbone = backbone
        self._embeddings = np.zeros((2, faces, backbone.dimension), np.float32)
        self._known = np.zeros((2, faces), np.bool_)

    def embed(self, rows: npt.NDArray[np.int64], images: Floats, *, mirrored: bool) -> Floats:
        """Embeddings (n, d) of these rows, whose input (n, 3, size, size) is given, mirrored already if so."""
        side = int(mirrored)
        new = ~self._known[side, rows]
        if new.any():
            self._embeddings[side, rows[new]] = self._backbone.embed(images[new])
            self._known[side, rows[new]] = True
        return np.asarray(self._embeddings[side, rows])

    def save(self, path: Path, fingerprint: str) -> None:
        """Write what is known, with a text that says of which network and faces."""
        with written_whole(path) as part, part.open("wb") as stream:
            np.savez(stream, known=self._known, embeddings=self._embeddings[self._known], fingerprint=fingerprint)

    def load(self, path: Path, fingerprint: str) -> None:
        """Take over what `save` wrote; one that is missing, damaged, or of other faces or another network is none."""
        try:
            with np.load(path) as saved:
                if str(saved["fingerprint"]) == fingerprint:
                    self._known[:] = saved["known"]
                    self._embeddings[self._known] = saved["embeddings"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            self._known[:] = False
