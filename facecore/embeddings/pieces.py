"""What is read of a store at a time: whole identities, into memory that is used again."""

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shard:
    """The faces of some whole identities, sorted by identity, then face_id."""

    vectors: Vectors  # (n, d), rows are unit length
    starts: npt.NDArray[np.int64]  # (identities + 1,), the rows of identity i are starts[i] to starts[i + 1]
    first: int = 0  # which row of the store row 0 is
    first_identity: int = 0  # which identity of the store identity 0 is

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def identities(self) -> int:
        """How many identities the shard holds."""
        return len(self.starts) - 1


@dataclass(frozen=True)
class Piece:
    """Where some whole identities lie, to be read as a shard: cheap to hold, and to send."""

    number: int  # of the shard file
    starts: npt.NDArray[np.int64]  # (identities + 1,), rows of that file
    first: int
    first_identity: int

    def __len__(self) -> int:
        return int(self.starts[-1] - self.starts[0])


class Buffers(threading.local):
    """Memory to read pieces into, one for each thread: what was read lives until the thread reads again."""

    def __init__(self) -> None:
        self._halves, self._rows = np.empty(0, np.float16), np.empty(0, np.float32)

    def rows(self, n: int, dimension: int) -> tuple[npt.NDArray[np.float16], Vectors]:
        """Halves and floats (n, dimension), undefined."""
        if self._rows.size < n * dimension:
            self._halves, self._rows = np.empty(n * dimension, np.float16), np.empty(n * dimension, np.float32)
        return tuple(flat[: n * dimension].reshape(n, dimension) for flat in (self._halves, self._rows))  # type: ignore[return-value]
