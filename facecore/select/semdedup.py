"""SemDeDup: k-means cells over all faces, and in each a cut by cosine (Abbas et al. 2023, arXiv 2303.09540)."""

import itertools
import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from facecore.centres import mean_rows
from facecore.compiled import widen_rows
from facecore.embeddings import Buffers, Embeddings, Piece, Shard, Vectors, vectors_path
from facecore.errors import OptionError
from facecore.grid import Levels, to_cosines, to_levels
from facecore.npy import load_npy
from facecore.parallel import in_order
from facecore.progress import progress
from facecore.search import Index
from facecore.select.large import walk
from facecore.select.local import Rows
from facecore.select.rivals import Seeded
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Survey

SAMPLED, ROUNDS = 64, 10  # faces a cell for k-means, and its rounds


@dataclass(frozen=True)
class SemDeDup(Seeded):
    """Inside a k-means cell, drop a face that is near to one farther from the cell's centroid, kept or not.

    Cells know no identities; the limits still hold for these. The threshold is the cosine of the paper, 1 - epsilon.
    """

    name: ClassVar[str] = "semdedup"

    cells: int | None = field(
        default=None, metadata={"help": "Of k-means; by default the square root of the number of faces."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells is not None and self.cells < 1:
            raise OptionError(f"cells must be 1 or more, got {self.cells}")

    def ranking(self, survey: Survey) -> Ranking:
        """Find the cells, and of every face the largest cosine to one of its cell that comes before it."""
        store, threads = survey.store, survey.threads
        cells = min(store.rows, self.cells or round(math.sqrt(store.rows)))

        def find() -> Levels:
            return _nearest_before(store, *_cells(store, _centroids(store, cells, self.seed), threads), threads)

        nearest = survey.once("duplicates", find)

        def rank(shard: Shard) -> Ranked:
            levels = nearest[shard.first : shard.first + len(shard)]
            return Ranked(1 - to_cosines(levels), levels)

        return Ranking(rank, lambda: {"cells": cells})


def _centroids(store: Embeddings, cells: int, seed: int) -> Vectors:
    """Spherical k-means on a sample of the faces, (cells, d); an empty cell keeps its centroid."""
    drawn = np.random.default_rng(seed).choice(store.rows, min(store.rows, SAMPLED * cells), replace=False)
    sample = _gather(store, drawn)
    centroids = sample[:cells].copy()
    for _ in range(ROUNDS):
        cell = Index.over(centroids, how="exact").nearest(sample, 1)[1][:, 0]
        order, filled = np.argsort(cell, kind="stable"), np.unique(cell)
        means = mean_rows(sample[order], np.append(np.searchsorted(cell[order], filled), len(cell)))
        centroids[filled] = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.float32(1e-12))
    return centroids


def _cells(store: Embeddings, centroids: Vectors, threads: int) -> tuple[npt.NDArray[np.int32], Levels]:
    """The cell of every face of the store, and the level of its cosine to the centroid, (rows,) each."""
    index, buffers = Index.over(centroids, how="exact"), Buffers()
    cell, level = np.empty(store.rows, np.int32), np.empty(store.rows, np.uint16)

    def fill(piece: Piece) -> int:
        rows = slice(piece.first, piece.first + len(piece))
        cosines, cells = index.nearest(store.read(piece, buffers).vectors, 1)
        cell[rows], level[rows] = cells[:, 0], to_levels(cosines[:, 0])
        return len(piece)

    with progress(store.rows, "cells", "faces") as bar:
        for faces in in_order(fill, store.pieces(), threads=threads):
            bar.update(faces)
    return cell, level


def _nearest_before(store: Embeddings, cell: npt.NDArray[np.int32], to_centroid: Levels, threads: int) -> Levels:
    """The highest level of every face to one of its cell that is farther from the centroid, (rows,); 0 without one."""
    nearest = np.empty(store.rows, np.uint16)
    order = np.lexsort((to_centroid, cell))  # stable: of equals the earlier row comes first
    borders = np.flatnonzero(np.diff(cell[order], prepend=-1, append=-1))

    def fill(rows: Rows) -> int:
        nearest[rows] = walk(_gather(store, rows), np.arange(len(rows)), rows[:0])[1]
        return len(rows)

    with progress(store.rows, "duplicates", "faces") as bar:
        for faces in in_order(fill, (order[a:b] for a, b in itertools.pairwise(borders)), threads=threads):
            bar.update(faces)
    return nearest


def _gather(store: Embeddings, rows: Rows) -> Vectors:
    """The vectors of any rows of a store, in the order given."""
    halves = np.empty((len(rows), store.dimension), np.float16)
    firsts = np.array([store.first(number) for number in range(len(store))])
    numbers = np.searchsorted(firsts, rows, "right") - 1
    for number in np.unique(numbers).tolist():
        here = numbers == number
        halves[here] = load_npy(vectors_path(store.path, number))[rows[here] - firsts[number]]
    vectors = np.empty(halves.shape, np.float32)
    widen_rows(halves, vectors, tolerance=math.inf)  # `read` checks lengths, and every face is read once
    return vectors
