"""Which faces make up each step of training."""

from collections.abc import Iterator

import numpy as np

from facecore.errors import DataError
from facecore.quantize.distill import Schedule
from facecore.quantize.faces import Rows

IDENTITIES, FACES_EACH = 8, 4  # beside the random faces of a batch, where a loss compares faces of one person


def orders(rows: Rows, schedule: Schedule) -> Iterator[tuple[Rows, bool]]:
    """The rows of each step and whether they are mirrored: each of `rows` once an epoch, every time in a new order."""
    draw = np.random.default_rng(schedule.seed)
    waiting = np.empty(0, np.int64)
    for _ in range(schedule.steps):
        while len(waiting) < min(schedule.batch_size, len(rows)):
            waiting = np.append(waiting, draw.permutation(rows))
        yield waiting[: schedule.batch_size], bool(draw.integers(2))
        waiting = waiting[schedule.batch_size :]


def balanced(rows: Rows, identities: Rows, schedule: Schedule) -> Iterator[tuple[Rows, bool]]:
    """As `orders`, and with each step FACES_EACH faces of each of IDENTITIES identities, drawn anew.

    `identities` says who every face of the data set is. Raises DataError if fewer than two have that many faces.
    """
    draw = np.random.default_rng([schedule.seed, 1])
    people, counts = np.unique(identities[rows], return_counts=True)
    people = people[counts >= FACES_EACH]
    if len(people) < 2:
        raise DataError(
            f"the loss ekd compares faces of one person, and needs 2 identities with {FACES_EACH} faces each or more; "
            f"the data set has {len(people)}: use --loss cosine"
        )
    by_identity = rows[np.argsort(identities[rows], kind="stable")]
    first, last = (np.searchsorted(identities[by_identity], people, side) for side in ("left", "right"))
    for some, mirrored in orders(rows, schedule):
        drawn = draw.choice(len(people), min(IDENTITIES, len(people)), replace=False)
        of_each = [draw.choice(by_identity[first[who] : last[who]], FACES_EACH, replace=False) for who in drawn]
        yield np.concatenate([some, *of_each]), mirrored
