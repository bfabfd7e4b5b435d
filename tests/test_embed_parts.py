"""Embedding by several processes, and by the tasks of an array: the bytes of one run."""

import dataclasses
import itertools
import multiprocessing
import os
import re
import signal
import threading
import time

import pytest
from click.testing import CliRunner
from pictures import folder_of, jpeg
from test_embed import bytes_of
from test_models_onnx import written
from test_quantize import network

from facecore.cli import main
from facecore.embed import Assignment, EmbedOptions, Job, begin, complete, embed, embed_shard, embed_share
from facecore.embeddings import metadata_path, vectors_path
from facecore.errors import DataError
from facecore.models import load_backbone
from facecore.pool import Task
from facecore.readers import open_dataset

OPTIONS = EmbedOptions(shard_rows=6, batch_size=4, max_rejected=0.2)
FACES = {f"p{i % 7}/{i:02d}.jpg": jpeg(i, 16) for i in range(32)} | {"p3/bad.jpg": b"none", "p6/bad.jpg": b""}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, a network, and the files of the store that one process makes of them."""
    folder = tmp_path_factory.mktemp("embed")
    images, model = folder_of(folder / "images", FACES), written(network(), folder / "net.onnx")
    summary = embed(open_dataset(images), model, folder / "store", OPTIONS)
    return images, model, bytes_of(folder / "store"), summary


def test_processes_change_no_byte_even_if_one_is_killed(made, tmp_path):
    images, model, expected, summary = made
    out, killed = tmp_path / "store", []

    def kill():
        """One of the processes, as soon as one has finished a shard."""
        while not any(metadata_path(out, number).exists() for number in range(9)):
            time.sleep(0.005)
        for child in multiprocessing.active_children():
            if not killed and child.name.startswith("SpawnProcess"):
                killed.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    done = embed(open_dataset(images), model, out, OPTIONS, processes=2)
    killer.join()
    assert dataclasses.replace(done, seconds=0) == dataclasses.replace(summary, seconds=0)
    assert len(killed) == 1
    assert bytes_of(out) == expected


@pytest.mark.parametrize(("tasks", "order"), [(1, [0]), (3, [2, 0, 1]), (3, [1, 1, 0, 2, 0]), (20, range(20))])
def test_tasks_in_any_order_make_the_same_store(tasks, order, made, tmp_path):
    images, model, expected, summary = made
    out, dataset = tmp_path / "store", open_dataset(images)
    for task in order:
        share = embed_share(dataset, model, out, OPTIONS, task=Task(task, tasks))
        assert not (out / "meta.json").exists()
        assert not (out / "rejected.parquet").exists()
    assert (share.shards, share.missing) == (summary.shards, 0)
    assert embed(dataset, model, out, OPTIONS).resumed_shards == summary.shards
    assert bytes_of(out) == expected


def test_a_task_that_rejects_too_many_says_so(made, tmp_path):
    images, model, expected, _ = made
    out, dataset, strict = tmp_path / "store", open_dataset(images), dataclasses.replace(OPTIONS, max_rejected=0.04)
    lines = []
    for task in range(4):
        try:
            embed_share(dataset, model, out, strict, task=Task(task, 4))
        except DataError as error:
            lines.append(str(error))
    assert lines
    assert all(line.startswith("2 of 34 faces rejected so far") for line in lines)
    embed(dataset, model, out, OPTIONS)
    assert bytes_of(out) == expected


def test_an_engine_goes_step_by_step(made, tmp_path):
    images, model, expected, summary = made
    job, out = Assignment.of(open_dataset(images), model, OPTIONS).open(), tmp_path / "store"
    assert begin(job, out) == {}
    for number in range(len(job)):
        with pytest.raises(DataError) as caught:
            complete(job, out, begin(job, out))
        assert str(caught.value) == (
            f"{len(job) - number} of {len(job)} shards of {out} are missing; run facecore embed again, it goes on"
        )
        embed_shard(job, out, number)
    assert complete(job, out, begin(job, out)).rows == summary.faces
    assert bytes_of(out) == expected


def test_two_that_write_the_same_shard_do_not_meet(made, tmp_path):
    """Nor does one that was killed and left half of its files."""
    images, model, expected, _ = made
    out = tmp_path / "store"
    jobs = [Job(open_dataset(images), load_backbone(model), OPTIONS, model_name=model.name) for _ in range(2)]
    for path in (vectors_path(out, 0), metadata_path(out, 3)):
        path.parent.mkdir(parents=True)
        path.with_name(f"{path.name}.0123456789abcdef.part").write_bytes(b"half")
    threads = [
        threading.Thread(target=embed_shard, args=(job, out, number))
        for job, number in itertools.product(jobs, range(3))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    embed(open_dataset(images), model, out, OPTIONS)
    assert bytes_of(out) == expected


def test_the_command_says_what_comes_next(made, tmp_path):
    images, model, expected, summary = made
    out = tmp_path / "store"
    arguments = ["embed", str(images), "--model", str(model), "--out", str(out), "--shard-rows", "6"]
    arguments += ["--batch-size", "4", "--max-rejected", "0.2"]

    def run(*more):
        done = CliRunner().invoke(main, [*arguments, *more])
        return done.exit_code, re.sub(r"in \d+\.\d s", "in N s", done.output)

    assert run("--shard-index", "1", "--num-shards", "2") == (
        0, f"{out}: 3 of 7 shards embedded in N s, 4 to do: run the other tasks\n"
    )  # fmt: skip
    assert run("--shard-index", "0", "--num-shards", "2", "--processes", "2") == (
        0,
        f"{out}: 4 of 7 shards embedded in N s, 0 to do: run the same command without --shard-index and --num-shards\n",
    )
    assert run() == (
        0,
        f"{out}: {summary.faces} faces of 7 identities in N s, 7 of 7 shards were there already\n"
        f"2 faces rejected, see {out / 'rejected.parquet'}\n",
    )
    assert bytes_of(out) == expected
    assert run("--shard-index", "0", "--num-shards", "2", "--overwrite") == (
        1, "Error: --overwrite would remove what other tasks write; leave it out, and remove the store before\n"
    )  # fmt: skip
    other = f"Error: {out} was made from other faces or options; choose another --out, or "
    assert run("--shard-index", "0", "--num-shards", "2", "--flip") == (1, f"{other}delete it before the tasks run\n")
    assert run("--flip") == (1, f"{other}add --overwrite to replace it\n")
    assert bytes_of(out) == expected
