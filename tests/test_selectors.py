"""What every selector promises, over the whole table: write a new one, and these hold for it or fail."""

import dataclasses
from decimal import ROUND_CEILING, Decimal

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry import names_of, random_faces, shard_of, split, write_store

from facecore.embeddings import Embeddings
from facecore.errors import OptionError
from facecore.grid import LEVELS
from facecore.select import SELECTORS, select
from facecore.select.selector import KEPT, REASONS, prepare

every_selector = pytest.mark.parametrize("cls", SELECTORS.values(), ids=SELECTORS.keys())

# What these keep depends on where a face stands in the store, by a draw.
BY_ROW = {"random", "random-per-identity", "random-identities", "largest-identities", "semdedup"}
FILES = ("subset.parquet", "subset.dropped.parquet")


def store_of(path, shards):
    """A store with the column that DiffProb needs: many equal probabilities, each a function of the face."""
    shards = list(shards)
    return write_store(
        path, shards, probability=np.concatenate([np.round(abs(shard.vectors[:, 0]), 1) for shard in shards])
    )


def run(path, shards, keep, selector, **options):
    store = store_of(path / "embeddings", shards)
    selection = select(store, selector, keep=keep, out=path / FILES[0], **options)
    return selection, *(pq.read_table(path / file).to_pandas() for file in FILES)


def floor_of(selector, size):
    limits = selector.limits
    share = int((Decimal(str(limits.min_share)) * size).to_integral_value(ROUND_CEILING))
    return min(max(share, min(size, limits.min_per_identity)), limits.max_per_identity or size)


def least_of(selector, sizes):
    return sum(floor_of(selector, size) for size in sizes)


@every_selector
def test_a_seed_is_below_two_to_the_64th(cls, tmp_path):
    if "seed" not in {field.name for field in dataclasses.fields(cls)}:
        return
    run(tmp_path, [random_faces(3, [5, 5, 5, 5])], 0.5, cls(seed=(1 << 64) - 1))
    with pytest.raises(OptionError) as error:
        cls(seed=1 << 64)
    assert str(error.value) == "seed must be below 2**64, got 18446744073709551616"


@every_selector
@pytest.mark.parametrize("min_share", [0, 0.4])
@pytest.mark.parametrize("sizes", [[1], [7], [1, 1, 1, 1], [5, 1, 9, 2, 30], [12] * 6])
def test_the_count_is_exact_and_the_floor_holds(cls, sizes, min_share, tmp_path):
    faces, selector = random_faces(3, sizes), cls(min_share=min_share)
    for number, keep in enumerate([0.25, 0.5, 0.6, 0.77, 1.0]):
        path, target = tmp_path / str(number), round(keep * len(faces))
        if target < max(1, least_of(selector, sizes)):
            with pytest.raises(OptionError):
                run(path, [faces], keep, selector)
            continue
        selection, kept, dropped = run(path, [faces], keep, selector)
        assert len(kept) == selection.kept == target
        assert sorted([*kept.face_id, *dropped.face_id]) == names_of(faces)["face_id"].to_pylist()
        assert selection.dropped == dropped.reason.value_counts().to_dict()
        of_each = kept.identity.value_counts()
        for who, size in enumerate(sizes):
            assert of_each.get(f"p{who:03d}", 0) >= floor_of(selector, size)


@every_selector
def test_the_profile_counts_what_the_cut_keeps(cls, tmp_path):
    store = Embeddings.open(store_of(tmp_path, [random_faces(4, [9, 1, 16, 3, 25])]))
    for selector in (
        cls(),
        cls(min_per_identity=3, max_per_identity=7, min_centre_cosine=0.5),
        cls(min_per_identity=2, min_share=0.5, max_per_identity=9, min_centre_cosine=0.5),
    ):
        cutter, shard = prepare(selector, store, threads=1), store.shard(0)
        counts = np.cumsum(cutter.profile(shard))
        changes = np.flatnonzero(np.diff(counts)) + 1
        for level in {0, LEVELS - 1, *changes[::5].tolist(), *(changes[::5] - 1).tolist()}:
            assert counts[level] == np.count_nonzero(cutter.cut(shard, level).fates.reason == KEPT)


@every_selector
def test_who_goes_has_a_reason_and_a_kept_rival_of_its_identity(cls, tmp_path):
    faces = random_faces(6, [12, 20, 1, 8])
    _, kept, dropped = run(tmp_path, [faces], 0.6, cls())
    vectors = dict(zip(names_of(faces)["face_id"].to_pylist(), faces.vectors, strict=True))
    assert set(dropped.reason) <= set(REASONS[1:])
    for face in dropped.itertuples():
        near = {other: vectors[other] @ vectors[face.face_id] for other in kept.face_id[kept.identity == face.identity]}
        if near:
            assert near[face.rival] == pytest.approx(max(near.values()), abs=2e-3)  # stored as halves
            assert face.cosine == pytest.approx(near[face.rival], abs=2e-3)
        else:
            assert face.rival not in vectors


