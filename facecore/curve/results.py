"""What a sweep found, and how much of it is above chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from facecore.curve.options import Point
from facecore.curve.pools import RANDOM
from facecore.curve.statistics import Accuracies, Interval, over_seeds, paired_difference
from facecore.curve.sweep import Sweep


class Place(NamedTuple):
    """A place on the curve: all seeds of it together."""

    protocol: str
    method: str
    fraction: float


@dataclass(frozen=True)
class Results:
    """What a sweep found; the reports and references are as in its files."""

    sweep: Sweep
    reports: Mapping[Point, Mapping[str, Any]]
    references: Mapping[str, Mapping[str, Any]]  # by float and calibrated, then by protocol

    @classmethod
    def of(cls, sweep: Sweep, references: Mapping[str, Mapping[str, Any]]) -> "Results":
        """The results of a sweep whose points are all finished."""
        return cls(sweep, {point: sweep.report(point) or {} for point in sweep.points}, references)

    @property
    def protocols(self) -> list[str]:
        """Their names, in the order given."""
        return [check.name for check in self.sweep.checks]

    def reference(self, protocol: str, stage: str) -> float:
        """The accuracy of the teacher (`float`) or the `calibrated` network."""
        return float(self.references[stage][protocol][stage]["accuracy"])

    def folds(self, place: Place) -> Accuracies:
        """The accuracies at a place, (seeds, folds)."""
        points = [self.sweep.point(place.method, place.fraction, seed) for seed in self.sweep.options.seed_range]
        found = [self.reports[point]["accuracy"][place.protocol]["fine_tuned"] for point in points]
        return np.array([of["fold_accuracies"] for of in found])

    def accuracy(self, place: Place) -> Interval:
        """The mean accuracy at a place, and its interval over seeds."""
        return over_seeds(self.folds(place).mean(axis=1))

    def above_chance(self, place: Place) -> Interval | None:
        """How much more accurate a place is than `random` there; None if that is the same point, or was not run."""
        if RANDOM not in self.sweep.pool.methods or place.method == RANDOM or place.fraction == 1:
            return None
        return paired_difference(self.folds(place), self.folds(place._replace(method=RANDOM)))

    @property
    def budget(self) -> str:
        """The budget rule in words."""
        options = self.sweep.quantize
        if self.sweep.options.budget == "steps":
            return f"equal steps: {options.steps:,} of {options.batch_size} faces at every point"
        epochs = "epoch" if options.epochs == 1 else "epochs"
        return f"equal epochs: {options.epochs:g} {epochs} over the faces of each point, so cost falls with the data"
