"""How much a data set repeats itself: what the threshold of a selection means, whatever network the cosines are of."""

from itertools import pairwise

import numpy as np

from facecore.embeddings import Buffers, Embeddings, Vectors
from facecore.embeddings.store import PIECE_ROWS
from facecore.grid import on_grid

PIECES = 64  # at most, of about 1,024 faces: a share of millions of pairs, read in a second


def share_of_pairs_above(store: Embeddings, max_cosine: float) -> float | None:
    """Say which share of the pairs of faces of one identity are nearer than a cosine, from 0 to 1; None without pairs.

    Counted over all faces where there are few; else over 33 to 64 runs of about 1,024 faces in whole identities,
    evenly spread, and of a larger identity over as many of its faces. Raises DataError if a vector is not of unit
    length.
    """
    pieces, buffers = store.pieces(), Buffers()
    above, pairs = 0, 0
    for piece in pieces[:: -(-len(pieces) // PIECES)]:
        read = store.read(piece, buffers)
        for start, end in pairwise(read.starts.tolist()):
            nearer, all_pairs = _count(read.vectors[start : end : -(-(end - start) // PIECE_ROWS)], max_cosine)
            above, pairs = above + nearer, pairs + all_pairs
    return above / pairs if pairs else None


def _count(faces: Vectors, max_cosine: float) -> tuple[int, int]:
    cosines = on_grid((faces @ faces.T)[np.triu_indices(len(faces), 1)])
    return int(np.count_nonzero(cosines > max_cosine)), len(cosines)
