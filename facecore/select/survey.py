"""What a selector has to know of the whole store before it can rank a face, found out piece by piece."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Embeddings, Piece
from facecore.embeddings.store import PIECE_ROWS
from facecore.parallel import in_order
from facecore.progress import progress

Table = npt.NDArray[Any]  # a line for every identity
Lines = Callable[[Piece], Table]  # those of the identities of a piece


class Survey:
    """Looks over a whole store here and now; `select.parts` has one that does so shard by shard, in many processes."""

    def __init__(self, store: Embeddings, threads: int = 1) -> None:
        self.store, self.threads = store, threads

    def of_identities(
        self, name: str, lines: Lines, *, width: int, dtype: npt.DTypeLike, rows: int = PIECE_ROWS
    ) -> Table:
        """Lines (identities, width) in the order of the store, from those of its pieces of at most so many rows."""
        return self.fill(name, lines, self.store.pieces(rows=rows), np.empty((self.store.identities, width), dtype))

    def once(self, name: str, find: Callable[[], Table]) -> Table:
        """What cannot be found out piece by piece."""
        return find()

    def fill(self, name: str, lines: Lines, pieces: Sequence[Piece], table: Table) -> Table:
        """Write the lines of some pieces that follow each other into a table, and return it."""

        def write(piece: Piece) -> int:
            at = piece.first_identity - pieces[0].first_identity
            table[at : at + len(piece.starts) - 1] = lines(piece)
            return len(piece)

        with progress(sum(map(len, pieces)), name, "faces") as bar:
            for faces in in_order(write, pieces, threads=self.threads):
                bar.update(faces)
        return table
