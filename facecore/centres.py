"""The centre of every identity: what stands for a person in a search."""

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled_sums
from facecore.embeddings import Buffers, Embeddings, Piece, Shard, Vectors
from facecore.parallel import cores, in_order
from facecore.progress import progress


@compiled_sums
def mean_rows(vectors: Vectors, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The mean of each run of rows, not renormalised, (identities, d)."""
    runs, d = len(starts) - 1, vectors.shape[1]
    means = np.empty((runs, d), np.float32)
    total = np.empty(d, np.float64)
    for run in range(runs):
        total[:] = 0
        for row in range(starts[run], starts[run + 1]):
            for k in range(d):
                total[k] += vectors[row, k]
        for k in range(d):
            means[run, k] = total[k] / (starts[run + 1] - starts[run])
    return means


@compiled_sums
def own_cosines(
    vectors: Vectors, starts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """How near each face is to its identity, (n,) twice: f . mu, and the cosine to the centre of the other faces.

    mu is the mean of the unit rows, not renormalised. A face alone has no other faces: its cosine to them is 1.
    """
    n, d = vectors.shape
    to_mean, to_others = np.empty(n, np.float32), np.ones(n, np.float32)
    total, rounded = np.empty(d, np.float64), np.empty(d, np.float32)
    for run in range(len(starts) - 1):
        begin, end = starts[run], starts[run + 1]
        total[:] = 0
        for row in range(begin, end):
            for k in range(d):
                total[k] += vectors[row, k]
        square = 0.0
        for k in range(d):
            square += total[k] * total[k]
            rounded[k] = total[k]
        for row in range(begin, end):
            dot = np.float32(0)
            for k in range(d):
                dot += vectors[row, k] * rounded[k]
            to_mean[row] = dot / (end - begin)
            if end - begin > 1:  # the sum of the others is total - f, and f . f = 1
                others = square - 2.0 * dot + 1.0
                to_others[row] = (dot - 1.0) / np.sqrt(others) if others > 1e-12 else 0.0
    return to_mean, to_others


@compiled_sums
def cosines_to(vectors: Vectors, starts: npt.NDArray[np.int64], points: Vectors) -> npt.NDArray[np.float32]:
    """The product of each row with the point of its run, (n,); points is (identities, d)."""
    products = np.empty(len(vectors), np.float32)
    for run in range(len(starts) - 1):
        for row in range(starts[run], starts[run + 1]):
            product = np.float32(0)
            for k in range(vectors.shape[1]):
                product += vectors[row, k] * points[run, k]
            products[row] = product
    return products


def unit_means(shard: Shard) -> npt.NDArray[np.float16]:
    """The normalised mean of every identity of a shard, (identities, d); zeros where there is none."""
    means = mean_rows(shard.vectors, shard.starts)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    units: npt.NDArray[np.float16] = (means / np.maximum(length, 1e-12)).astype(np.float16)
    return units


def identity_centres(store: Embeddings, *, threads: int | None = None) -> npt.NDArray[np.float16]:
    """The unit means of a whole store, (identities, d), in its order."""
    centres = np.empty((store.identities, store.dimension), np.float16)
    buffers = Buffers()

    def fill(piece: Piece) -> int:
        shard = store.read(piece, buffers)
        centres[shard.first_identity : shard.first_identity + shard.identities] = unit_means(shard)
        return len(shard)

    with progress(store.rows, "centres", "faces") as bar:
        for faces in in_order(fill, store.pieces(), threads=threads or cores()):
            bar.update(faces)
    return centres
