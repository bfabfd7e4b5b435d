"""Who is trained on, and which faces make up each step: pure functions of a seed, so that a run can go on anywhere."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from facecore.errors import DataError, OptionError
from facecore.readers import Dataset

Rows = npt.NDArray[np.int64]

SAMPLINGS = ("plain", "balanced")
SHARE, ORDER, DRAWS, CLASSES = range(4)  # what a seed is for: each use has its own stream of numbers


class Roster:
    """The faces of a data set that are trained on, and the class of each: a number from 0 on for every identity."""

    def __init__(self, dataset: Dataset, *, identities: float | None, faces: float | None, seed: int) -> None:
        """Take all, or a share of the identities or of the faces, drawn; raises DataError if fewer than 2 remain."""
        names = pc.unique(dataset.faces["identity"])
        classes = np.asarray(pc.index_in(dataset.faces["identity"], value_set=names), np.int64)
        draw = np.random.default_rng([seed, SHARE])
        rows = np.arange(len(classes))
        if identities is not None:
            drawn = draw.permutation(len(names))[: round(identities * len(names))]
            rows = rows[np.isin(classes, drawn)]
        if faces is not None:
            rows = np.sort(draw.permutation(len(rows))[: round(faces * len(rows))])
        there, own = np.unique(classes[rows], return_inverse=True)
        if len(there) < 2:
            share = "" if identities is None and faces is None else f" in the share drawn, of {len(names):,} in all"
            raise DataError(
                f"{dataset.root} has {len(there)} {'identity' if len(there) == 1 else 'identities'}{share}; "
                "a margin softmax tells identities apart and needs at least 2"
            )
        self.names, order = _in_class_order(names.take(pa.array(there)))
        self.rows: Rows = rows
        self.classes: Rows = np.argsort(order)[own]  # (n,)

    def __len__(self) -> int:
        return len(self.rows)


def _in_class_order(names: pa.Array) -> tuple[pa.Array, Rows]:
    """Sorted names in the order of their classes, and which of the sorted ones each is.

    It is the sorted order, except that class i is the identity named i where the names are just the numbers below
    their count, as in RecordIO: so whoever reads the head without its names understands it.
    """
    if pc.all(pc.match_substring_regex(names, "^[0-9]{1,9}$")).as_py():
        numbers = names.cast(pa.int64()).to_numpy()
        if np.array_equal(np.sort(numbers), np.arange(len(numbers))):
            order = np.argsort(numbers)
            return names.take(pa.array(order)), order
    return names, np.arange(len(names))


class Plan:
    """The faces of every step, as places in a roster: epoch after epoch, each in a new order, cut into batches."""

    def __init__(self, classes: Rows, *, sampling: str, batch_size: int, seed: int) -> None:
        """`plain` has every face once an epoch; `balanced` the mean number of faces of every identity.

        There faces of small identities return, and of large ones some are drawn anew for each epoch.
        """
        self._classes, self._balanced, self._seed = classes, sampling == "balanced", seed
        self.batch_size = batch_size
        self._counts = np.bincount(classes)
        self._quota = max(1, round(len(classes) / len(self._counts)))
        self.epoch_faces = self._quota * len(self._counts) if self._balanced else len(classes)
        self._order = lru_cache(2)(self._new_order)  # a batch lies in one epoch, or across two

    def places(self, step: int) -> Rows:
        """The places of a step, (batch_size,)."""
        every = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, within = np.divmod(every, self.epoch_faces)
        places: Rows = np.concatenate([self._order(int(e))[within[epochs == e]] for e in np.unique(epochs)])
        return places

    def _new_order(self, epoch: int) -> Rows:
        draw = np.random.default_rng([self._seed, ORDER, epoch])
        if not self._balanced:
            return draw.permutation(len(self._classes))
        mixed = draw.permutation(len(self._classes))
        by_class = mixed[np.argsort(self._classes[mixed], kind="stable")]  # each class in an order of its own
        starts = np.cumsum(self._counts) - self._counts
        turns = np.arange(self._quota)[None, :] % self._counts[:, None]  # (classes, quota)
        return draw.permutation(by_class[(starts[:, None] + turns).ravel()])


def sampled_classes(positive: Rows, classes: int, *, sample: float, seed: int, step: int) -> Rows:
    """The classes that a step compares with, sorted: those of its faces, and others drawn up to the sample.

    `sample` is a share of the classes up to 1, or their number from 2 on (Partial FC, An et al. 2022: positive classes
    are always there).
    """
    wanted = min(classes, round(sample * classes) if sample <= 1 else int(sample))
    own = np.unique(positive)
    if wanted >= classes:
        return np.arange(classes)
    draw = np.random.default_rng([seed, CLASSES, step])
    # as many as are wanted, of which some are there already; those are left out, and then those that are too many
    others = np.setdiff1d(draw.choice(classes, wanted, replace=False, shuffle=False), own, assume_unique=True)
    return np.union1d(own, draw.permutation(others)[: max(0, wanted - len(own))])


def check_batch(batch_size: int, processes: int) -> None:
    """Raise OptionError unless every process gets the same number of faces of a batch, at least 2."""
    if batch_size % processes or batch_size < 2 * processes:
        raise OptionError(
            f"batch_size must be a multiple of the {processes} processes, and at least 2 each; got {batch_size}"
        )
