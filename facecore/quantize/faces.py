"""Faces of a data set as network input, by row, with the unreadable ones put aside."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from facecore.errors import DataError
from facecore.images import Floats, Preprocess, load_batches, to_input
from facecore.readers import Dataset

Rows = npt.NDArray[np.int64]


class Faces:
    """The images of a data set, in any order, any number of times; what cannot be read is listed in `rejected`."""

    def __init__(
        self, dataset: Dataset, *, size: int, preprocess: Preprocess, workers: int, max_rejected: float
    ) -> None:
        self._dataset, self._size, self._preprocess = dataset, size, preprocess
        self._workers, self._max_rejected = workers, max_rejected
        self._sources: list[str] = dataset.faces["source"].to_pylist()
        self.rejected: dict[str, str] = {}  # source -> reason

    def __len__(self) -> int:
        return len(self._sources)

    def evenly(self, count: int) -> Rows:
        """At most `count` rows, evenly spaced over the data set, so that they cover its identities."""
        return np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64))

    def batches(self, rows: Rows, batch_size: int) -> Iterator[tuple[Rows, Floats]]:
        """The readable ones of these rows and their input (n, 3, size, size), `batch_size` at a time, in order.

        Raises DataError when more than `max_rejected` of the data set turned out unreadable.
        """
        names = [self._sources[row] for row in rows.tolist()]
        for batch in load_batches(
            self._dataset.read, names, size=self._size, batch_size=batch_size, workers=self._workers
        ):
            self._reject([(names[place], reason) for place, reason in batch.rejected])
            yield rows[batch.rows], to_input(batch.pixels, self._preprocess)

    def _reject(self, faces: Sequence[tuple[str, str]]) -> None:
        self.rejected.update(faces)
        if len(self.rejected) > self._max_rejected * len(self):
            source, reason = next(iter(self.rejected.items()))
            raise DataError(
                f"{len(self.rejected):,} of {len(self):,} faces cannot be read, first {source}: {reason}; "
                "mend or leave out these, or allow more with --max-rejected"
            )
