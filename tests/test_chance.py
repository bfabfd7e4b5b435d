"""A threshold that may not sink: suppression down to it, and chance below."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from geometry import faces_at, random_faces, shard_of, split, write_store
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facecore.cli import main
from facecore.embeddings import Embeddings
from facecore.errors import OptionError
from facecore.grid import LEVELS, STEPS
from facecore.select import Nms, dropped_path, faces_to_keep, select
from facecore.select.audit import audit
from facecore.select.largest_identities import LargestIdentities
from facecore.select.ranks import draws
from facecore.select.selector import KEPT, prepare


def run(path, shards, selector, **asked):
    store = path / "embeddings"
    if not store.exists():
        write_store(store, shards)
    out = path / "subset.parquet"
    done = select(store, selector, out=out, overwrite=True, **asked)
    return done, *(pq.read_table(file).to_pandas() for file in (out, dropped_path(out)))


def rows(table):
    return {int(face_id.split("/")[1]) for face_id in table.face_id}


def oracle(path, sizes, keep, selector, border):
    """Who stays at the border; of them the floors by the lowest draws, then who drew the lowest, to the exact count."""
    _, kept, _ = run(path, [], Nms(min_per_identity=selector.min_per_identity), max_cosine=border / STEPS - 1)
    drawn = np.floor(shares(sizes, kept, selector) * border)
    chosen, first = set(), 0
    for size in sizes:
        mine = sorted((row for row in rows(kept) if first <= row < first + size), key=lambda row: (drawn[row], row))
        chosen |= set(mine[: selector.min_per_identity])
        first += size
    rank = dict(zip((int(name.split("/")[1]) for name in kept.face_id), kept.sparsity, strict=True))
    others = sorted(rows(kept) - chosen, key=lambda row: (drawn[row], -rank[row], row))  # of equal draws as for t*
    return chosen | set(others[: faces_to_keep(keep, sum(sizes)) - len(chosen)])


def shares(sizes, kept, selector):
    """What each face draws: by itself, or by its identity, which has more faces left the lower it draws."""
    seed, n = (1 << 64) - 1 - selector.seed, len(sizes)
    if selector.then == "random":
        return draws(seed, 0, sum(sizes)).astype(np.float64)
    drawn = draws(seed, 0, n).astype(np.float64)
    if selector.then == "largest-identities":
        left = np.array([max((kept.identity == f"p{who:03d}").sum(), 1) for who in range(n)])
        drawn = 1 / (left + 1) + drawn * (1 / left - 1 / (left + 1))
    return np.repeat(drawn, sizes)


@settings(max_examples=100, deadline=None)
@given(
    then=st.sampled_from(["random", "random-identities", "largest-identities"]),
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    keep=st.floats(0.1, 0.9),
    floor=st.integers(0, 2),
    min_threshold=st.sampled_from([0.3, 0.9, 1.0]),
)
def test_the_subset_is_that_of_the_oracle(tmp_path_factory, then, seed, sizes, keep, floor, min_threshold):
    path, faces = tmp_path_factory.mktemp("chance"), random_faces(seed, sizes, dimension=4)
    floor = floor if then == "random" else 0
    assume(faces_to_keep(keep, len(faces)) >= max(1, sum(min(size, floor) for size in sizes)))
    plain, kept, _ = run(path, [faces], Nms(min_per_identity=floor), keep=keep)
    selector = Nms(min_per_identity=floor, min_threshold=min_threshold, then=then, seed=seed)
    done, chosen, dropped = run(path, [faces], selector, keep=keep)
    assert (len(chosen), len(chosen) + len(dropped)) == (faces_to_keep(keep, len(faces)), len(faces))
    border = math.ceil((min_threshold + 1) * STEPS)
    if plain.max_cosine > border / STEPS - 1:
        assert (done.max_cosine, rows(chosen)) == (plain.max_cosine, rows(kept))
    else:
        assert done.max_cosine == border / STEPS - 1
        assert rows(chosen) == oracle(path, sizes, keep, selector, border)
    found = audit(path / "subset.parquet", path / "embeddings", threads=1)  # of the oracle's, or the one before
    assert found.ok, found.to_text()


def test_of_a_burst_one_face_stays_and_of_different_ones_chance_takes_any(tmp_path):
    """Ann has five copies of one face; Bob's five are 60 degrees apart, and more than the copies have to go."""
    faces = shard_of(
        np.concatenate([faces_at(0, 0, 0, 0, 0).vectors, faces_at(0, 60, 120, 180, 240).vectors]), "a" * 5 + "b" * 5
    )
    taken = np.zeros(10, np.int64)
    for seed in range(300):
        selector = Nms(min_per_identity=0, min_threshold=0.9, seed=seed)
        done, kept, dropped = run(tmp_path, [faces], selector, keep=0.3)
        assert done.max_cosine == pytest.approx(0.9, abs=1 / STEPS)
        assert kept.identity.tolist().count("p000") <= 1
        near = dropped[dropped.reason == "near-duplicate"]
        assert len(near) == (4 if 0 in rows(kept) else 0)  # the copies go for another reason if the first went
        assert set(near.rival) <= {"p000/0000"}
        assert set(dropped.reason) <= {"near-duplicate", "trimmed"}
        taken[list(rows(kept))] += 1
    assert taken[1:5].tolist() == [0] * 4
    assert (np.abs(taken[[0, 5, 6, 7, 8, 9]] - 150) < 40).all()  # 3 of 6 a time: +- 9, a standard deviation


