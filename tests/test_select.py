import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry import faces_at, random_faces, shard_of, split, write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore.errors import DataError, OptionError
from facecore.manifest import read_manifest
from facecore.select import SELECTORS, Nms, select
from facecore.select.greedy import add_profile, kept_at, profile_of
from facecore.select.grid import LEVELS, STEPS, to_cosines, to_levels
from facecore.select.nms import identity_sparsity
from facecore.select.run import dropped_path
from facecore.select.threshold import threshold_for

every_selector = pytest.mark.parametrize("cls", SELECTORS.values(), ids=SELECTORS.keys())


def greedy_oracle(levels, level):
    """The rule as one says it: go through the faces, keep one unless it is too near to a kept one."""
    kept = []
    for j in range(len(levels)):
        if all(levels[j, i] <= level for i in kept):
            kept.append(j)
    return kept


def levels_of(shard):
    """The cosines of one identity in rank order, on the grid, computed the slow way."""
    gram = np.array([[float(np.dot(a, b)) for b in shard.vectors] for a in shard.vectors], np.float32)
    order = np.argsort(-to_levels(identity_sparsity(shard.vectors) - 1).astype(int), kind="stable")
    return to_levels(gram)[np.ix_(order, order)]


def stored(vectors):
    """The rows as a store gives them back: rounded to halves, then unit length again."""
    halves = vectors.astype(np.float16).astype(np.float64)
    return halves / np.linalg.norm(halves, axis=1, keepdims=True)


def run(path, shards, keep, selector=None, **options):
    store = write_store(path / "embeddings", shards)
    selection = select(store, selector or Nms(), keep=keep, out=path / "subset.parquet", **options)
    kept = pq.read_table(path / "subset.parquet").to_pandas()
    return selection, kept, pq.read_table(path / "subset.dropped.parquet").to_pandas()


# The grid


