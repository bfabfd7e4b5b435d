"""The teacher: the float network, asked for each face once."""

import numpy as np
import numpy.typing as npt

from facecore.images import Floats
from facecore.models import Backbone


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
