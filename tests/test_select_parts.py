"""A selection in parts: the bytes of one run, whatever the tasks, their order and their number."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from geometry import random_faces, split, write_store

from facecore.cli import main
from facecore.embeddings import Embeddings
from facecore.errors import DataError, OptionError
from facecore.select import SELECTORS, Nms, dropped_path, select
from facecore.select.part_files import PartFiles, Step
from facecore.select.parts import merge, next_step, work
from facecore.select.ranks import RANKS
from facecore.select.run import Job, Selection
from facecore.storage import located

SIZES = [5, 1, 9, 2, 30, 7, 12, 1, 3, 16]
CUTS = [2, 3, 5, 9]  # shards of 6, 9, 32, 23 and 16 faces


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    faces = random_faces(3, SIZES)
    path = tmp_path_factory.mktemp("parts") / "embeddings"
    return write_store(path, split(faces, CUTS), probability=np.round(abs(faces.vectors[:, 0]), 1))


def run_in_parts(job, tasks=1, order=None):
    """Run array after array until the selection is done; returns it, and the steps that were taken."""
    steps = []
    while True:
        step = next_step(job)
        steps.append(step.name)
        for task in order or range(tasks):
            work(job, step, [number for number in step.missing if number % tasks == task], threads=1)
        assert next_step(job).name != step.name or (step.merges and not next_step(job).missing)
        if step.merges and isinstance(done := merge(job, threads=1), Selection):
            return done, steps


def files(out):
    return out.read_bytes(), dropped_path(out).read_bytes()


def same_as_select(store, selector, path, tasks=1, order=None, **asked):
    whole, out = path / "whole.parquet", path / "subset.parquet"
    expected = select(store, selector, out=whole, threads=1, **asked)
    done, steps = run_in_parts(Job(store, selector, out, **asked), tasks, order)
    assert done == expected
    assert files(out) == files(whole)
    assert sorted(found.name for found in path.iterdir()) == sorted(
        [*(p.name for p in (out, whole)), *(dropped_path(p).name for p in (out, whole))]
    )
    return steps


STEPS = {"dataset": ["centres"], "confusable": ["centres", "neighbours"]}


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("tasks", [1, 3, 7])
def test_every_rank_gives_the_bytes_of_one_run(rank, tasks, store, tmp_path):
    selector = Nms(rank=rank, neighbours=3) if rank in STEPS else Nms(rank=rank)
    steps = same_as_select(store, selector, tmp_path, tasks, range(tasks - 1, -1, -1), keep=0.6)
    assert steps == [*STEPS.get(rank, []), "profile", "cut"]


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "nms"])
def test_so_does_every_rival(name, store, tmp_path):
    steps = same_as_select(store, SELECTORS[name](), tmp_path, 2, keep=0.7)
    assert steps == [*(["duplicates"] if name == "semdedup" else []), "profile", "cut"]


@pytest.mark.parametrize("keep", [0.3, 0.45, 0.5])
@pytest.mark.parametrize(
    "options",
    [
        {"min_per_identity": 2},
        {"min_share": 0.25},
        {"max_per_identity": 9, "min_centre_cosine": 0.1, "min_per_identity": 0},
        {"nested": True},
        {"min_threshold": 0.8, "rank": "central"},
    ],
    ids=lambda options: "-".join(options),
)
def test_so_do_floors_limits_and_trimming(options, keep, store, tmp_path):
    same_as_select(store, Nms(**options), tmp_path, 2, keep=keep)


def test_what_limits_forbid_is_said_before_any_work_or_at_the_merge(store, tmp_path):
    too_few = Job(store, Nms(min_per_identity=9), tmp_path / "few.parquet", 0.3)
    with pytest.raises(OptionError, match="but every identity keeps at least 9"):
        next_step(too_few)
    too_many = Job(store, Nms(max_per_identity=2), tmp_path / "many.parquet", 0.9)
    with pytest.raises(OptionError, match="18 at most can stay with --max-per-identity;"):
        run_in_parts(too_many)


@pytest.mark.parametrize("options", [{}, {"rank": "confusable", "neighbours": 2}], ids=str)
def test_a_threshold_given_needs_no_first_pass(options, store, tmp_path):
    steps = same_as_select(store, Nms(**options), tmp_path, 3, max_cosine=0.8)
    assert steps == [*STEPS.get(options.get("rank"), []), "cut"]


@pytest.mark.parametrize("keep", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("options", [{}, {"min_share": 0.2}, {"nested": True}, {"min_threshold": 0.7}], ids=str)
def test_large_identities_are_looked_at_again_at_the_merge(options, keep, tmp_path, monkeypatch):
    for name in ("cutting.WHOLE_ROWS", "large.WHOLE_ROWS"):
        monkeypatch.setattr(f"facecore.select.{name}", 4)
    monkeypatch.setattr("facecore.select.large._BLOCK", 3)
    monkeypatch.setattr("facecore.select.large._STRIP", 6)
    each_alone = split(random_faces(3, SIZES), range(1, len(SIZES)))
    store = write_store(tmp_path / "in" / "embeddings", each_alone)
    (out := tmp_path / "out").mkdir()
    same_as_select(store, Nms(**options), out, 2, keep=keep)


@pytest.mark.parametrize("levels", [None, (0, 5), (30000, 32768)])
def test_levels_that_a_sample_proposes(levels, store, tmp_path, monkeypatch):
    """Also where the threshold lies beyond them."""
    monkeypatch.setattr("facecore.select.run.SAMPLED_FROM", 0)
    monkeypatch.setattr("facecore.select.run.SAMPLE", 2)
    if levels is not None:
        monkeypatch.setattr("facecore.select.run.bracket", lambda *_: levels)
    same_as_select(store, Nms(rank="dataset", neighbours=2), tmp_path, 2, keep=0.5)


@pytest.mark.parametrize("sizes", [[1], [7], [1, 1, 1, 1]])
def test_few_faces(sizes, tmp_path):
    store = write_store(tmp_path / "embeddings", split(random_faces(1, sizes), range(1, len(sizes))))
    for rank in RANKS:
        (path := tmp_path / rank).mkdir()
        same_as_select(store, Nms(rank=rank), path, 3, keep=1)


def test_tasks_may_be_run_twice_and_late_and_change_their_number(store, tmp_path):
    job = Job(store, Nms(rank="dataset", neighbours=3), tmp_path / "subset.parquet", 0.6)
    select(store, job.selector, keep=0.6, out=tmp_path / "whole.parquet")
    steps = []
    while True:
        step = next_step(job)
        for number in [*step.missing[::-1], *step.missing[:2]]:
            work(job, step, [number], threads=1)
        for earlier in steps:
            work(job, earlier, range(len(CUTS) + 1), threads=2)
        steps.append(step)
        if step.merges and isinstance(merge(job), Selection):
            break
    assert files(job.out) == files(tmp_path / "whole.parquet")
    work(job, steps[0], [0])  # when all is done and cleared up: nobody is harmed
    assert [path.name for path in tmp_path.glob("*.parts/*/*")] == ["centres-00000.npz"]


def test_parts_may_lie_on_remote_storage(store, tmp_path):
    pytest.importorskip("upath")
    out = located("memory://test_select_parts/subset.parquet")
    run_in_parts(Job(store, Nms(rank="dataset", neighbours=3), out, 0.6), 2)
    select(store, Nms(rank="dataset", neighbours=3), keep=0.6, out=tmp_path / "whole.parquet")
    assert files(out) == files(tmp_path / "whole.parquet")
    assert sorted(path.name for path in out.parent.iterdir()) == [dropped_path(out).name, out.name]


def test_a_part_of_which_is_asked_is_no_other(store, tmp_path):
    job = Job(store, Nms(), tmp_path / "subset.parquet", 0.6)
    assert next_step(job) == Step("profile", 5, (0, 1, 2, 3, 4))
    work(job, next_step(job), [1, 3])
    assert next_step(job) == Step("profile", 5, (0, 2, 4))
    for other in (Job(store, Nms(), job.out, 0.5), Job(store, Nms(rank="twin"), job.out, 0.6)):
        for function in (next_step, merge):
            with pytest.raises(DataError) as caught:
                function(other)
            assert str(caught.value) == (
                f"{tmp_path / 'subset.parts'} holds parts of other options or faces; give the options of then, "
                "choose another --out, or delete it"
            )


def test_a_store_that_changes_between_the_passes_is_noticed(tmp_path):
    def stored(faces):
        return write_store(tmp_path / "embeddings", split(faces, CUTS))

    job = Job(stored(random_faces(3, SIZES)), Nms(), tmp_path / "subset.parquet", keep=0.6)
    other = tmp_path / "other"
    write_store(other, split(random_faces(4, SIZES), CUTS))
    for path in (tmp_path / "embeddings" / "img_emb").iterdir():
        path.write_bytes((other / "img_emb" / path.name).read_bytes())
    step = next_step(job)
    work(job, step, step.missing, threads=1)
    merge(job, threads=1)
    stored(random_faces(3, SIZES))  # put back: the cut itself notices a store that is still another
    step = next_step(job)
    work(job, step, step.missing, threads=1)
    with pytest.raises(DataError) as error:
        merge(job, threads=1)
    kept = str(error.value).partition("lead to ")[2].partition(":")[0]
    assert int(kept) != 52
    assert str(error.value) == (
        f"keep 0.6 asks for 52 of 86 faces, but the parts lead to {kept}: {tmp_path / 'embeddings'} changed between "
        f"the two passes; put it back or embed anew, remove {tmp_path / 'subset.parts'} and begin again"
    )
    assert not (tmp_path / "subset.parquet").exists()


def test_a_merge_of_nothing_leaves_nothing(store, tmp_path):
    merging = ("--merge", "--embeddings", store, "--out", tmp_path / "subset.parquet")
    for words in (("nms", "--keep", 0.6), ("nms", "--max-cosine", 0.5), ("select", "random", "--keep", 0.6)):
        assert command(*words, *merging) == (
            1,
            [
                f"Error: no parts at {tmp_path / 'subset.parts'}; run the tasks first, with --shard-index and "
                "--num-shards instead of --merge"
            ],
        )
    assert list(tmp_path.glob("subset*")) == []


def test_what_is_missing_is_named_by_the_merge(store, tmp_path):
    job = Job(store, Nms(), tmp_path / "subset.parquet", 0.6)
    for name in ("profile", "cut"):
        work(job, next_step(job), [1, 3, 4])
        with pytest.raises(DataError) as caught:
            merge(job)
        assert str(caught.value) == (
            f"{tmp_path / 'subset.parts'}: {name} is missing of 2 of 5 shards (0, 2); "
            "run the array again, which does only these, then --merge"
        )
        work(job, next_step(job), [0, 2])
        done = merge(job)
    assert done == select(store, Nms(), keep=0.6, out=tmp_path / "whole.parquet")


def test_a_damaged_part_is_named(store, tmp_path):
    job = Job(store, Nms(), tmp_path / "subset.parquet", 0.6)
    work(job, next_step(job), range(5))
    (path,) = tmp_path.glob("subset.parts/*/profile-00002.npz")
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"PK" + whole[::-1]):
        path.write_bytes(damage)
        with pytest.raises(DataError) as caught:
            merge(job)
        assert str(caught.value) == f"{path} is missing or damaged; delete it and run that task of the array again"
    path.unlink()
    work(job, next_step(job), [2])
    merge(job)


def test_whatever_byte_of_a_part_is_changed_it_is_noticed_or_does_no_harm(store, tmp_path):
    job = Job(store, Nms(), tmp_path / "subset.parquet", 0.6)
    work(job, next_step(job), range(5))
    folder, names = PartFiles(job, Embeddings.open(store)), ("small", "large", "sparsity", "values")
    path, expected = folder.part("profile", 2), folder.read("profile", 2, *names)
    whole, lines = path.read_bytes(), []
    for at in np.random.default_rng(0).choice(len(whole), 100, replace=False).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            found = folder.read("profile", 2, *names)
        except DataError as error:
            lines.append(str(error))
        else:
            for name in names:
                np.testing.assert_array_equal(found[name], expected[name])
    assert len(lines) > 60
    assert set(lines) == {f"{path} is missing or damaged; delete it and run that task of the array again"}


DAMAGES = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) * 2 // 3],
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
}
DAMAGED = {
    "centres-00002.npz": "cut short", "centres.npy": "one bit", "centres.sha256": "empty", "survey.json": "one bit",
    "profile-00002.npz": "one bit", "threshold.json": "cut short", "cut-00002.npz": "empty",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "damage"), [*DAMAGED.items(), ("centres.npy", "cut short"), ("threshold.json", "one bit")]
)
def test_whatever_is_damaged_between_two_commands_is_named_and_made_anew(name, damage, store, tmp_path):
    nms = ("nms", "--keep", 0.6, "--rank", "dataset", "--neighbours", 3, "--threads", 1, "--embeddings", store)
    nms += ("--out", tmp_path / "subset.parquet")
    select(store, Nms(rank="dataset", neighbours=3), keep=0.6, out=tmp_path / "whole.parquet")
    damaged, named = [], 0
    array = [("--shard-index", 0, "--num-shards", 2), ("--shard-index", 1, "--num-shards", 2), ("--merge",)]
    for more in array * 8:
        for path in tmp_path.glob(f"subset.parts/*/{name}") if not damaged else ():
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
            damaged.append(path)
        code, lines = command(*nms, *more)
        assert len(lines) == (3 if (tmp_path / "subset.parquet").exists() else 1), lines
        if match := re.fullmatch(
            r"Error: (\S+) is (missing or damaged; delete it and run that task of the array again"
            r"|damaged; delete it and run the same command again)",
            lines[0],
        ):
            assert match[1] == str(damaged[0].with_name(damaged[0].name.replace(".sha256", ".npy")))
            Path(match[1]).unlink()
            named += 1
        elif code:
            assert re.search(
                r": \w+ is missing of .*; run the array again, which does only these, then --merge$", lines[0]
            )
        if (tmp_path / "subset.parquet").exists():
            break
    assert (len(damaged), named) == (1, 1)
    assert files(tmp_path / "subset.parquet") == files(tmp_path / "whole.parquet")


def test_a_plain_run_says_that_an_array_was_not_finished(store, tmp_path, caplog):
    nms = ("nms", "--keep", 0.6, "--embeddings", store, "--out", tmp_path / "subset.parquet")
    command(*nms, "--shard-index", 0, "--num-shards", 2)
    parts = tmp_path / "subset.parts"
    before = sorted(parts.rglob("*"))
    select(store, Nms(), keep=0.6, out=tmp_path / "whole.parquet")
    code, lines = command(*nms)
    assert (code, lines[0]) == (0, f"{tmp_path}/subset.parquet: 52 of 86 faces, 10 of 10 identities")
    assert caplog.messages == [
        f"{parts} is of a job array that was not finished; this run does without it, so delete it"
    ]
    assert files(tmp_path / "subset.parquet") == files(tmp_path / "whole.parquet")
    assert sorted(parts.rglob("*")) == before


def test_a_file_in_the_place_of_the_parts(store, tmp_path, caplog):
    (tmp_path / "subset.parts").write_bytes(b"mine")
    nms = ("nms", "--keep", 0.6, "--embeddings", store, "--out", tmp_path / "subset.parquet")
    line = f"Error: {tmp_path}/subset.parts is a file, so nothing can be written in it; choose another --out"
    assert command(*nms, "--shard-index", 0, "--num-shards", 2) == (1, [line])
    assert command(*nms, "--merge") == (1, [line])
    assert command(*nms)[0] == 0
    assert (tmp_path / "subset.parts").read_bytes() == b"mine"
    assert caplog.messages == []


def command(*arguments):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return done.exit_code, done.output.splitlines()


def test_the_command_says_what_was_done_and_what_comes_next(store, tmp_path):
    out = tmp_path / "subset.parquet"
    nms = ("nms", "--keep", 0.6, "--rank", "dataset", "--embeddings", store)
    whole = command(*nms, "--out", tmp_path / "whole.parquet")[1]

    def task(number):
        return command(*nms, "--out", out, "--shard-index", number, "--num-shards", 2)

    def then(name, merges):
        what = "run the same command with --merge" if merges else "run the same array again"
        for number, line in (
            (1, "2 shards done, 3 of 5 to do: run the other tasks"),
            (0, f"3 shards done, all 5 now: {what}"),
        ):
            assert task(number) == (0, [f"{out}: {name} of {line}"])

    then("centres", False)
    then("profile", True)
    assert task(0) == (0, [f"{out}: profile of 0 shards done, all 5 now: run the same command with --merge"])
    t = whole[2].removeprefix("t* = ")[:6]
    assert command(*nms, "--out", out, "--merge") == (0, [f"{out}: t* = {t}: run the same array again, then --merge"])
    then("cut", True)
    assert command(*nms, "--out", out, "--merge") == (0, [line.replace("whole", "subset") for line in whole])
    assert files(out) == files(tmp_path / "whole.parquet")
    assert task(0) == (1, [f"Error: {out} exists; choose another --out, or add --overwrite to replace it"])


def test_a_rival_is_run_in_the_same_way(store, tmp_path):
    kcenter = ("select", "kcenter", "--keep", 0.6, "--embeddings", store, "--out")
    whole = command(*kcenter, tmp_path / "whole.parquet")[1]
    out = tmp_path / "subset.parquet"
    for _ in range(2):
        for number in range(3):
            command(*kcenter, out, "--shard-index", number, "--num-shards", 3)
        lines = command(*kcenter, out, "--merge")[1]
    assert lines == [line.replace("whole", "subset") for line in whole]
    assert files(out) == files(tmp_path / "whole.parquet")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--shard-index", 1], "give --shard-index and --num-shards together, or neither"),
        (["--num-shards", 2], "give --shard-index and --num-shards together, or neither"),
        (["--shard-index", 2, "--num-shards", 2], "--shard-index is from 0 to 1 for 2 tasks; got 2"),
        (
            ["--shard-index", 0, "--num-shards", 2, "--merge"],
            "--merge is for when the tasks are done; leave out --shard-index and --num-shards",
        ),
        (["--keep", 2, "--merge"], "--keep is the fraction of faces to keep, in (0, 1]; got 2"),
        (
            ["--keep", 0.01, "--merge"],
            "--keep 0.01 asks for 1 of 86 faces, but every identity keeps at least 1, 10 in all; "
            "use --keep 0.11628 or more, or --min-per-identity 0",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, line, store, tmp_path):
    nms = ("nms", "--keep", 0.6, "--embeddings", store, "--out", tmp_path / "subset.parquet")
    assert command(*nms, *arguments) == (1, [f"Error: {line}"])


def test_an_order_is_of_one_process(store, tmp_path):
    order = ("nms", "--order", "--embeddings", store, "--out", tmp_path / "order.parquet")
    assert command(*order, "--merge") == (
        1, ["Error: an order is written by one process; leave out --shard-index, --num-shards and --merge"]
    )  # fmt: skip
