"""What is noise: 95 % intervals over seeds, and of paired differences over seeds and folds."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Accuracies = npt.NDArray[np.floating[Any]]


class Interval(NamedTuple):
    """A mean and half the width of its 95 % interval, None where one value does not tell."""

    mean: float
    half: float | None

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0, or is not known."""
        return self.half is None or abs(self.mean) <= self.half


def over_seeds(values: Accuracies) -> Interval:
    """The mean of one value a seed, (seeds,), and where the mean of many seeds lies: Student's t."""
    count = len(values)
    if count < 2:
        return Interval(float(np.mean(values)), None)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Interval(float(np.mean(values)), student_t(count - 1) * error)


def paired_difference(ours: Accuracies, theirs: Accuracies) -> Interval:
    """By how much the first accuracies are above the second, both (seeds, folds): the same folds of the same pairs.

    Two paired t intervals are made: one over the folds (the seeds averaged) says whether the difference would be there
    with other people, one over the seeds (the folds averaged) whether it would be with other draws of faces. As both
    may err at once, half the interval given is the root of the sum of their squares. With one seed there is the first
    alone. Pairs are no unit of their own: those of a fold share
    images and people, but folds share none, so a test over pairs (McNemar's) would find too much. The known objection
    to t tests over folds (Dietterich 1998), that their training sets overlap, is none here: nothing is trained on
    them, only the cosine of a fold is chosen on the others. On made-up seed and fold effects of many sizes the interval
    held the truth in 95 to 99.7 % of the cases, for 2 to 20 seeds; the wider of the two alone in 90 to 99 %.
    """
    differences = ours - theirs
    over_folds = over_seeds(differences.mean(axis=0))
    seeds = over_seeds(differences.mean(axis=1))
    return Interval(over_folds.mean, math.hypot(over_folds.half or 0.0, seeds.half or 0.0))


@functools.cache
def student_t(degrees: int) -> float:
    """How many standard errors a 95 % interval reaches to either side, at this many degrees of freedom, 1 or more.

    By halving, from the finite sums for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4): all of scipy would be
    needed for nothing else.
    """
    low, high = 0.0, math.pi / 2  # of atan(t / sqrt(degrees))
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _within(angle, degrees) < 0.95 else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """The chance that Student's t is within +- sqrt(degrees) tan(angle)."""
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
