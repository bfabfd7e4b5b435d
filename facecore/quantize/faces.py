"""Faces of a data set as network input, by row, with the unreadable ones put aside."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from facecore.errors import DataError
from facecore.images import Floats, Preprocess, load_batches, to_input
from facecore.models import Backbone
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

    @property
    def ends(self) -> tuple[float, float]:
        """The input that a pixel of 0 and one of 255 become."""
        low, high = ((pixel - self._preprocess.mean) / self._preprocess.scale for pixel in (0, 255))
        return low, high

    @property
    def identities(self) -> Rows:
        """Who each face is, as a number (n,)."""
        return np.asarray(pc.rank(self._dataset.faces["identity"], tiebreaker="dense"), np.int64)

    def held_out(self, count: int, seed: int) -> tuple[Rows, Rows]:
        """The rows to train on and the rows to hold out, `count` or a tenth of all at the most; both in order."""
        count = min(count, len(self) // 10)
        mixed = np.random.default_rng([seed, 2]).permutation(len(self))
        return np.sort(mixed[count:]), np.sort(mixed[:count])

    def batches(self, rows: Rows, batch_size: int) -> Iterator[tuple[Rows, Floats]]:
        """The readable ones of these rows and their input (n, 3, size, size), `batch_size` at a time, in order.

        Raises DataError when more than `max_rejected` of the data set turned out unreadable.
        """
        names = [self._sources[row] for row in rows.tolist()]
        for batch in load_batches(
            self._dataset.read, names, size=self._size, batch_size=batch_size, workers=self._workers
        ):
            self.reject({names[place]: reason for place, reason in batch.rejected})
            yield rows[batch.rows], to_input(batch.pixels, self._preprocess)

    def reject(self, sources: Mapping[str, str]) -> None:
        """Count these as unreadable, each for its reason."""
        self.rejected.update(sources)
        if len(self.rejected) > self._max_rejected * len(self):
            source, reason = next(iter(self.rejected.items()))
            raise DataError(
                f"{len(self.rejected):,} of {len(self):,} faces cannot be read, first {source}: {reason}; "
                "mend or leave out these, or allow more with --max-rejected"
            )


def evenly(rows: Rows, count: int) -> Rows:
    """At most `count` of the rows, evenly spaced, so that they cover the identities of a sorted data set."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.int64)
    return rows[np.unique(places)]


def manifest_preprocess(dataset: Dataset, backbone: Backbone) -> Preprocess:
    """What the manifest's maker fed to this very network; the field's default for another network or no record."""
    facts = dataset.facts
    if facts.get("model", {}).get("sha256") == backbone.sha256 and "preprocess" in facts:
        return Preprocess(**facts["preprocess"])
    return Preprocess()
