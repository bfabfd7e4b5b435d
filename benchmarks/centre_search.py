"""How fast, and how well, the nearest other centres are found among as many as WebFace42M has identities.

python benchmarks/centre_search.py [--centres 2_000_000] [--queries 1_000]

The index is built over generated centres and asked for the nearest ten of a sample of them; the exact search of the
same sample says what was missed. What a rank needs is the mean of the ten cosines, so its rank correlation counts.
"""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from generator import centres
from record import arguments, write_result

from facecore.search import Index

NEAREST = 10
SHARD = 16_384

_Result = TypeVar("_Result")


def measure(points: npt.NDArray[np.float16], queries: int, how: str) -> dict[str, Any]:
    """Build, search a sample, and compare with the exact search of the same sample."""
    sample = np.sort(np.random.default_rng(0).choice(len(points), queries, replace=False))
    index, building = _timed(lambda: Index.over(points, how=how))
    (found, _), searching = _timed(lambda: index.nearest(points[sample], NEAREST, but=sample))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    wanted, _ = Index.over(points, how="exact").nearest(points[sample], NEAREST, but=sample)
    return {
        "centres": len(points),
        "queries": queries,
        "nearest": NEAREST,
        "how": index.how,
        "build_cpu_seconds": building,
        "queries_per_cpu_second": queries / searching,
        "all_cpu_seconds": building + len(points) * searching / queries,
        "peak_gb": peak / 1e9,
        "recall": float(np.mean(found >= wanted[:, -1:] - np.float32(1e-6))),
        "spearman": float(np.corrcoef(_ranks(found.mean(axis=1)), _ranks(wanted.mean(axis=1)))[0, 1]),
    }


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    begun = time.process_time()
    result = work()
    return result, time.process_time() - begun


def _ranks(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.argsort(np.argsort(values))


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "centre_search")
    parser.add_argument("--centres", type=int, default=2_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    given = parser.parse_args()
    number, queries = (2_000, 100) if given.smoke else (given.centres, given.queries)
    points = np.empty((number, 512), np.float16)
    for shard, first in enumerate(range(0, number, SHARD)):
        points[first : first + SHARD] = centres(0, shard, identities=min(SHARD, number - first))
    warm = points[:1_024]
    Index.over(warm, how="shortlist").nearest(warm[:8], NEAREST)  # compiles
    write_result(given.out, measure(points, queries, "shortlist"))


if __name__ == "__main__":
    main()
