"""How fast Face-NMS selects from a store on disk, against merely reading the same bytes twice.

python benchmarks/select_speed.py [--smoke] [--faces N] [--out benchmarks/results/select_speed.json]

Both are measured in one run, in turns; what counts are the ratio and the faces per second of processor time.
"""

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from facecore.embeddings import Embeddings, vectors_path, write_meta, write_shard
from facecore.provenance import Provenance
from facecore.select import Nms, select

DIMENSION = 512


def write_faces(store: Path, faces: int, seed: int) -> Embeddings:
    """A store of identities of 21 faces in the mean with a long tail, a fifth of the faces near-duplicates."""
    random = np.random.default_rng(seed)
    sizes: list[int] = []
    while sum(sizes) < faces:
        sizes.append(int(np.clip(random.lognormal(np.log(15), 0.8), 1, 1200)))
    rows = []
    for size in sizes:
        centre, own = random.standard_normal(DIMENSION), random.standard_normal((size, DIMENSION))
        vectors = 0.75 * centre + 0.66 * own
        twins = np.flatnonzero(random.random(size) < 0.2)
        twins = twins[twins > 0]
        vectors[twins] = vectors[twins - 1] + 0.2 * random.standard_normal((len(twins), DIMENSION))
        rows.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16))
    identity = [f"{number:07d}" for number, size in enumerate(sizes) for _ in range(size)]
    face_id = [f"{row:09d}" for row in range(len(identity))]
    table = pa.table({"face_id": face_id, "identity": identity, "source": face_id})
    write_shard(store, 0, np.concatenate(rows), table, Provenance("benchmark"))
    write_meta(store, {}, dimension=DIMENSION, shards=1)
    return Embeddings.open(store)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(faces: int, runs: int) -> dict[str, Any]:
    """Medians over runs in turns, after one of each to warm up (and to compile)."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        opened = write_faces(store, faces, seed=0)

        def read_twice() -> None:
            for _ in range(2):
                vectors_path(store, 0).read_bytes()

        def nms() -> None:
            select(store, Nms(), keep=0.6, out=Path(folder) / "subset.parquet", overwrite=True)

        reads, selections = [], []
        for run in range(runs + 1):
            read, selection = timed(read_twice), timed(nms)
            if run:
                reads.append(read)
                selections.append(selection)
        return {
            "faces": opened.rows,
            "identities": opened.identities,
            "thousand_faces_per_cpu_second": opened.rows / 1e3 / statistics.median(cpu for _, cpu in selections),
            "wall_over_reading_twice": statistics.median(
                s / r for (s, _), (r, _) in zip(selections, reads, strict=True)
            ),
        }


def main() -> None:
    """Measure and write the result with what it was measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "select_speed.json")
    given = parser.parse_args()
    result = measure(2_000, 1) if given.smoke else measure(given.faces, 5)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result["made_with"] = {
        "commit": commit,
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {name: version(name) for name in ("facecore", "numpy", "numba", "pyarrow")},
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
