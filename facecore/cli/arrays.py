"""What commands say and take as tasks of a job array."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from facecore.errors import OptionError, counted
from facecore.pool import Task

if TYPE_CHECKING:
    from facecore.select.part_files import Step
    from facecore.select.run import Job, Selection

_Function = TypeVar("_Function", bound=Callable[..., Any])

merging = click.option(
    "--merge", is_flag=True, help="Put together what the tasks of an array did, and say what is next."
)


def array(function: _Function) -> _Function:
    """Give a command --shard-index and --num-shards."""
    for option in (
        click.option("--num-shards", type=click.IntRange(1), help="Tasks of the job array; give --shard-index, too."),
        click.option("--shard-index", type=click.IntRange(0), help="Do this task's share, from 0, of what is next."),
    ):
        function = option(function)
    return function


def task_of(shard_index: int | None, num_shards: int | None) -> Task | None:
    """Which task this is, if any; raises OptionError if there is no such one."""
    if shard_index is None and num_shards is None:
        return None
    if shard_index is None or num_shards is None:
        raise OptionError("give --shard-index and --num-shards together, or neither")
    return Task(shard_index, num_shards)


def do_share(job: "Job", task: Task, *, overwrite: bool, threads: int | None) -> None:
    """Do a task's share of the next step of a selection, and say what comes next."""
    from facecore.select.parts import next_step, work

    step = next_step(job, overwrite=overwrite, threads=threads)
    if mine := task.share(step.missing):
        work(job, step, mine, threads=threads)
    after = next_step(job, overwrite=overwrite, threads=threads) if mine else step
    click.echo(f"{job.out}: {step.name} of {counted(len(mine), 'shard')} done, {_still_to_do(step, after)}")


def _still_to_do(step: "Step", after: "Step") -> str:
    if after.name == step.name and after.missing:
        return f"{len(after.missing):,} of {step.shards:,} to do: run the other tasks"
    then = "run the same array again" if after.missing else "run the same command with --merge"
    return f"all {step.shards:,} now: {then}"


def do_merge(job: "Job", *, overwrite: bool, threads: int | None) -> "Selection | None":
    """Put together what the tasks did; says what comes next and returns None, or the selection if it is done."""
    from facecore.select.parts import merge
    from facecore.select.run import Selection

    done = merge(job, overwrite=overwrite, threads=threads)
    if isinstance(done, Selection):
        return done
    click.echo(f"{job.out}: t* = {done:.4f}: run the same array again, then --merge")
    return None
