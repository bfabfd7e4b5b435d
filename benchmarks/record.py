"""What the benchmarks share: child processes measured whole, runs in turns, and what the figures were made with."""

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from facecore.provenance import write_text_whole

RESULTS = Path(__file__).parent / "results"
RECIPES = Path(__file__).parents[1] / "pipelines"
FACECORE = (sys.executable, "-m", "facecore")
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

_Result = TypeVar("_Result")

# The peak of a process counts what its parent held when it was started, so a small process starts and watches it.
_WATCH = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
wall = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([done.returncode, done.stdout, done.stderr, wall, cpu, peak]))
"""


@dataclass(frozen=True)
class Run:
    """What one process took: seconds on the wall, seconds of all processors, peak resident memory in 10^9 bytes."""

    wall: float
    cpu: float
    peak_gb: float


def child(*command: str | Path, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command from its start to its end; raises RuntimeError with its last words if it fails."""
    watch = [sys.executable, "-I", "-S", "-c", _WATCH, *map(str, command)]
    told = subprocess.run(
        watch, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **(environment or {})}
    )
    code, output, errors, wall, cpu, peak = json.loads(told.stdout)
    if code:
        raise RuntimeError(f"{' '.join(map(str, command))} failed with {code}: {(output + errors)[-2000:]}")
    return Run(wall, cpu, peak / 1e9)


def in_turns(turns: int, *works: Callable[[], _Result]) -> list[list[_Result]]:
    """The results of each work, run in turns; of several turns the first, which compiles and warms up, is left out."""
    results = [[work() for work in works] for _ in range(turns)]
    return [list(of_one) for of_one in zip(*results[1 if turns > 1 else 0 :], strict=True)]


def medians(runs: Sequence[Run]) -> dict[str, float]:
    """The medians of some runs."""
    return {
        "wall_seconds": statistics.median(run.wall for run in runs),
        "cpu_seconds": statistics.median(run.cpu for run in runs),
        "peak_gb": statistics.median(run.peak_gb for run in runs),
    }


def ratio(runs: Sequence[Run], others: Sequence[Run]) -> float:
    """The median of the ratios of wall time, turn by turn: what slows a whole turn falls out."""
    return statistics.median(run.wall / other.wall for run, other in zip(runs, others, strict=True))


def arguments(doc: str | None, name: str, *, turns: int | None = None) -> argparse.ArgumentParser:
    """The options of every benchmark; with a number of turns, also those of one that takes turns on generated faces."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json", help="result to write")
    if turns is not None:
        parser.add_argument("--turns", type=int, default=turns, help="how often; of several the first does not count")
        parser.add_argument("--folder", type=Path, help="where generated faces are, and stay for the next run")
    return parser


@contextmanager
def folder_for(given: Path | None) -> Iterator[Path]:
    """The folder for generated faces: the one given, which stays for the next run, or one that is removed."""
    if given is not None:
        yield given
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def recipe(name: str) -> Any:
    """A recipe of pipelines/, which are no package, as a module."""
    if str(RECIPES) not in sys.path:
        sys.path.append(str(RECIPES))  # for what a recipe imports from beside it
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result with what made it, as JSON."""
    text = json.dumps({**result, "made_with": made_with()}, indent=2, sort_keys=True)
    write_text_whole(path, text + "\n")


def made_with() -> dict[str, Any]:
    """The commit (with a mark if the code differs from it), the machine and the versions."""
    changed = "-dirty" if _git("status", "--porcelain", "--", ":/facecore", ":/benchmarks/*.py") else ""
    packages = ("facecore", "faiss-cpu", "numba", "numpy", "onnxruntime", "pyarrow", "torch")
    versions = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"commit": _git("rev-parse", "HEAD") + changed, "machine": _machine(), "versions": versions}


def _git(*command: str) -> str:
    told = ["git", "--no-optional-locks", *command]
    return subprocess.run(told, cwd=RESULTS.parent, capture_output=True, text=True, check=False).stdout.strip()


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    described = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", described.read_text()) if described.is_file() else []
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GB, {platform.system()}"