@pytest.mark.parametrize("name", sorted(SELECTORS.keys() - {"diffprob"}))  # which skips faces and goes on
def test_who_is_outranked_is_ranked_after_all_that_stay(name, tmp_path):
    _, kept, dropped = run(tmp_path, [random_faces(8, [15, 10, 30])], 0.6, SELECTORS[name]())
    for who, outranked in dropped[dropped.reason == "outranked"].groupby("identity"):
        stay = kept.sparsity[kept.identity == who]
        assert not len(stay) or outranked.sparsity.max() <= stay.min()


@every_selector
def test_the_limits_hold(cls, tmp_path):
    sizes = [20, 9, 1, 14, 6]
    faces = random_faces(2, sizes)
    _, kept, _ = run(tmp_path / "1", [faces], 0.5, cls(min_per_identity=2, max_per_identity=8))
    of_each = kept.identity.value_counts()
    assert of_each.max() <= 8
    assert [of_each[f"p{who:03d}"] >= min(size, 2) for who, size in enumerate(sizes)] == [True] * 5
    _, _, dropped = run(tmp_path / "2", [faces], 0.5, cls(min_per_identity=1, min_centre_cosine=0.3))
    assert {"far-from-centre"} <= set(dropped.reason)


@every_selector
def test_a_share_of_every_identity_stays(cls, tmp_path):
    # faces that are all alike, of which suppression alone keeps one
    alike, apart = shard_of(np.tile([1.0, 0.0], (20, 1)), "a" * 20), random_faces(1, [9, 11], dimension=2)
    faces = shard_of(np.concatenate([alike.vectors, apart.vectors]), ["a"] * 20 + ["b"] * 9 + ["c"] * 11)
    for number, limits in enumerate(({}, {"min_centre_cosine": 0.5}, {"max_per_identity": 6})):
        selector = cls(min_per_identity=1, min_share=0.35, **limits)
        _, kept, _ = run(tmp_path / str(number), [faces], 0.4, selector)
        of_each = kept.identity.value_counts()
        assert len(kept) == 16
        assert of_each["p000"] >= (6 if "max_per_identity" in limits else 7)
        assert of_each["p001"] >= 4
        assert of_each["p002"] >= 4
        assert of_each.max() <= limits.get("max_per_identity", 20)


@every_selector
def test_people_with_one_face_each(cls, tmp_path):
    people = random_faces(5, [1] * 10)
    selection, kept, dropped = run(tmp_path, [people], 0.3, cls(min_per_identity=0))
    assert (selection.identities_kept, len(kept), len(dropped)) == (3, 3, 7)
    assert dropped.rival.isna().all()


@every_selector
def test_all_faces_the_same_still_gives_the_exact_count(cls, tmp_path):
    same = shard_of(np.tile([1.0, 0.0], (10, 1)), ["a"] * 10)
    _, kept, dropped = run(tmp_path, [same], 0.6, cls())
    assert len(kept) == 6
    assert (dropped.cosine == 1).all()
    assert set(dropped.rival) <= set(kept.face_id)


@every_selector
@pytest.mark.parametrize("min_share", [0, 0.4])
def test_shard_by_shard_equals_whole_to_the_byte(cls, min_share, tmp_path):
    faces = random_faces(5, [6, 1, 20, 3, 3, 11, 8])
    for name, cuts in (("whole", []), ("two", [3]), ("many", [1, 2, 4, 6])):
        run(tmp_path / name, split(faces, cuts), 0.65, cls(min_share=min_share))
    for file in FILES:
        assert len({(tmp_path / name / file).read_bytes() for name in ("whole", "two", "many")}) == 1


@every_selector
def test_threads_change_no_byte(cls, tmp_path):
    faces = list(split(random_faces(7, [6, 30, 20, 3, 3, 11, 8]), [2, 4]))
    for threads in (1, 2):
        run(tmp_path / str(threads), faces, 0.6, cls(), threads=threads)
    for file in FILES:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


@pytest.mark.parametrize("name", sorted(SELECTORS.keys() - BY_ROW))
def test_renaming_the_identities_changes_nothing_else(name, tmp_path):
    a, b = random_faces(1, [9]), random_faces(2, [12])
    there = np.concatenate([a.vectors, b.vectors]), ["a"] * 9 + ["b"] * 12
    back = np.concatenate([b.vectors, a.vectors]), ["a"] * 12 + ["b"] * 9
    first, kept, _ = run(tmp_path / "1", [shard_of(*there)], 0.7, SELECTORS[name]())
    second, swapped, _ = run(tmp_path / "2", [shard_of(*back)], 0.7, SELECTORS[name]())
    assert first.max_cosine == second.max_cosine
    assert sorted(kept.sparsity) == sorted(swapped.sparsity)
