"""How fast the whole nms command selects from a store on disk, against merely reading the same bytes twice.

python benchmarks/select_speed.py [--faces 4_000_000] [--rank identity] [--caches cold warm] [--folder DIR]

Both are processes of their own and run in turns, each once from a cold page cache and once from a warm one. Reading
is `readinto` of the vector files into one buffer, the fastest way there is. `start` is the whole command on 100 faces.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from generator import write_store
from record import FACECORE, Run, arguments, child, folder_for, in_turns, medians, ratio, write_result

from facecore.embeddings import Embeddings, vectors_path

KEEP = 0.6

_READ_TWICE = """
import sys
buffer = bytearray(1 << 22)
for path in sys.argv[1:] * 2:
    with open(path, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass
"""


def measure(store: Embeddings, *, turns: int, rank: str = "identity", cold: bool) -> dict[str, Any]:
    """Selecting and reading twice in turns: medians of both, and the ratio of their wall times."""
    files = [vectors_path(store.path, number) for number in range(len(store))]

    def timed(*command: str | Path) -> Run:
        if cold:
            _forget(files)
        return child(*command)

    read_twice: tuple[str | Path, ...] = (sys.executable, "-I", "-S", "-c", _READ_TWICE, *files)
    selecting, reading = in_turns(turns, partial(timed, *nms(store.path, rank)), partial(timed, *read_twice))
    kept = pq.read_metadata(subset_of(store.path)).num_rows
    return {
        "nms": medians(selecting),
        "reading_twice": medians(reading),
        "wall_over_reading_twice": ratio(selecting, reading),
        "thousand_faces_per_cpu_second": store.rows / 1e3 / medians(selecting)["cpu_seconds"],
        "kept": kept,
        "exact": kept == round(KEEP * store.rows),
    }


def nms(store: Path, rank: str = "identity", *, subset: Path | None = None) -> tuple[str | Path, ...]:
    """The command line that selects from a store."""
    out = subset or subset_of(store)
    options = ("--keep", str(KEEP), "--rank", rank, "--embeddings", store, "--out", out, "--overwrite")
    return (*FACECORE, "nms", *options)


def subset_of(store: Path) -> Path:
    """Where that command writes its subset unless told: beside the store."""
    return store.with_name(f"{store.name}.subset.parquet")


def _forget(files: list[Path]) -> None:
    """Have the system drop the files from its page cache, so that the next to read them reads the disk."""
    for path in files:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def start_seconds(folder: Path, turns: int) -> float:
    """Wall time of the whole command on 100 faces: what a process takes before useful work."""
    store = write_store(folder / "start", faces=100)
    return float(measure(store, turns=turns, cold=False)["nms"]["wall_seconds"])


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "select_speed", turns=4)
    parser.add_argument("--faces", type=int, default=4_000_000)
    parser.add_argument("--rank", default="identity")
    parser.add_argument("--caches", nargs="+", choices=("cold", "warm"), default=["cold", "warm"])
    given = parser.parse_args()
    turns = 1 if given.smoke else given.turns
    with folder_for(given.folder) as folder:
        store = write_store(folder / "store", faces=2_000 if given.smoke else given.faces)
        result = {
            "faces": store.rows,
            "identities": store.identities,
            "rank": given.rank,
            "turns": turns,
            "caches": {
                cache: measure(store, turns=turns, rank=given.rank, cold=cache == "cold") for cache in given.caches
            },
            "start_seconds": start_seconds(folder, turns),
        }
    write_result(given.out, result)


if __name__ == "__main__":
    main()
