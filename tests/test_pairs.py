"""How much a data set repeats itself: the share of the pairs of one identity above a cosine."""

import numpy as np
import pytest
from click.testing import CliRunner
from geometry import faces_at, random_faces, shard_of, split, write_store

from facecore.cli import main
from facecore.embeddings import Embeddings
from facecore.select import pairs, share_of_pairs_above


def people_at(*people):
    """Identities p000, p001 and so on, each with faces at these angles on a circle."""
    faces = np.concatenate([faces_at(*degrees).vectors for degrees in people])
    return shard_of(faces, [f"p{number:03d}" for number, degrees in enumerate(people) for _ in degrees])


def stored(path, shard, cuts=()):
    return Embeddings.open(write_store(path / "store", split(shard, cuts)))


@pytest.mark.parametrize(("max_cosine", "share"), [(0.99, 0.0), (0.9, 1 / 4), (0.6, 2 / 4), (0.4, 3 / 4), (0.1, 1.0)])
def test_the_share_is_that_of_the_pairs_one_can_count(tmp_path, max_cosine, share):
    three_and_two = people_at((0, 10, 60), (0, 80), (5,))  # cosines 0.985, 0.5 and 0.643; 0.174; and no pair
    assert share_of_pairs_above(stored(tmp_path, three_and_two, [1]), max_cosine) == share


def test_no_pair_is_above_one_whatever_the_last_bits_of_its_product(tmp_path):
    copies = np.repeat(random_faces(7, (9,), dimension=64).vectors, 2, axis=0)
    store = stored(tmp_path, shard_of(copies, ["p000"] * len(copies)))
    assert share_of_pairs_above(store, 1.0) == 0.0


def test_faces_of_two_people_are_no_pair(tmp_path):
    assert share_of_pairs_above(stored(tmp_path, people_at((0,), (0,))), 0.5) is None


def test_the_share_is_that_of_the_slow_obvious_count(tmp_path):
    shard = random_faces(3, (5, 1, 40, 2, 17))
    cosines = [
        float(shard.vectors[i] @ shard.vectors[j])
        for start, end in zip(shard.starts[:-1], shard.starts[1:], strict=True)
        for i in range(start, end)
        for j in range(start, i)
    ]
    expected = sum(cosine > 0.7 for cosine in cosines) / len(cosines)
    assert share_of_pairs_above(stored(tmp_path, shard, [2]), 0.7) == pytest.approx(expected, abs=2 / len(cosines))


def test_of_many_faces_every_so_many_runs_are_counted(tmp_path, monkeypatch):
    near, far = (0, 1), (0, 90)
    faces = people_at(near, far, near, far, near)
    store = stored(tmp_path, faces, [1, 2, 3, 4])  # five shards, and so five runs
    assert share_of_pairs_above(store, 0.9) == 3 / 5
    monkeypatch.setattr(pairs, "PIECES", 3)
    assert share_of_pairs_above(store, 0.9) == 1.0


def test_of_a_large_identity_every_so_many_faces_are_counted(tmp_path, monkeypatch):
    store = stored(tmp_path, people_at((0, 90) * 4))
    assert share_of_pairs_above(store, 0.9) == 12 / 28
    monkeypatch.setattr(pairs, "PIECE_ROWS", 4)
    assert share_of_pairs_above(store, 0.9) == 1.0


def test_nms_says_how_many_pairs_are_as_near(tmp_path):
    store, out = stored(tmp_path, people_at((0, 10, 60), (0, 80))).path, tmp_path / "subset.parquet"
    done = CliRunner().invoke(main, ["nms", "--max-cosine", "0.6", "--embeddings", str(store), "--out", str(out)])
    assert (done.exit_code, done.output.splitlines()) == (
        0,
        [
            f"{out}: 4 of 5 faces, 2 of 2 identities",
            f"{tmp_path / 'subset.dropped.parquet'}: 1 near-duplicate",
            "t* = 0.6000: a near-duplicate has a kept rival with a cosine above it; of all pairs of one identity "
            "50.0 % are above it",
            "so many are no near-duplicates: random faces may teach as well or better; raise --max-cosine",
        ],
    )
    asked = ["nms", "--keep", "0.6", "--embeddings", str(store), "--out", str(tmp_path / "kept.parquet")]
    assert CliRunner().invoke(main, asked).output.splitlines()[3:] == [
        "so many are no near-duplicates: random faces may teach as well or better; "
        "raise --keep, or use --min-threshold 0.9, where identities differ in size with --then largest-identities "
        "--min-per-identity 0",
    ]


def test_nms_does_not_warn_where_few_pairs_are_as_near(tmp_path):
    store, out = stored(tmp_path, people_at((0, 10, 60), (0, 80), (0, 90))).path, tmp_path / "subset.parquet"
    done = CliRunner().invoke(main, ["nms", "--max-cosine", "0.6", "--embeddings", str(store), "--out", str(out)])
    assert done.output.splitlines()[2:] == [
        "t* = 0.6000: a near-duplicate has a kept rival with a cosine above it; of all pairs of one identity "
        "40.0 % are above it"
    ]


def test_nms_tells_no_share_where_it_saw_no_pair_though_there_are_some(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "PIECES", 1)
    store, out = stored(tmp_path, people_at((0,), (0, 10)), [1]).path, tmp_path / "subset.parquet"
    done = CliRunner().invoke(main, ["nms", "--max-cosine", "0.5", "--embeddings", str(store), "--out", str(out)])
    assert done.output.splitlines()[2:] == ["t* = 0.5000: a near-duplicate has a kept rival with a cosine above it"]


def test_nms_says_that_there_are_no_pairs(tmp_path):
    store, out = stored(tmp_path, people_at((0,), (10,))).path, tmp_path / "subset.parquet"
    done = CliRunner().invoke(main, ["nms", "--keep", "1", "--embeddings", str(store), "--out", str(out)])
    assert done.output.splitlines()[2:] == ["no identity has two faces, so there are no near-duplicates"]
