"""What a user would pick instead of facecore, each as plainly as its own documentation says.

python benchmarks/foreign.py METHOD VECTORS.npy IDENTITY.npy OUT.npy [--keep 0.6]

Each method gets unit rows (n, d) float32 and the number of each row's identity (n,), sorted, and returns which rows
stay, (n,). Where a method has a threshold and no ratio, the threshold is bisected until the count is within 0.1 % of
the ratio, over neighbours found once, as anybody would do. This file runs without facecore, in any environment that
has numpy and what the method itself imports.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Identities = npt.NDArray[np.int64]
Kept = npt.NDArray[np.bool_]
Neighbours = Sequence[tuple[npt.NDArray[np.int64], Rows]]  # for every row, other rows and the cosines to them


def numpy_greedy(rows: Rows, identity: Identities, keep: float) -> Kept:
    """Inside identities: the Gram matrix by numpy, then greedy suppression in Python, in the order of the rows."""
    grams = [rows[a:b] @ rows[a:b].T for a, b in _runs(identity)]

    def kept_at(max_cosine: float) -> Kept:
        return np.concatenate([_suppress_gram(gram, max_cosine) for gram in grams])

    return _bisected(kept_at, round(keep * len(rows)))


def k_center(rows: Rows, identity: Identities, keep: float) -> Kept:
    """Inside identities: farthest-first traversal from the most central face, each identity with its share of faces."""
    runs = _runs(identity)
    sizes = np.array([b - a for a, b in runs])
    kept = np.zeros(len(rows), np.bool_)
    for (a, b), quota in zip(runs, _quotas(sizes, round(keep * len(rows))).tolist(), strict=True):
        gram = rows[a:b] @ rows[a:b].T
        row = int(gram.sum(axis=1).argmax())
        nearest = np.full(b - a, -2.0, np.float32)  # cosine to the nearest chosen face
        for _ in range(quota):
            kept[a + row] = True
            nearest = np.maximum(nearest, gram[row])
            nearest[row] = 2  # never again
            row = int(nearest.argmin())
    return kept


def semdedup(rows: Rows, identity: Identities, keep: float) -> Kept:
    """SemDeDup's recipe: k-means over all rows, then inside a cell a row goes that is near to one farther out.

    About 100 rows a cell; the cosine is the same for all cells, and chosen so that the ratio comes out (Abbas et al.
    2023, arXiv 2303.09540, with the rows farthest from their centroid kept first).
    """
    import faiss

    kmeans = faiss.Kmeans(rows.shape[1], max(1, len(rows) // 100), niter=20, spherical=True, seed=0)
    kmeans.train(rows)
    cosine, cell = kmeans.index.search(rows, 1)
    cell = cell[:, 0]
    order = np.lexsort((cosine[:, 0], cell))
    nearest = np.empty(len(rows), np.float32)  # cosine to the nearest row of the cell that comes earlier
    for a, b in _runs(cell[order]):
        of = order[a:b]
        nearest[of] = np.triu(rows[of] @ rows[of].T, 1).max(axis=0, initial=-1)
    return _smallest(nearest, round(keep * len(rows)))


def faiss_range(rows: Rows, identity: Identities, keep: float) -> Kept:
    """FAISS: an inverted-file index over all rows, a range search for every row, then greedy suppression."""
    import faiss

    cells = max(1, min(1024, len(rows) // 40))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    index.nprobe = max(1, cells // 16)
    limits, cosines, numbers = index.range_search(rows, 0.4)
    borders = limits.astype(np.int64).tolist()
    found = [(numbers[a:b], cosines[a:b]) for a, b in itertools.pairwise(borders)]
    return _bisected(lambda max_cosine: _suppress(found, max_cosine), round(keep * len(rows)))


def exact_neighbours(rows: Rows, identity: Identities, keep: float) -> Kept:
    """FAISS, exact: the 32 nearest rows of every row in the whole set, then greedy suppression."""
    import faiss

    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    cosines, numbers = index.search(rows, min(33, len(rows)))  # a row finds itself
    found = list(zip(numbers, cosines, strict=True))
    return _bisected(lambda max_cosine: _suppress(found, max_cosine), round(keep * len(rows)))


def semhash(rows: Rows, identity: Identities, keep: float) -> Kept:
    """The package semhash: its approximate index over all rows, `self_deduplicate`, then `rethreshold` to the ratio."""
    from semhash import SemHash

    records = [str(row) for row in range(len(rows))]
    loosest = 0.5
    # The encoder would be used for records that come later; there are none.
    result = SemHash.from_embeddings(rows, records, model=None).self_deduplicate(loosest)

    def kept_at(max_cosine: float) -> Kept:
        result.threshold = loosest  # it only lets it grow, but computes anew each time
        result.rethreshold(max_cosine)
        kept = np.zeros(len(rows), np.bool_)
        kept[[int(record) for record in result.selected]] = True
        return kept

    return _bisected(kept_at, round(keep * len(rows)), lowest=loosest)


def _runs(sorted_numbers: Identities) -> list[tuple[int, int]]:
    """The first row of every run of equal numbers, and the row after its last."""
    return list(itertools.pairwise(np.flatnonzero(np.diff(sorted_numbers, prepend=-1, append=-1)).tolist()))


def _suppress_gram(gram: Rows, max_cosine: float) -> Kept:
    kept = np.ones(len(gram), np.bool_)
    for row in range(len(gram) - 1):
        if kept[row]:
            kept[row + 1 :] &= gram[row, row + 1 :] <= max_cosine
    return kept


def _suppress(found: Neighbours, max_cosine: float) -> Kept:
    kept = np.ones(len(found), np.bool_)
    for row, (neighbours, cosines) in enumerate(found):
        if kept[row]:
            near = neighbours[cosines > max_cosine]
            kept[near[near > row]] = False
    return kept


def _bisected(kept_at: Callable[[float], Kept], target: int, *, lowest: float = -1.0) -> Kept:
    """The kept rows at a threshold whose count is within 0.1 % of the target, or the nearest seen."""
    low, high = lowest, 1.0
    best = kept_at(high)
    for _ in range(20):
        if abs(int(best.sum()) - target) <= target / 1000:
            break
        middle = (low + high) / 2
        kept = kept_at(middle)
        low, high = (low, middle) if kept.sum() > target else (middle, high)
        best = min(best, kept, key=lambda kept: abs(int(kept.sum()) - target))
    return best


def _smallest(values: Rows, count: int) -> Kept:
    kept = np.zeros(len(values), np.bool_)
    kept[np.argsort(values, kind="stable")[:count]] = True
    return kept


def _quotas(sizes: npt.NDArray[np.int64], target: int) -> npt.NDArray[np.int64]:
    """How many faces each identity keeps: one, and its share of what is left; together exactly the target."""
    others = np.cumsum(sizes - 1)
    share = np.rint(others * ((target - len(sizes)) / max(1, others[-1]))).astype(np.int64)
    quotas: npt.NDArray[np.int64] = 1 + np.diff(share, prepend=0)
    return quotas


METHODS: dict[str, Callable[[Rows, Identities, float], Kept]] = {
    "numpy": numpy_greedy,
    "k-center": k_center,
    "semdedup": semdedup,
    "faiss": faiss_range,
    "exact-knn": exact_neighbours,
    "semhash": semhash,
}


def main() -> None:
    """Run one method as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    for name in ("vectors", "identity", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--keep", type=float, default=0.6)
    given = parser.parse_args()
    rows = np.load(given.vectors).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(given.out, METHODS[given.method](rows, np.load(given.identity), given.keep))


if __name__ == "__main__":
    main()
