"""Work shared out among processes: here, each replaced when it is killed, or by tasks of a job array."""

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

from facecore.errors import DataError, FacecoreError, OptionError

TRIES = 3  # how often an item is begun whose process is killed

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Task:
    """One of so many tasks of a job array, each of which does its share of the shards."""

    index: int
    tasks: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.tasks:
            raise OptionError(f"shard_index is from 0 to {self.tasks - 1} for {self.tasks} tasks; got {self.index}")

    def share(self, numbers: Iterable[int]) -> list[int]:
        """Those of these shards, by their numbers, that no other task does."""
        return [number for number in numbers if number % self.tasks == self.index]


def in_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    processes: int,
    name: Callable[[_Item], str],
    begin: Callable[..., object] | None = None,
    given: tuple[Any, ...] = (),
) -> Generator[tuple[_Item, _Result], None, None]:
    """Yield each item and function(item) as they are done, by this many processes; `begin(*given)` sets each one up.

    A process that is killed is replaced, and its item done again. Raises DataError with the `name` of an item whose
    process was killed TRIES times, and at once what the function raises: a FacecoreError says the name, too. Whoever
    stops before the end (close the generator), or is killed, ends the processes as well.
    """
    waiting, tries = deque(enumerate(items)), Counter[int]()
    idle = [_Process(begin, given) for _ in range(min(processes, len(items)))]
    running: dict[Future[_Result], tuple[_Process, int, _Item]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                process, (number, item) = idle.pop(), waiting.popleft()
                running[process.submit(function, item)] = process, number, item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                process, number, item = running.pop(future)
                idle.append(process)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    process.replace()
                    tries[number] += 1
                    if tries[number] == TRIES:
                        raise killed(name(item)) from None
                    waiting.append((number, item))
                except FacecoreError as error:
                    raise type(error)(f"{name(item)}: {error}") from error
                else:
                    yield item, result
    finally:
        for process in [*idle, *(process for process, *_ in running.values())]:
            process.end()


def killed(name: str) -> DataError:
    """What to say of an item whose process was killed TRIES times."""
    return DataError(
        f"{name}: its process was killed {TRIES} times, for want of memory or by what it works on; what is finished "
        "stays: run the same command again with fewer processes, and if it fails again, look at that one"
    )


class _Process:
    """One process: a pool of its own, so that of a kill it is known whose work it ended."""

    def __init__(self, begin: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
        self._begin = begin, given
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # spawned, not forked: torch and onnxruntime have threads by now, and a fork of them hangs
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, mp_context=context, initializer=_set_up, initargs=self._begin)

    def submit(self, function: Callable[[_Item], _Result], item: _Item) -> Future[_Result]:
        """Let it work on an item, or another in its place, if it was killed while it had nothing to do."""
        try:
            return self._pool.submit(_call, function, item)
        except BrokenProcessPool:
            self.replace()
            return self._pool.submit(_call, function, item)

    def replace(self) -> None:
        """Have another process in place of a killed one."""
        self._pool.shutdown()
        self._pool = self._new()

    def end(self) -> None:
        """End the process, whatever it does: files are written whole or not at all."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(cancel_futures=True)


_to_begin: list[tuple[Callable[..., object], tuple[Any, ...]]] = []  # in a process that has not begun yet


def _set_up(begin: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    """Leave signals to the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own is for several processes: Python warns of one that is ended with it
    if begin:
        _to_begin.append((begin, given))  # an error of it is then one of the first item; here it would break the pool


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(function: Callable[[_Item], _Result], item: _Item) -> _Result:
    while _to_begin:
        begin, given = _to_begin[-1]
        begin(*given)
        _to_begin.pop()
    return function(item)