def test_bursts_make_nobody_large(tmp_path):
    """Ann has six copies of one face, Bob three faces and Cy two: half of all are Bob's, Cy's, and one."""
    angles = [*[0] * 6, 0, 60, 120, 0, 90]
    faces = shard_of(faces_at(*angles).vectors, "a" * 6 + "b" * 3 + "c" * 2)
    selector = Nms(min_per_identity=0, min_threshold=0.9, then="largest-identities")
    for keep, wanted in ((0.27, "bbb"), (0.45, "bbbcc"), (0.54, "abbbcc")):
        _, kept, dropped = run(tmp_path, [faces], selector, keep=keep)
        assert "".join("abc"[int(who[1:])] for who in kept.identity) == wanted
        assert set(dropped.reason) <= {"near-duplicate", "trimmed"}
    _, kept, _ = run(tmp_path, [faces], LargestIdentities(), keep=0.54)
    assert set(kept.identity) == {"p000"}


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"then": "best"}, "then is one of random, random-identities, largest-identities; got best"),
        (
            {"then": "largest-identities"},
            "then largest-identities is for --min-threshold; add that, or leave --then out",
        ),
        (
            {"then": "largest-identities", "min_threshold": 0.9},
            "then largest-identities drops whole identities, but every identity keeps at least 1; "
            "add --min-per-identity 0",
        ),
        (
            {"then": "random-identities", "min_threshold": 0.9, "min_per_identity": 0, "min_share": 0.3},
            "then random-identities drops whole identities, but every identity keeps at least 0.3 of its faces; "
            "add --min-per-identity 0 and leave --min-share out",
        ),
    ],
    ids=str,
)
def test_whole_identities_go_only_where_that_is_asked_for(asked, line):
    with pytest.raises(OptionError) as error:
        Nms(**asked)
    assert str(error.value) == line


@pytest.mark.parametrize("keep", [0.52, 0.55, 0.6, 0.75])
def test_where_many_draw_the_same_the_count_and_the_floors_hold(keep, tmp_path):
    """Two opposite faces of each of thirty: with four levels below the border a quarter of them draws alike."""
    people = [faces_at(0, 180).vectors for _ in range(30)]
    faces = shard_of(np.concatenate(people), [f"{number:02d}" for number in range(30) for _ in range(2)])
    for seed in range(10):
        selector = Nms(min_threshold=-0.9998, seed=seed)
        _, kept, _ = run(tmp_path, [faces], selector, keep=keep)
        assert (len(kept), kept.identity.nunique()) == (faces_to_keep(keep, 60), 30)


def test_the_profile_counts_what_the_cut_keeps(tmp_path):
    store = Embeddings.open(write_store(tmp_path / "e", [random_faces(4, [9, 1, 16, 3, 25])]))
    for selector in (
        Nms(min_threshold=0.5),
        Nms(min_threshold=0.5, min_per_identity=0, then="random-identities"),
        Nms(min_threshold=0.5, min_per_identity=0, then="largest-identities", max_per_identity=9),
        Nms(min_threshold=0.5, min_per_identity=3, max_per_identity=7, min_centre_cosine=0.5, nested=True),
    ):
        cutter, shard = prepare(selector, store, threads=1), store.shard(0)
        for lowest, highest in ((0, LEVELS - 1), (100, 20000), (100, 30000), (26000, LEVELS - 1)):
            counts = np.cumsum(cutter.profile(shard, lowest, highest))
            changes = np.flatnonzero(np.diff(counts)) + 1
            for level in {lowest, highest, *changes[::3].tolist(), *(changes[::3] - 1).tolist()}:
                if lowest <= level <= highest:
                    assert counts[level] == np.count_nonzero(cutter.cut(shard, level).fates.reason == KEPT)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("then", ["random", "largest-identities"])