def test_the_grid_is_exact_at_its_own_cosines():
    assert to_levels(np.array([-1, 0, 0.5, 1], np.float32)).tolist() == [0, STEPS, STEPS * 3 // 2, 2 * STEPS]
    assert to_cosines(np.array([0, STEPS, 2 * STEPS])).tolist() == [-1, 0, 1]
    every = np.arange(LEVELS)
    assert (to_levels(to_cosines(every)) == every).all()


def test_cosines_beyond_one_by_rounding_are_one():
    assert to_levels(np.array([1.0001, -1.0001], np.float32)).tolist() == [LEVELS - 1, 0]


# Inside one identity


def test_the_near_twin_goes_and_names_its_rival():
    cut = Nms().cut(faces_at(0, 1, 90), int(to_levels(np.array(0.9))))
    assert cut.kept.tolist() == [True, False, True]
    assert cut.rival.tolist() == [-1, 0, -1]
    assert cut.cosine[1] == pytest.approx(np.cos(np.radians(1)), abs=1 / STEPS)


def test_sparsity_is_the_mean_distance_to_the_whole_identity():
    shard = faces_at(0, 90, 180)
    assert identity_sparsity(shard.vectors) == pytest.approx([1 - 1 / 3 * (1 + 0 - 1), 1 - 1 / 3, 1], abs=1e-6)


def test_ranks_ties_by_face_id():
    cut = Nms().cut(faces_at(10, 10, 10), LEVELS - 2)
    assert cut.kept.tolist() == [True, False, False]
    assert cut.rival.tolist() == [-1, 0, 0]


def test_suppression_cosine_is_the_largest_to_a_better_face():
    # sparsity: 90 is furthest, then 0, then 1
    cut = Nms().cut(faces_at(0, 1, 90), 0)
    assert cut.suppression_cosine[2] == -1
    assert cut.suppression_cosine[0] == pytest.approx(0, abs=1e-4)
    assert cut.suppression_cosine[1] == pytest.approx(np.cos(np.radians(1)), abs=1 / STEPS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(0, 3))
def test_the_profile_counts_what_greedy_keeps_at_every_level(seed, size, floor):
    levels = levels_of(random_faces(seed, [size], dimension=3))
    change = np.zeros(LEVELS, np.int64)
    add_profile(levels, min(floor, size), change)
    profile = profile_of(change)
    values = {int(v) for v in levels[np.tril_indices(size, -1)]}
    for level in sorted({0, LEVELS - 1} | values | {max(v - 1, 0) for v in values}):
        oracle = greedy_oracle(levels, level)
        assert np.flatnonzero(kept_at(levels, level)).tolist() == oracle
        assert profile[level] == max(len(oracle), min(floor, size))
    between = np.flatnonzero(np.diff(profile))
    assert {int(v) + 1 for v in between} <= values, "the count changes only where a pair's cosine lies"


def test_the_greedy_count_is_not_monotone_and_the_profile_knows():
    # b is nearest to a; once b stays, it suppresses c and d, which lie around it
    levels = to_levels(np.array([[1, 0.9, 0, 0], [0.9, 1, 0.95, 0.95], [0, 0.95, 1, 0], [0, 0.95, 0, 1]], np.float32))
    change = np.zeros(LEVELS, np.int64)
    add_profile(levels, 1, change)
    at = profile_of(change)[to_levels(np.array([0.5, 0.89, 0.91, 0.96], np.float32))]
    assert at.tolist() == [3, 3, 2, 4]
    assert threshold_for(profile_of(change), 3).max_cosine == 0


# The promises, over the whole table


@every_selector
@pytest.mark.parametrize("sizes", [[1], [7], [1, 1, 1, 1], [5, 1, 9, 2, 30], [12] * 6])
def test_the_count_is_exact_and_the_floor_holds(cls, sizes, tmp_path):
    faces = random_faces(3, sizes)
    n = len(faces)
    for number, keep in enumerate([0.25, 0.5, 0.6, 0.77, 1.0]):
        path = tmp_path / str(number)
        if round(keep * n) < len(sizes):
            with pytest.raises(OptionError):
                run(path, [faces], keep, cls())
            continue
        selection, kept, dropped = run(path, [faces], keep, cls())
        assert len(kept) == selection.kept == round(keep * n)
        assert len(kept) + len(dropped) == n
        assert not set(kept.face_id) & set(dropped.face_id)
        assert kept.identity.nunique() == len(sizes)


@every_selector
def test_all_faces_the_same_still_gives_the_exact_count(cls, tmp_path):
    _, kept, dropped = run(tmp_path, [shard_of(np.tile([1.0, 0.0], (10, 1)), ["a"] * 10)], 0.3, cls())
    assert kept.face_id.tolist() == ["a/0000", "a/0001", "a/0002"]
    assert set(dropped.reason) == {"trimmed"}
    assert dropped.rival.tolist() == ["a/0000"] * 7


@every_selector
def test_shard_by_shard_equals_whole_to_the_byte(cls, tmp_path):
    faces = random_faces(5, [6, 1, 20, 3, 3, 11, 8])
    for name, cuts in (("whole", []), ("two", [3]), ("many", [1, 2, 4, 6])):
        run(tmp_path / name, split(faces, cuts), 0.6, cls())
    for file in ("subset.parquet", "subset.dropped.parquet"):
        assert len({(tmp_path / name / file).read_bytes() for name in ("whole", "two", "many")}) == 1


@every_selector
def test_renaming_the_identities_changes_nothing_else(cls, tmp_path):
    a, b = random_faces(1, [9]), random_faces(2, [12])
    there = np.concatenate([a.vectors, b.vectors]), ["a"] * 9 + ["b"] * 12
    back = np.concatenate([b.vectors, a.vectors]), ["a"] * 12 + ["b"] * 9
    first, kept, _ = run(tmp_path / "1", [shard_of(*there)], 0.7, cls())
    second, swapped, _ = run(tmp_path / "2", [shard_of(*back)], 0.7, cls())
    assert first.max_cosine == second.max_cosine
    assert sorted(kept.sparsity) == sorted(swapped.sparsity)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(0.3, 1))
def test_the_two_guarantees(tmp_path_factory, seed, sizes, keep):
    faces = random_faces(seed, sizes, dimension=4)
    if round(keep * len(faces)) < len(sizes):
        return
    selection, kept, dropped = run(tmp_path_factory.mktemp("guarantees"), [faces], keep)
    vectors = dict(zip(faces.faces["face_id"].to_pylist(), stored(faces.vectors), strict=True))
    near = 1.5 / STEPS
    for _, same in kept.groupby("identity"):
        for a, b in itertools.combinations(same.face_id, 2):
            assert vectors[a] @ vectors[b] <= selection.max_cosine + near
    names = set(kept.face_id)
    for face in dropped.itertuples():
        assert face.rival in names
        assert face.rival.split("/")[0] == face.identity
        assert vectors[face.face_id] @ vectors[face.rival] == pytest.approx(face.cosine, abs=near)
        assert (face.cosine > selection.max_cosine) == (face.reason == "near-duplicate")
    assert (dropped.reason == "trimmed").sum() == selection.trimmed


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(2, 9), min_size=1, max_size=5), st.floats(0.5, 1))
def test_the_threshold_is_the_smallest_that_reaches_the_target(tmp_path_factory, seed, sizes, keep):
    faces = random_faces(seed, sizes, dimension=4)
    shards = split(faces, range(1, len(sizes)))
    rounded = [shard_of(stored(s.vectors), s.faces["identity"].to_pylist()) for s in shards]
    target = round(keep * len(faces))
    selection, _, _ = run(tmp_path_factory.mktemp("smallest"), [faces], keep)
    tables = [levels_of(s) for s in rounded]
    values = sorted({0} | {int(v) for t in tables for v in t[np.tril_indices(len(t), -1)]})
    counts = [sum(len(greedy_oracle(t, v)) for t in tables) for v in values]
    smallest = next(v for v, count in zip(values, counts, strict=True) if count >= target)
    assert selection.max_cosine == pytest.approx(float(to_cosines(np.array(smallest))), abs=1.5 / STEPS)


