"""Shards worked on by actors of Ray, the dead among which are replaced."""

import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from facecore.pool import TRIES, killed

Shards = tuple[int, ...]  # by their numbers: rows never travel
Make = Callable[..., Callable[[Shards], Any]]


class Actor:
    """Makes once what a stage needs, such as a loaded network, and does one batch of shards after the other."""

    def begin(self, make: Make, *given: Any) -> None:
        self.work = make(*given)

    def do(self, batch: Shards) -> Any:
        return self.work(batch)


def spread(
    make: Make, *given: Any, batches: Sequence[Shards], actors: int, **needs: float
) -> Generator[Any, None, None]:
    """Yield make(*given)(batch) of every batch as it is done, by so many actors, each of which does one at a time.

    Over what an actor died, others try again, shard by shard. Raises what the work raises, or DataError with the number
    of a shard over which TRIES actors died.
    """
    import ray

    for module in {__name__, make.__module__}:
        ray.cloudpickle.register_pickle_by_value(sys.modules[module])  # other machines need facecore, but no recipes
    hire = ray.remote(Actor).options(scheduling_strategy="SPREAD", **needs).remote
    sent, left, deaths = [ray.put(one) for one in given], deque(batches), Counter[str]()
    alive: list[Any] = []
    idle: list[Any] = []
    running: dict[Any, tuple[Any, Shards]] = {}  # no batch: it begins
    try:
        while left or any(batch for _, batch in running.values()):
            while len(alive) < min(actors, len(batches)):
                alive.append(hire())
                running[alive[-1].begin.remote(make, *sent)] = alive[-1], ()
            while left and idle:
                actor, batch = idle.pop(), left.popleft()
                running[actor.do.remote(batch)] = actor, batch
            (ended,), _ = ray.wait(list(running))
            actor, batch = running.pop(ended)
            lived, result = _outcome(ended)
            if lived:
                idle.append(actor)
                if batch:
                    yield result
            else:
                alive.remove(actor)
                ray.kill(actor)  # it may only be out of reach, and two would write the same files
                left.extendleft((shard,) for shard in batch)
                deaths.update([f"shard {shard}" for shard in batch] or ["the first step of an actor"])
                ((what, times),) = deaths.most_common(1)
                if times == TRIES:
                    raise killed(what)
    finally:
        for actor in alive if ray.is_initialized() else []:  # else this would start Ray again
            ray.kill(actor)


def _outcome(ended: Any) -> tuple[bool, Any]:
    """Whether an actor lived until it had done what it was told, and the result; raises what the work raised."""
    import ray

    try:
        return True, ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError:  # the process or its machine is gone, or cannot be reached
        return False, None
