"""What Ray costs on one machine: a selection by its actors, against the command that does it in threads.

python benchmarks/ray_overhead.py [--faces 1_000_000] [--folder DIR]

Both are measured from start to end with all processes that they start: a peak is the sum of what each has of memory,
shared pages divided among those that share them (PSS). Once more on 100 faces, which is what starting takes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from generator import write_store
from record import Run, arguments, folder_for, in_turns, medians, write_result
from select_speed import nms, subset_of

from facecore.select import dropped_path

ACTORS = 2
PIPELINES = Path(__file__).parents[1] / "pipelines"
TICK = os.sysconf("SC_CLK_TCK")

_ON_RAY = """
import sys
from pathlib import Path
from on_ray import cluster, select_on_ray
from facecore.select import Job, Nms
store, out, actors = sys.argv[1:]
with cluster("local"):
    select_on_ray(Job(Path(store), Nms(), Path(out), 0.6), actors=int(actors))
"""


def on_ray(store: Path) -> tuple[str | Path, ...]:
    """The command line that selects from a store on Ray."""
    return sys.executable, "-c", _ON_RAY, store, subset_of(store), str(ACTORS)


def whole_tree(store: Path, *command: str | Path) -> Run:
    """Run a command that writes a store's subset, with its processes; raises RuntimeError if it fails."""
    for path in (subset_of(store), dropped_path(subset_of(store))):
        path.unlink(missing_ok=True)
    cpu: dict[tuple[int, int], float] = {}
    peak, begun = 0.0, time.perf_counter()
    with TemporaryFile("w+") as errors:
        environment = {**os.environ, "PYTHONPATH": str(PIPELINES)}
        process = subprocess.Popen(
            list(map(str, command)), env=environment, stdout=errors, stderr=errors, start_new_session=True
        )
        while process.poll() is None:
            now = list(_of_session(process.pid))
            cpu.update({key: seconds for key, seconds, _ in now})
            peak = max(peak, sum(memory for _, _, memory in now))
            time.sleep(0.1)
        wall = time.perf_counter() - begun
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{command[:3]} failed with {process.returncode}: {errors.read()[-2000:]}")
    return Run(wall, sum(cpu.values()), peak / 1e9)


def _of_session(leader: int) -> Iterator[tuple[tuple[int, int], float, float]]:
    """Each process of a session: what it is known by, its seconds of processors so far, its bytes of memory."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(words[3]) == leader:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                memory = sum(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("Pss:"))
                yield (int(folder.name), int(words[19])), (int(words[11]) + int(words[12])) / TICK, memory
        except (OSError, IndexError):
            continue  # it has just ended


def measure(store: Path, *, turns: int) -> dict[str, Any]:
    """Medians of both, in turns, and whether they wrote the same."""
    written: list[bytes] = []

    def run(*command: str | Path) -> Run:
        taken = whole_tree(store, *command)
        written.append(subset_of(store).read_bytes())
        return taken

    local, spread = in_turns(turns, partial(run, *nms(store)), partial(run, *on_ray(store)))
    return {"nms": medians(local), "ray": medians(spread), "same_bytes": len(set(written)) == 1}


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "ray_overhead", turns=4)
    parser.add_argument("--faces", type=int, default=1_000_000)
    given = parser.parse_args()
    turns, faces = (1, 2_000) if given.smoke else (given.turns, given.faces)
    with folder_for(given.folder) as folder:
        store = write_store(folder / "store", faces=faces, identities=2_048)  # shards of 43,000 faces
        few = write_store(folder / "start", faces=100)
        result = {
            "faces": store.rows,
            "identities": store.identities,
            "shards": len(store),
            "actors": ACTORS,
            "ray": version("ray"),
            "turns": turns,
            "all": measure(store.path, turns=turns),
            "start": measure(few.path, turns=turns),
        }
    write_result(given.out, result)


if __name__ == "__main__":
    main()
