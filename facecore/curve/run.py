"""Running a sweep: one point after the other, or several at a time, each in a process of its own."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from facecore.curve.options import Point
from facecore.curve.plot import draw
from facecore.curve.points import finish, is_finished, reference
from facecore.curve.results import Results
from facecore.curve.sweep import Sweep
from facecore.curve.table import write_tables
from facecore.errors import OptionError, counted
from facecore.parallel import cores
from facecore.pool import in_processes


def curve(sweep: Sweep, *, jobs: int = 1, on_point: Callable[[str], object] = lambda line: None) -> Results:
    """Run the points of a sweep that are not finished, `jobs` at a time, and write its tables and plots.

    A sweep that was killed goes on where it was. `on_point` gets a line about every point. Each of N jobs has an N-th
    of the cores; torch adds up in another order with another number of threads, so networks may then differ in the
    last bit. Raises OptionError or DataError, before any work, if a point cannot be run; later what `select`,
    `quantize` and `verify` raise.
    """
    if jobs < 1:
        raise OptionError(f"jobs must be at least 1, got {jobs}")
    sweep.check()
    points = sweep.points
    waiting = [point for point in points if not is_finished(sweep, point)]
    done = len(points) - len(waiting)
    if done:
        on_point(f"{done} of {len(points)} points were there already")
    for point, seconds in _finished(sweep, waiting, jobs):
        done += 1
        on_point(f"{done} of {len(points)}: {point}: {_line(sweep, point)}, {seconds:.0f} s")
    references = {stage: reference(sweep, stage, points[0]) for stage in ("float", "calibrated")}
    results = Results.of(sweep, references)
    write_tables(results)
    draw(results)
    return results


def _finished(sweep: Sweep, points: list[Point], jobs: int) -> Iterator[tuple[Point, float]]:
    """Finish every point; yields each when it is, and the seconds that took."""
    if jobs == 1 or len(points) < 2:
        for point in points:
            yield point, _timed(sweep, cores(), point)
        return
    threads = max(1, cores() // jobs)
    work = partial(_timed, sweep, threads)
    yield from in_processes(work, points, processes=jobs, name=str, begin=_begin, given=(threads,))


def _begin(threads: int) -> None:
    """Set a process up: its share of the cores, and no progress bars over those of others."""
    import torch

    torch.set_num_threads(threads)
    sys.stderr = open(os.devnull, "w")


def _timed(sweep: Sweep, threads: int, point: Point) -> float:
    began = time.perf_counter()
    finish(sweep, point, threads=threads)
    return time.perf_counter() - began


def _line(sweep: Sweep, point: Point) -> str:
    """What a finished point is worth."""
    report = sweep.report(point)
    assert report is not None
    steps = report["checkpoints"][-1]["step"]
    found = [f"{name} {100 * of['fine_tuned']['accuracy']:.2f} %" for name, of in report["accuracy"].items()]
    return f"{counted(report['faces'], 'face')}, {counted(steps, 'step')}, " + ", ".join(found)
