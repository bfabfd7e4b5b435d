"""How well cosines tell pairs of one person from pairs of two: pure functions of arrays."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from facecore.errors import DataError, OptionError

Cosines = npt.NDArray[np.floating[Any]]
Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer[Any]]


class FoldAccuracy(NamedTuple):
    """Accuracy as LFW defines it, a fraction, and what it is the mean of."""

    mean: float
    standard_error: float  # sample standard deviation over the folds / sqrt(folds)
    min_cosines: npt.NDArray[np.float64]  # (folds,), from which cosine on a pair was called the same
    accuracies: npt.NDArray[np.float64]  # (folds,), in ascending order of the fold's label


def ten_fold_accuracy(cosines: Cosines, same: Flags, folds: Labels) -> FoldAccuracy:
    """Mean accuracy over the folds (ten, usually), each judged at the cosine that does best on the other folds.

    A pair is called the same if its cosine is at least min_cosine. Tried are all cosines of the other folds and one
    above them all, so the best is exact; of equally good ones the highest is taken. All arguments are (pairs,).
    Raises DataError unless there are at least two folds and both kinds of pairs.
    """
    check_pairs(same, folds, "the protocol")
    values = cosines.astype(np.float64)
    descending = np.argsort(-values, kind="stable")
    values, same, folds = values[descending], same[descending], folds[descending]
    labels = np.unique(folds)
    min_cosines, accuracies = np.empty(len(labels)), np.empty(len(labels))
    for i, label in enumerate(labels):
        held_out = folds == label
        min_cosines[i] = _best_min_cosine(values[~held_out], same[~held_out])
        accuracies[i] = np.mean((values[held_out] >= min_cosines[i]) == same[held_out])
    standard_error = float(np.std(accuracies, ddof=1)) / math.sqrt(len(labels))
    return FoldAccuracy(float(np.mean(accuracies)), standard_error, min_cosines, accuracies)


def _best_min_cosine(descending: npt.NDArray[np.float64], same: Flags) -> float:
    """The highest of the cosines with the best accuracy; the first argument is sorted, both are (pairs,)."""
    # row k: how many are right if the k nearest pairs are called the same; from right-for-none on, +1 or -1 a pair
    right = np.concatenate([[0], np.cumsum(np.where(same, 1, -1))])
    # a min_cosine cannot part equal cosines: k may not end inside a run of them
    possible = np.concatenate([[True], descending[1:] != descending[:-1], [True]])
    nearest = int(np.argmax(np.where(possible, right, -len(same) - 1)))  # the first of the best: the highest cosine
    return float(descending[nearest - 1] if nearest else np.nextafter(descending[0], np.inf))


def tar_at_far(cosines: Cosines, same: Flags, far: float) -> float | None:
    """The fraction of genuine pairs accepted where at most the fraction `far` of all impostor pairs is.

    Accepted are the cosines strictly above the (floor(far * impostors) + 1)-th highest of an impostor pair: no lower
    acceptance keeps the promise. None if far * impostors is below 1, where one impostor more or less decides, or if
    there are no genuine pairs. Raises OptionError unless 0 < far <= 1.
    """
    if not 0 < far <= 1:
        raise OptionError(f"far is the fraction of impostor pairs accepted, in (0, 1]; got {far}")
    genuine, impostors = cosines[same], cosines[~same]
    # the decimal as written: 0.29 * 100 in floats is below 29
    admitted = math.floor(Fraction(str(float(far))) * len(impostors))
    if admitted < 1 or not len(genuine):
        return None
    if admitted == len(impostors):
        return 1.0
    place = len(impostors) - 1 - admitted
    return float(np.mean(genuine > np.partition(impostors, place)[place]))


class Roc(NamedTuple):
    """The steps of the curve, all of them: a row for every distinct cosine of a genuine pair, in descending order."""

    min_cosine: Cosines  # (steps,), accepted are pairs with at least this cosine
    far: npt.NDArray[np.float64]  # (steps,), the fraction of impostor pairs accepted
    tar: npt.NDArray[np.float64]  # (steps,), the fraction of genuine pairs accepted
    impostors: int  # pairs, of which FAR is a fraction


def roc_of(cosines: Cosines, same: Flags) -> Roc:
    """The curve of these pairs, both (pairs,): between two rows TAR stays that of the upper while FAR grows."""
    genuine, impostors = np.sort(cosines[same]), np.sort(cosines[~same])
    steps = np.unique(genuine)[::-1]
    far = (len(impostors) - np.searchsorted(impostors, steps, side="left")) / len(impostors)
    tar = (len(genuine) - np.searchsorted(genuine, steps, side="left")) / len(genuine)
    return Roc(steps, far, tar, len(impostors))


def check_pairs(same: Flags, folds: Labels, where: str) -> None:
    """Raise DataError unless the pairs are in at least two folds and of both kinds."""
    if not (np.any(same) and not np.all(same)):
        missing = "different people" if np.any(same) else "one person"
        raise DataError(
            f"{where} has {len(same):,} pairs, none of them of {missing}; telling the two kinds apart takes both"
        )
    if len(np.unique(folds)) < 2:
        raise DataError(
            f"{where} has all {len(same):,} pairs in one fold; the cosine for a fold is chosen on the others, "
            "so at least 2 are needed"
        )
