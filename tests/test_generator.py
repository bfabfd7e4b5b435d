"""Generated faces are the same every time, and are what they claim to be."""

import generator
import numpy as np
import pytest
from generator import centres, generate, planted, shard_sizes, write_store

from facecore.embeddings import metadata_path, vectors_path


def numbers(column):
    """The number of each row's identity, counted from the first."""
    return np.unique(column.to_pylist(), return_inverse=True)[1]


@pytest.fixture(scope="module")
def shard():
    vectors, faces = generate(0, 0, rows=6_000)
    return vectors.astype(np.float32), faces


def test_a_shard_is_a_function_of_seed_and_number(monkeypatch):
    vectors, faces = generate(1, 2, identities=300, dimension=16)
    monkeypatch.setattr(generator, "cores", lambda: 1)
    again, faces_again = generate(1, 2, identities=300, dimension=16)
    assert vectors.tobytes() == again.tobytes()
    assert faces == faces_again
    for seed, number in ((1, 3), (2, 2)):
        assert generate(seed, number, identities=300, dimension=16)[0][:100].tobytes() != vectors[:100].tobytes()


@pytest.mark.parametrize("rows", [1, 1_000, 3_000])
def test_cut_short_it_begins_the_same(rows):
    whole, faces = generate(1, 2, identities=300, dimension=16)
    vectors, first = generate(1, 2, identities=300, dimension=16, rows=rows)
    assert vectors.tobytes() == whole[:rows].tobytes()
    assert first == faces.slice(0, rows)


def test_names_are_unique_and_sorted_across_shards():
    names = [
        text.encode()
        for number in (0, 1, 10)
        for text in generate(0, number, identities=200, dimension=8)[1]["face_id"].to_pylist()
    ]
    assert names == sorted(set(names))
    _, faces = generate(0, 0, identities=200, dimension=8)
    assert faces.slice(0, 1).to_pylist() == [
        {"face_id": "00000-00000/000000", "identity": "00000-00000", "source": "00000-00000/000000.jpg"}
    ]
    assert np.bincount(numbers(faces["identity"])).tolist() == shard_sizes(0, 0, 200).tolist()


def test_sizes_have_a_long_tail():
    sizes = shard_sizes(0, 0, 16_384)
    assert 20 < sizes.mean() < 22
    assert np.median(sizes) == 15
    assert 90 < np.quantile(sizes, 0.99) < 110
    assert (sizes.min(), sizes.max()) == (1, 1_200)


def test_rows_are_unit_and_strangers_are_nearly_orthogonal(shard):
    vectors, faces = shard
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 5e-4
    whose = numbers(faces["identity"])
    cosine = vectors[:500] @ vectors[-500:].T
    strangers = cosine[whose[:500, None] != whose[-500:]]
    assert abs(strangers.mean()) < 0.01
    assert 0.06 < strangers.std() < 0.076


def test_faces_lie_around_their_centre_but_for_a_few(shard):
    vectors, faces = shard
    own = np.einsum("nd,nd->n", vectors, centres(0, 0).astype(np.float32)[numbers(faces["identity"])])
    low, middle, high = np.quantile(own, [0.01, 0.5, 0.99])
    assert low < 0.2
    assert 0.63 < middle < 0.71
    assert 0.86 < high < 0.95


def test_a_fifth_are_near_duplicates(shard):
    vectors, faces = shard
    whose = numbers(faces["identity"])
    same = whose[:, None] == whose
    np.fill_diagonal(same, False)
    nearest = np.where(same, vectors @ vectors.T, -1).max(axis=1)
    assert 0.25 < np.mean(nearest > 0.85) < 0.4  # a near-duplicate, or the face that it is one of
    assert nearest.max() < 0.985


def test_look_alikes_cross_shards():
    some, of_its_group, of_another = (centres(0, number, identities=4_096).astype(np.float32) for number in (0, 1, 16))
    assert np.sum(some @ of_its_group.T > 0.45) >= 3
    assert np.sum(some @ of_another.T > 0.45) == 0


def test_planted_pairs_are_what_they_claim():
    vectors, faces, pairs = planted(0, faces=1_000, identities=50, pairs=150)
    assert vectors.shape == (1_000, 512)
    assert pairs.shape == (150, 2)
    assert len(np.unique(pairs)) == 300
    whose = numbers(faces["identity"])
    assert (len(whose), whose.max()) == (1_000, 49)
    assert (whose[pairs[:, 0]] == whose[pairs[:, 1]]).all()
    cosine = vectors.astype(np.float32) @ vectors.astype(np.float32).T
    between = cosine[pairs[:, 0], pairs[:, 1]]
    assert 0.955 <= between.min() < 0.965 < 0.985 < between.max() <= 0.995
    cosine[pairs[:, 0], pairs[:, 1]] = cosine[pairs[:, 1], pairs[:, 0]] = 0
    assert np.triu(cosine, 1).max() < 0.95  # all others are distinct
    assert planted(0, faces=1_000, identities=50, pairs=150)[0].tobytes() == vectors.tobytes()


def test_a_store_has_exactly_the_faces_asked_for_and_goes_on(tmp_path):
    store = write_store(tmp_path, faces=5_000, identities=100, dimension=16)
    assert (store.rows, len(store)) == (5_000, 3)
    written = [vectors_path(tmp_path, number).stat().st_mtime_ns for number in range(3)]
    store = write_store(tmp_path, faces=7_000, identities=100, dimension=16)
    assert store.rows == 7_000
    now = [vectors_path(tmp_path, number).stat().st_mtime_ns for number in range(3)]
    assert now[:2] == written[:2]
    assert now[2] != written[2]  # it was cut short
    assert write_store(tmp_path, faces=7_000, seed=1, identities=100, dimension=16).sha256 != store.sha256


def test_a_shard_without_metadata_is_written_again(tmp_path):
    whole = write_store(tmp_path, faces=3_000, identities=100, dimension=16)
    metadata_path(tmp_path, 1).unlink()
    vectors_path(tmp_path, 1).write_bytes(b"half")
    assert write_store(tmp_path, faces=3_000, identities=100, dimension=16).sha256 == whole.sha256


def test_large_identities_come_last(tmp_path):
    store = write_store(tmp_path, faces=500, identities=100, dimension=16, large=[300, 2_000])
    assert [len(store.faces(number)) for number in range(3)] == [500, 300, 2_000]
    assert [len(store.starts(number)) - 1 for number in (1, 2)] == [1, 1]