# The floor


def test_a_floor_of_two_brings_back_the_best_dropped_face(tmp_path):
    faces = shard_of(
        np.concatenate([faces_at(0, 1, 2, 3).vectors, faces_at(0, 40, 80, 120).vectors]), ["a"] * 4 + ["b"] * 4
    )
    _, kept, _ = run(tmp_path, [faces], 0.75, Nms(min_per_identity=2))
    assert kept.identity.tolist() == ["a", "a", "b", "b", "b", "b"]


def test_without_a_floor_identities_may_go(tmp_path):
    faces = random_faces(0, [1] * 6 + [4])
    _, kept, dropped = run(tmp_path, [faces], 0.4, Nms(min_per_identity=0))
    assert len(kept) == 4
    gone = dropped[~dropped.identity.isin(kept.identity)]
    assert len(gone) == 3
    assert gone.rival.isna().all()
    assert gone.cosine.isna().all()
    assert set(gone.reason) == {"trimmed"}


def test_keep_below_the_floor_says_the_smallest_that_can(tmp_path):
    faces = random_faces(0, [3, 3, 1])
    with pytest.raises(OptionError) as error:
        run(tmp_path, [faces], 0.3)
    assert str(error.value) == (
        "keep 0.3 asks for 2 of 7 faces, but every identity keeps at least 1, 3 in all; "
        "use --keep 0.428572 or more, or --min-per-identity 0"
    )
    assert round(0.428572 * 7) == 3
    assert not (tmp_path / "subset.parquet").exists()


@pytest.mark.parametrize(("keep", "shown"), [(0, "0"), (1.4, "1.4"), (float("nan"), "nan"), (-0.1, "-0.1")])
def test_keep_outside_its_range(keep, shown, tmp_path):
    with pytest.raises(OptionError) as error:
        select(tmp_path, Nms(), keep=keep, out=tmp_path / "out.parquet")
    assert str(error.value) == f"keep is the fraction of faces to keep, in (0, 1]; got {shown}"


# The files


def test_the_subset_is_a_manifest_with_its_origin(tmp_path):
    selection, _, _ = run(tmp_path, [random_faces(1, [6, 6])], 0.5)
    table, made = read_manifest(tmp_path / "subset.parquet")
    assert table.column_names == ["face_id", "identity", "source", "sparsity", "suppression_cosine"]
    assert made.stage == "nms"
    assert made.options == {"keep": 0.5, "rank": "identity", "min_per_identity": 1}
    assert made.facts["root"] == "images"
    assert made.facts["max_cosine"] == selection.max_cosine
    assert (made.facts["faces"], made.facts["kept"]) == (12, 6)


def test_an_output_that_exists_is_not_touched(tmp_path):
    run(tmp_path, [random_faces(1, [6, 6])], 0.5)
    before = (tmp_path / "subset.parquet").read_bytes()
    with pytest.raises(DataError) as error:
        select(tmp_path / "embeddings", Nms(), keep=0.9, out=tmp_path / "subset.parquet")
    assert str(error.value) == (
        f"{tmp_path / 'subset.parquet'} exists; choose another --out, or add --overwrite to replace it"
    )
    assert (tmp_path / "subset.parquet").read_bytes() == before
    select(tmp_path / "embeddings", Nms(), keep=0.9, out=tmp_path / "subset.parquet", overwrite=True)
    assert pq.read_metadata(tmp_path / "subset.parquet").num_rows == 11


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.select.run._with_reasons", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, [random_faces(1, [6, 6])], 0.5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embeddings"]


def test_dropped_faces_lie_beside_the_subset(tmp_path):
    assert dropped_path(tmp_path / "sixty.parquet") == tmp_path / "sixty.dropped.parquet"
