"""Work on several cores, its results in the order of the work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, ahead: int = 8
) -> Iterator[_Result]:
    """Yield function(item) of every item, in order, worked out by this many threads at most `ahead` items ahead.

    An error of the function is raised where its result would have come.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    left = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[_Result]] = deque(
            pool.submit(function, item) for item in islice(left, max(ahead, threads))
        )
        try:
            while running:
                result = running.popleft().result()
                running.extend(pool.submit(function, item) for item in islice(left, 1))
                yield result
        finally:
            for future in running:
                future.cancel()
