"""From the faces of a plan to the batches of its steps, read, decoded and augmented ahead of the network."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facecore.errors import DataError
from facecore.images import Preprocess, decode, to_input
from facecore.parallel import in_order
from facecore.readers import Dataset
from facecore.train.augment import augmentations_of, augmented
from facecore.train.networks import SIZE
from facecore.train.options import TrainOptions
from facecore.train.sampling import DRAWS, Plan, Roster, sampled_classes


@dataclass(frozen=True)
class Batch:
    """What a process learns in a step."""

    step: int
    images: Tensor  # (n, 3, 112, 112)
    labels: Tensor  # (n,), classes
    compared: Tensor  # (m,), the classes to compare with: the same in all processes
    rejected: dict[str, str]  # source -> reason


class Loader:
    """The batches of one process; what cannot be read is left out, and listed in `rejected`."""

    def __init__(
        self, dataset: Dataset, roster: Roster, plan: Plan, options: TrainOptions, *, rank: int = 0, processes: int = 1
    ) -> None:
        self._dataset, self._roster, self._plan, self._options = dataset, roster, plan, options
        self._augmentations = augmentations_of(options.augment)
        each = plan.batch_size // processes
        self._share = slice(rank * each, (rank + 1) * each)
        self.rejected: dict[str, str] = {}  # source -> reason

    def batches(self, first: int, steps: int) -> Iterator[Batch]:
        """The batches from step `first` on, up to `steps`, in order.

        Raises DataError as soon as more than `max_rejected` of the faces turned out unreadable, or nearly all of a
        batch: whatever was not met until then may be unreadable too.
        """
        workers = self._options.workers
        for batch in in_order(self._prepare, range(first, steps), threads=workers, ahead=workers + 1):
            self._reject(batch)
            yield batch

    def _prepare(self, step: int) -> Batch:
        """Everything of a step: a thread works on one alone."""
        places = self._plan.places(step)
        compared = sampled_classes(
            self._roster.classes[places],
            len(self._roster.names),
            sample=self._options.sample_classes,
            seed=self._options.seed,
            step=step,
        )
        pixels, labels, rejected = [], [], {}
        for number in range(len(places))[self._share]:
            source: str = self._dataset.faces["source"][int(self._roster.rows[places[number]])].as_py()
            draw = np.random.default_rng([self._options.seed, DRAWS, step, number])
            try:
                face = decode(self._dataset.read(source), SIZE)
            except (DataError, OSError) as error:
                rejected[source] = str(error)
                continue
            share, flip = self._options.augment_share, self._options.flip
            pixels.append(augmented(face, self._augmentations, draw, share=share, flip=flip))
            labels.append(self._roster.classes[places[number]])
        stacked = np.stack(pixels) if pixels else np.empty((0, SIZE, SIZE, 3), np.uint8)
        images = torch.from_numpy(to_input(stacked, Preprocess())).contiguous(memory_format=torch.channels_last)
        return Batch(step, images, torch.tensor(np.array(labels, np.int64)), torch.from_numpy(compared), rejected)

    def _reject(self, batch: Batch) -> None:
        self.rejected.update(batch.rejected)
        too_many = len(self.rejected) > self._options.max_rejected * len(self._roster)
        if too_many or len(batch.labels) < 2:  # batches are normalised
            source, reason = next(iter(self.rejected.items()))
            more = "allow more with --max-rejected" if too_many else "take a larger --batch-size"
            found = "1 face" if len(self.rejected) == 1 else f"{len(self.rejected):,} faces"
            raise DataError(
                f"{found} so far of {len(self._roster):,} cannot be read, first {source}: {reason}; "
                f"mend or leave out such faces, or {more}"
            )