@pytest.mark.parametrize("keep", [0.2, 0.4, 0.6, 0.9])
def test_large_identities_and_shards_change_nothing(keep, then, nested, tmp_path, monkeypatch):
    faces = random_faces(3, [5, 1, 90, 2, 30])
    selector = Nms(min_threshold=0.6, min_per_identity=int(then == "random"), then=then, nested=nested)
    first = run(tmp_path / "small", [faces], selector, keep=keep)
    for name in ("cutting.WHOLE_ROWS", "large.WHOLE_ROWS"):
        monkeypatch.setattr(f"facecore.select.{name}", 4)
    monkeypatch.setattr("facecore.select.large._BLOCK", 3)
    monkeypatch.setattr("facecore.select.large._STRIP", 6)
    second = run(tmp_path / "large", split(faces, [1, 2, 3, 4]), selector, keep=keep)
    assert second[0] == first[0]
    assert second[1].equals(first[1])
    assert second[2].equals(first[2])


def test_between_the_arrays_t_is_told_as_a_cosine(tmp_path):
    store = write_store(tmp_path / "embeddings", [random_faces(3, [9, 12, 1])])
    nms = ["nms", "--embeddings", store, "--keep", 0.3, "--min-threshold", 0.9, "--out", tmp_path / "out.parquet"]

    def say(*more):
        return CliRunner().invoke(main, list(map(str, [*nms, *more]))).stdout

    say("--shard-index", 0, "--num-shards", 1)
    assert say("--merge") == f"{tmp_path / 'out.parquet'}: t* = 0.9000: run the same array again, then --merge\n"


def test_its_draw_is_not_that_of_the_rank_random():
    both = np.stack([draws(5, 0, 100_000), draws((1 << 64) - 1 - 5, 0, 100_000)])
    assert abs(np.corrcoef(both)[0, 1]) < 0.02  # its standard deviation is 0.003


@pytest.mark.parametrize("value", [-1.5, 1.01, math.nan])
def test_a_threshold_is_a_cosine(value):
    with pytest.raises(OptionError) as error:
        Nms(min_threshold=value)
    assert str(error.value) == f"min_threshold must be from -1 to 1, got {value:g}"


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            ["--max-cosine", 0.5],
            "--min-threshold is for --keep: --max-cosine is the threshold; leave one of them out",
        ),
        (["--order"], "an order goes down to every threshold; leave --min-threshold out"),
    ],
    ids=str,
)
def test_it_is_for_an_exact_count(asked, line, tmp_path):
    store = write_store(tmp_path / "embeddings", [faces_at(0, 40, 80)])
    arguments = ["nms", "--embeddings", store, "--min-threshold", 0.9, "--out", tmp_path / "out.parquet", *asked]
    found = CliRunner().invoke(main, list(map(str, arguments)))
    assert (found.exit_code, found.stderr) == (1, f"Error: {line}\n")


def test_what_is_printed_and_explained(tmp_path):
    store = write_store(tmp_path / "embeddings", [faces_at(0, 0, 60, 120, 180)])
    out = tmp_path / "out.parquet"
    arguments = ["nms", "--embeddings", store, "--keep", 0.6, "--min-threshold", 0.9, "--out", out]
    found = CliRunner().invoke(main, list(map(str, arguments)))
    why = "More faces stay at t* than were asked for, and --min-threshold has it no lower: chance took it"
    assert found.stdout.splitlines()[1:] == [
        f"{dropped_path(out)}: 1 near-duplicate, 1 trimmed",
        "t* = 0.9000: a near-duplicate has a kept rival with a cosine above it; "
        "of all pairs of one identity 10.0 % are above it",
    ]
    dropped = pq.read_table(dropped_path(out)).to_pandas()
    drawn = dropped.face_id[dropped.reason == "trimmed"].item()
    said = CliRunner().invoke(main, ["explain", drawn, "--subset", str(out)])
    assert said.stdout.splitlines()[1] == f"{why}."
    alone = [*arguments[:4], 0.2, *arguments[5:], "--min-per-identity", 0, "--seed", 2, "--overwrite"]
    CliRunner().invoke(main, list(map(str, alone)))
    dropped = pq.read_table(dropped_path(out)).to_pandas()
    assert dropped.reason.tolist() == ["trimmed"] * 4  # the copy of the first goes with it
    said = CliRunner().invoke(main, ["explain", "p000/0001", "--subset", str(out)])
    assert said.stdout.splitlines()[1] == f"{why}, or the one that it is too much like."
    whole = [*alone, "--then", "largest-identities"]
    CliRunner().invoke(main, list(map(str, whole)))
    said = CliRunner().invoke(main, ["explain", drawn, "--subset", str(out)])
    assert (
        said.stdout.splitlines()[1]
        == why.replace("chance took", "by --then largest-identities others came before") + "."
    )
