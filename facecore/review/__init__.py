"""Reviewing a data set before it is used: labels that are likely wrong, and people or images of the tests in it."""

from facecore.review.benchmark import Against
from facecore.review.conflicts import ConflictOptions, Conflicts, conflicts
from facecore.review.overlap import Overlap, OverlapOptions, overlap

__all__ = [
    "Against",
    "ConflictOptions",
    "Conflicts",
    "Overlap",
    "OverlapOptions",
    "conflicts",
    "overlap",
]
