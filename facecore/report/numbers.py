"""What a chart or a gallery shows of millions of values, as functions of arrays."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def doubling_bins(counts: npt.NDArray[np.int64]) -> tuple[list[str], Rows]:
    """How many counts are 0, 1, 2, 3-4, 5-8, 9-16 ...: the names of these bins up to the last used, and the numbers."""
    highest = int(counts.max(initial=0))
    tops = np.array([0, *(1 << power for power in range(max(highest - 1, 0).bit_length() + 1))])
    found = np.bincount(np.searchsorted(tops, counts), minlength=len(tops))
    names = ["0"] + [f"{top // 2 + 1:,}-{top:,}" if top > 2 else str(top) for top in tops[1:].tolist()]
    return names, found


def spread(values: Floats, n: int) -> Rows:
    """The rows of at most n values that lie evenly over the range of all, the highest first; of equals the earlier.

    Where values are few, the next ones stand in. What is not a number is left out.
    """
    order = np.argsort(values, kind="stable")[: np.count_nonzero(np.isfinite(values))]  # no numbers come last
    n = min(n, len(order))
    if not n:
        return order[:0]
    ordered = values[order]
    turn = np.arange(n)
    places = np.searchsorted(ordered, np.linspace(ordered[0], ordered[-1], n, dtype=ordered.dtype))
    rising = np.maximum.accumulate(places - turn) + turn  # each place once: pushed up where they crowd,
    return order[np.minimum(rising, len(order) - n + turn)][::-1]  # and down from the end


def nearest(values: Floats, at: float, n: int) -> Rows:
    """The rows of the n values nearest to `at`, nearest first; of equals the earlier. What is no number is left out."""
    away = np.abs(values - np.float32(at))
    n = min(n, int(np.isfinite(away).sum()))
    if not n:
        return np.empty(0, np.int64)
    farthest = np.partition(away, n - 1)[n - 1]  # no need to sort millions for a few
    rows = np.flatnonzero(away <= farthest)
    return rows[np.argsort(away[rows], kind="stable")[:n]]
