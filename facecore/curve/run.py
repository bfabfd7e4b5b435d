"""Running a sweep: one point after the other, or several at a time, each in a process of its own."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from facecore.curve.options import Point
from facecore.curve.plot import draw
from facecore.curve.points import finish, is_finished, reference
from facecore.curve.results import Results
from facecore.curve.sweep import Sweep
from facecore.curve.table import write_tables
from facecore.errors import DataError, OptionError
from facecore.parallel import cores


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
            yield point, _timed(sweep, point, cores())
        return
    threads = max(1, cores() // jobs)
    # spawned, not forked: torch and onnxruntime have threads by now, and a fork of them hangs
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        running = {pool.submit(_timed, sweep, point, threads): point for point in points}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BrokenProcessPool:
            raise DataError(
                "a process was killed, probably for want of memory; run the same command again with fewer --jobs: "
                "what is finished stays"
            ) from None
        finally:
            for future in running:
                future.cancel()


def _begin(threads: int) -> None:
    """Set a process up: its share of the cores, and no progress bars over those of others."""
    import torch

    torch.set_num_threads(threads)
    sys.stderr = open(os.devnull, "w")


def _timed(sweep: Sweep, point: Point, threads: int) -> float:
    began = time.perf_counter()
    finish(sweep, point, threads=threads)
    return time.perf_counter() - began


def _line(sweep: Sweep, point: Point) -> str:
    """What a finished point is worth."""
    report = sweep.report(point)
    assert report is not None
    steps = report["checkpoints"][-1]["step"]
    found = [f"{name} {100 * of['fine_tuned']['accuracy']:.2f} %" for name, of in report["accuracy"].items()]
    return f"{report['faces']:,} faces, {steps:,} steps, " + ", ".join(found)
