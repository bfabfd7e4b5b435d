"""How fast the kernels suppress inside identities, against the arithmetic that it takes at least.

python benchmarks/kernel_speed.py [--faces 340_000] [--folder DIR]

One thread, faces in memory, processor time. Two works: `profile` counts the kept faces at every threshold, `cut` says
for every face at one threshold whether it stays and because of whom. The limit is sum n^2 d operations over the
identities (half a Gram matrix each, two operations a product), at the rate at which numpy multiplies large float32
matrices, measured in the same turns.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from generator import write_store
from record import ONE_THREAD, arguments, folder_for, in_turns, write_result

from facecore.embeddings import Buffers, Embeddings, Shard
from facecore.select import Nms
from facecore.select.selector import prepare

KEEP = 0.6
SIDE, REPEATS = 2_048, 10  # of the matrix product


def kernels(store: Embeddings) -> tuple[Callable[[Shard], object], Callable[[Shard], object]]:
    """The two works on a piece of a store."""
    cutter = prepare(Nms(), store, threads=1)
    change = sum(cutter.profile(shard) for shard in store)
    level = int(np.argmax(np.cumsum(change) >= KEEP * store.rows))
    return cutter.profile, lambda shard: cutter.cut(shard, level)


def measure(store: Embeddings, turns: int) -> dict[str, Any]:
    """Both works and the matrix product in turns, medians."""
    left, right = np.random.default_rng(0).standard_normal((2, SIDE, store.dimension), dtype=np.float32)

    def product() -> float:
        begun = time.process_time()
        for _ in range(REPEATS):
            left @ right.T  # of one matrix with itself numpy would compute but half
        return time.process_time() - begun

    profile, cut = kernels(store)
    profiling, cutting, multiplying = in_turns(
        turns, lambda: _over_pieces(store, profile), lambda: _over_pieces(store, cut), product
    )
    sizes = np.concatenate([np.diff(store.starts(number)) for number in range(len(store))])
    work = float((sizes.astype(np.float64) ** 2).sum() * store.dimension)
    rates = [2 * SIDE**2 * store.dimension * REPEATS / seconds for seconds in multiplying]
    limits = [work / rate for rate in rates]
    return {
        "sgemm_gigaflops": statistics.median(rates) / 1e9,
        "limit_thousand_faces_per_cpu_second": store.rows / 1e3 / statistics.median(limits),
        "profile": _against(profiling, limits, store.rows),
        "cut": _against(cutting, limits, store.rows),
    }


def _over_pieces(store: Embeddings, work: Callable[[Shard], object]) -> float:
    """The processor time of the work on every piece, which was read just before, as it is in a selection."""
    seconds, buffers = 0.0, Buffers()
    for piece in store.pieces():
        shard = store.read(piece, buffers)
        begun = time.process_time()
        work(shard)
        seconds += time.process_time() - begun
    return seconds


def _against(seconds: list[float], limits: list[float], faces: int) -> dict[str, float]:
    return {
        "thousand_faces_per_cpu_second": faces / 1e3 / statistics.median(seconds),
        "over_limit": statistics.median(own / limit for own, limit in zip(seconds, limits, strict=True)),
    }


def main() -> None:
    """Measure and write the result, in a process in which numpy has one thread."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    parser = arguments(__doc__, "kernel_speed", turns=6)
    parser.add_argument("--faces", type=int, default=340_000)
    given = parser.parse_args()
    with folder_for(given.folder) as folder:
        store = write_store(folder / "store", faces=2_000 if given.smoke else given.faces)
        result = {"faces": store.rows, "identities": store.identities}
        result |= measure(store, 1 if given.smoke else given.turns)
    write_result(given.out, result)


if __name__ == "__main__":
    main()
