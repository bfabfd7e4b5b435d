import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry import faces_at, names_of, random_faces, shard_of, split, write_store
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from facecore.centres import identity_centres, own_cosines
from facecore.embeddings import Embeddings
from facecore.errors import DataError, OptionError
from facecore.grid import LEVELS, STEPS, to_cosines, to_levels
from facecore.manifest import read_manifest
from facecore.select import Nms, dropped_path, faces_to_keep, select
from facecore.select.cutting import RankedCutter
from facecore.select.gram import gram_levels
from facecore.select.greedy import add_profile, keep_greedily
from facecore.select.large import stay, walk
from facecore.select.local import GREEDY, rank_rows
from facecore.select.ranks import RANKS, draws
from facecore.select.selector import KEPT, OVER_MAXIMUM, REASONS, TRIMMED, Limits, Ranked, prepare
from facecore.select.threshold import Target, bracket, find_threshold, threshold_at


def greedy_oracle(levels, level):
    """The rule as one says it: go through the faces, keep one unless it is too near to a kept one."""
    kept = []
    for j in range(len(levels)):
        if all(levels[j, i] <= level for i in kept):
            kept.append(j)
    return kept


def own(shard):
    """Sparsity of the faces of one identity, on the grid."""
    return 1 - to_cosines(to_levels(shard.vectors @ shard.vectors.mean(axis=0, dtype=np.float64)))


def levels_of(shard):
    """The cosines of one identity in rank order, on the grid, computed the slow way."""
    gram = np.array([[float(np.dot(a, b)) for b in shard.vectors] for a in shard.vectors], np.float32)
    order = np.argsort(-own(shard), kind="stable")
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


def nms_cut(shard, max_cosine, **options):
    """The cut of a shard, with the reasons in words."""
    cut = prepare(Nms(**options), None).cut(shard, int(to_levels(np.array(max_cosine))))
    return [REASONS[code] for code in cut.fates.reason], cut.fates


def packed(levels):
    """The lower triangle of a matrix, row by row."""
    return levels[np.tril_indices(len(levels), -1)]


def profile_of(levels, least, most, lowest=0, highest=LEVELS - 1):
    change, pairs = np.zeros(LEVELS, np.int64), np.empty((2, levels.size), np.int64)
    add_profile(packed(levels), len(levels), least, most, lowest, highest, pairs[0], pairs[1], change)
    return np.cumsum(change)


def kept_at(levels, level):
    kept = np.empty(len(levels), np.bool_)
    keep_greedily(packed(levels), level, kept)
    return np.flatnonzero(kept).tolist()


def test_the_near_twin_goes_and_names_its_rival():
    reasons, fates = nms_cut(faces_at(0, 1, 90), 0.9)
    assert reasons == ["", "near-duplicate", ""]
    assert fates.rival.tolist() == [-1, 0, -1]
    assert to_cosines(fates.rival_level)[1] == pytest.approx(np.cos(np.radians(1)), abs=1 / STEPS)


def test_sparsity_is_the_mean_distance_to_the_whole_identity():
    _, fates = nms_cut(faces_at(0, 90, 180), 1)
    assert fates.sparsity == pytest.approx([1 - 1 / 3 * (1 + 0 - 1), 1 - 1 / 3, 1], abs=1e-4)


def test_central_is_the_reverse_of_identity():
    shard = faces_at(0, 5, 10, 60)
    assert nms_cut(shard, 1, rank="central")[1].sparsity == pytest.approx(1 - nms_cut(shard, 1)[1].sparsity)
    assert nms_cut(shard, 0.9, rank="central")[0] == ["near-duplicate", "near-duplicate", "", ""]


def test_random_draws_depend_on_seed_and_row_alone():
    assert draws(1, 5, 3).tolist() == draws(1, 0, 8)[5:].tolist()
    assert not set(draws(1, 0, 100)) & set(draws(2, 0, 100))
    assert (np.histogram(draws(0, 0, 100_000), 10, (0, 1))[0] / 1e4) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("whole", [True, False])
def test_twin_is_the_cosine_to_the_nearest_other_face(whole, request):
    if not whole:
        request.getfixturevalue("small_blocks")
    for shard in split(random_faces(0, [1, 2, 9, 30]), [1, 2, 3]):
        found = prepare(Nms(rank="twin"), None).rank(shard).sparsity
        cosines = shard.vectors.astype(np.float64) @ shard.vectors.T
        np.fill_diagonal(cosines, -1)
        assert found == pytest.approx(cosines.max(axis=1), abs=1 / STEPS)


def test_twin_keeps_one_of_a_pair_where_the_sparsest_loses_both():
    for rank, kept in (("identity", [3]), ("twin", [0])):
        fates = nms_cut(faces_at(0, 1, 12, 18), 0.8, rank=rank)[1]
        assert np.flatnonzero(fates.reason == 0).tolist() == kept


def slow_sparsity(store, rank, neighbours):
    """1 - the mean cosine of every face to the nearest other centres: its own nearest, or its identity's."""
    centres = identity_centres(store).astype(np.float64)
    found = []
    for shard in store:
        for number, (begin, end) in enumerate(itertools.pairwise(shard.starts.tolist())):
            own = number + shard.first_identity
            others = np.delete(centres, own, axis=0)
            near = np.argsort(-(others @ centres[own]), kind="stable")[:neighbours]
            for face in shard.vectors[begin:end].astype(np.float64):
                if rank == "dataset":
                    found.append(1 - np.sort(others @ face)[::-1][:neighbours].mean())
                else:
                    found.append(1 - (others[near] @ face).mean())
    return found


@pytest.mark.parametrize("neighbours", [1, 3, 100])
@pytest.mark.parametrize("search", ["auto", "exact", "torch"])
@pytest.mark.parametrize("rank", ["dataset", "confusable"])
def test_ranks_by_other_identities_against_all_pairs(rank, search, neighbours, tmp_path):
    store = Embeddings.open(write_store(tmp_path / "store", split(random_faces(0, [5, 1, 9, 2, 7, 3]), [2, 4])))
    cutter = prepare(Nms(rank=rank, search=search, neighbours=neighbours), store, threads=2)
    found = np.concatenate([cutter.rank(shard).sparsity for shard in store])
    assert found == pytest.approx(slow_sparsity(store, rank, neighbours), abs=4e-4)  # centres are halves
    assert cutter.facts()["search"]["recall"] == 1


@pytest.mark.parametrize("rank", ["dataset", "confusable"])
def test_without_other_identities_all_faces_are_equally_sparse(rank, tmp_path):
    store = Embeddings.open(write_store(tmp_path / "store", [faces_at(0, 30, 90)]))
    cutter = prepare(Nms(rank=rank), store)
    assert [cutter.rank(shard).sparsity.tolist() for shard in store] == [[1, 1, 1]]


def test_how_the_search_went_is_in_the_manifest(tmp_path):
    run(tmp_path, [random_faces(0, [5, 4])], 0.5, Nms(rank="confusable"))
    assert read_manifest(tmp_path / "subset.parquet")[1].facts["search"] == {"how": "exact", "recall": 1.0}


def test_ranks_ties_by_face_id():
    reasons, fates = nms_cut(faces_at(10, 10, 10), 0.9999)
    assert reasons == ["", "near-duplicate", "near-duplicate"]
    assert fates.rival.tolist() == [-1, 0, 0]


def test_suppression_cosine_is_the_largest_to_a_better_face():
    # sparsity: 90 is furthest, then 0, then 1
    suppression = to_cosines(nms_cut(faces_at(0, 1, 90), -1)[1].suppression)
    assert suppression == pytest.approx([0, np.cos(np.radians(1)), -1], abs=1 / STEPS)


def test_nested_lets_the_dropped_suppress():
    # in rank order 0, 30, 60 degrees: greedy keeps 60, for 30 is gone; nested does not
    shard, order = faces_at(0, 30, 60), [2, 1, 0]
    cosine = np.cos(np.radians(40))
    sparsity = np.array(order, np.float32)
    for nested, reasons in ((False, ["", "near-duplicate", ""]), (True, ["", "near-duplicate", "outranked"])):
        cutter = prepare(Nms(nested=nested), None)
        cutter = dataclasses.replace(cutter, rank=lambda _: Ranked(sparsity))
        cut = cutter.cut(shard, int(to_levels(np.array(cosine))))
        assert [REASONS[code] for code in cut.fates.reason] == reasons


@pytest.mark.parametrize("sizes", [[1], [2, 5], [17, 3, 1, 40]])
def test_the_gram_is_that_of_numpy(sizes):
    shard = random_faces(0, sizes, dimension=48)
    for begin, end in itertools.pairwise(shard.starts.tolist()):
        rows = np.random.default_rng(0).permutation(np.arange(begin, end))
        pairs = len(rows) * (len(rows) - 1) // 2
        levels = np.empty(pairs, np.uint16)
        gram_levels(shard.vectors, rows, np.empty(pairs, np.float32), levels)
        exact = shard.vectors[rows].astype(np.float64) @ shard.vectors[rows].T.astype(np.float64)
        assert levels.tolist() == packed(to_levels(exact)).tolist()


def test_own_cosines_are_to_the_mean_and_to_the_others():
    shard = random_faces(0, [1, 2, 7])
    to_mean, to_others = own_cosines(shard.vectors, shard.starts)
    for begin, end in itertools.pairwise(shard.starts.tolist()):
        faces = shard.vectors[begin:end].astype(np.float64)
        for row, face in enumerate(faces):
            others = np.delete(faces, row, axis=0).sum(axis=0)
            alone = len(faces) == 1
            assert to_mean[begin + row] == pytest.approx(face @ faces.mean(axis=0), abs=1e-6)
            expected = 1 if alone else face @ others / np.linalg.norm(others)
            assert to_others[begin + row] == pytest.approx(expected, abs=1e-5)


def test_rows_are_ranked_inside_identities_and_the_far_come_last():
    sparsity = np.array([0.1, 0.3, 0.3, 0.2, 0.5, 0.4], np.float32)
    far = np.array([0, 0, 0, 0, 1, 0], np.bool_)
    assert rank_rows(sparsity, np.array([0, 4, 6]), far).tolist() == [1, 2, 3, 0, 5, 4]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(0, 3), st.integers(1, 14))
def test_the_profile_counts_what_greedy_keeps_at_every_level(seed, size, least, most):
    least, most = min(least, size), max(min(most, size), min(least, size))
    levels = levels_of(random_faces(seed, [size], dimension=3))
    profile = profile_of(levels, least, most)
    values = {int(v) for v in packed(levels)}
    for level in sorted({0, LEVELS - 1} | values | {max(v - 1, 0) for v in values}):
        oracle = greedy_oracle(levels, level)
        assert kept_at(levels, level) == oracle
        assert profile[level] == min(max(len(oracle), least), most)
    low, high = sorted(np.random.default_rng(seed).integers(0, LEVELS, 2).tolist())
    assert profile_of(levels, least, most, low, high)[low : high + 1].tolist() == profile[low : high + 1].tolist()
    between = np.flatnonzero(np.diff(profile))
    assert {int(v) + 1 for v in between} <= values, "the count changes only where a pair's cosine lies"


def test_the_greedy_count_is_not_monotone_and_the_profile_knows():
    # b is nearest to a; once b stays, it suppresses c and d, which lie around it
    levels = to_levels(np.array([[1, 0.9, 0, 0], [0.9, 1, 0.95, 0.95], [0, 0.95, 1, 0], [0, 0.95, 0, 1]], np.float32))
    profile = profile_of(levels, 1, 4)
    assert profile[to_levels(np.array([0.5, 0.89, 0.91, 0.96], np.float32))].tolist() == [3, 3, 2, 4]
    assert find_threshold(lambda *_: (np.diff(profile, prepend=0), True), Target(0.75, 4)).max_cosine == 0


@pytest.mark.parametrize("keep", [0.3, 0.45, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("levels", [(0, 0), (100, 200), (20_000, 30_000), (32_700, LEVELS - 1)])
def test_a_bracket_changes_the_work_and_not_the_threshold(keep, levels, tmp_path, monkeypatch):
    faces = random_faces(3, [5, 1, 9, 2, 30, 8])
    first, *_ = run(tmp_path / "without", split(faces, range(1, 6)), keep)
    monkeypatch.setattr("facecore.select.run.SAMPLED_FROM", 0)
    monkeypatch.setattr("facecore.select.run.SAMPLE", 2)
    monkeypatch.setattr("facecore.select.run.bracket", lambda *_: levels)
    assert run(tmp_path / "with", split(faces, range(1, 6)), keep)[0] == first


def test_the_sample_is_of_the_same_identities_however_the_store_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.select.run.SAMPLED_FROM", 0)
    monkeypatch.setattr("facecore.select.run.SAMPLE", 2)
    monkeypatch.setattr("facecore.select.run.PIECE_ROWS", 20)
    samples = []
    monkeypatch.setattr("facecore.select.run.bracket", lambda sample, _: samples.append(sample) or (0, LEVELS - 1))
    faces = random_faces(3, [5, 1, 9, 2, 30, 8])  # about 20 faces are two identities: those from 0 and from 3 on
    for number, cuts in enumerate([[], [1], [2, 4], range(1, 6)]):
        run(tmp_path / str(number), split(faces, cuts), 0.5)
    assert samples[0].sum() == 5 + 1 + 2 + 30
    assert all(np.array_equal(sample, samples[0]) for sample in samples)


def test_a_sample_is_bracketed_by_three_hundredths_of_the_faces():
    sample = np.zeros(LEVELS, np.int64)
    sample[1000:2000] = 1
    assert bracket(sample, 0.6) == (1568, 1629)
    assert bracket(sample, 0.99) == (1958, 1999)
    assert bracket(sample, 0.02) == (0, 1049)


@pytest.mark.parametrize("blocks", [None, "small_blocks"])
def test_who_is_suppressed_by_dropped_faces_goes_for_their_reason(blocks, request):
    if blocks:
        request.getfixturevalue(blocks)
    faces = faces_at(0, 60, 120, 65, 125, 90)  # ranked in this order; up to two stay, and 60 is one too many
    cutter = RankedCutter(GREEDY, lambda shard: Ranked(np.linspace(1, 0, 6, dtype=np.float32)), Limits(1, 0, 2))
    level = int(to_levels(np.cos(np.radians(35))))
    cut = cutter.cut(faces, level, np.array([False, True, False, False, False, False]))
    assert cut.fates.reason.tolist() == [KEPT, TRIMMED, OVER_MAXIMUM, TRIMMED, OVER_MAXIMUM, TRIMMED]


# Identities too large for a matrix of all pairs


@pytest.fixture
def small_blocks(monkeypatch):
    """Take every identity of more than 4 faces for a large one, in blocks of 3 x 6."""
    monkeypatch.setattr("facecore.select.cutting.WHOLE_ROWS", 4)
    monkeypatch.setattr("facecore.select.large.WHOLE_ROWS", 4)
    monkeypatch.setattr("facecore.select.large._BLOCK", 3)
    monkeypatch.setattr("facecore.select.large._STRIP", 6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_a_walk_at_many_levels_is_greedy_at_each(seed, size):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-4, 5, (size, 4)).astype(np.float32) / 8  # products of eighths are exact in any order
    levels, order = to_levels(vectors @ vectors.T), rng.permutation(size)
    levels = levels[np.ix_(order, order)]
    probes = np.unique(np.append(rng.integers(0, LEVELS, 90), rng.choice(levels.ravel(), 50))).astype(np.int64)
    kept, nearest = walk(vectors, order, probes)
    for bit, level in enumerate(probes):
        assert np.flatnonzero(stay(kept, bit)).tolist() == greedy_oracle(levels, level)
    assert nearest.tolist() == [max(levels[j, :j], default=0) for j in range(size)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nested": True},
        {"max_per_identity": 5},
        {"min_per_identity": 7},
        {"min_share": 0.3},
        {"min_centre_cosine": 0.3},
        {"min_share": 0.5, "min_centre_cosine": 0.6, "max_per_identity": 25},
        {"rank": "random"},
    ],
    ids=str,
)
@pytest.mark.parametrize("max_cosine", [-1, 0.3, 0.8, 1])
def test_a_large_identity_is_cut_as_a_small_one(options, max_cosine, request):
    shard = random_faces(3, [40])
    expected = prepare(Nms(**options), None).cut(shard, int(to_levels(np.array(max_cosine))), np.arange(40) == 7)
    request.getfixturevalue("small_blocks")
    found = prepare(Nms(**options), None).cut(shard, int(to_levels(np.array(max_cosine))), np.arange(40) == 7)
    for name in ("reason", "sparsity", "suppression", "rival", "rival_level"):
        assert getattr(found.fates, name).tolist() == getattr(expected.fates, name).tolist(), name
    assert found.admitted.tolist() == expected.admitted.tolist()
    assert found.spare.tolist() == expected.spare.tolist()


@pytest.mark.parametrize("options", [{}, {"min_share": 0.15}, {"min_share": 0.15, "nested": True}], ids=str)
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.6, 0.77, 1.0])
def test_large_identities_among_small_ones_keep_the_exact_count(keep, options, tmp_path, request):
    faces = random_faces(3, [5, 1, 90, 2, 30])
    first, _, _ = run(tmp_path / "small", [faces], keep, Nms(**options))
    request.getfixturevalue("small_blocks")
    second, kept, dropped = run(tmp_path / "large", split(faces, [1, 2, 3, 4]), keep, Nms(**options))
    assert second == first  # counts rise along this data set, so that the first level to reach the target is found
    assert (len(kept), len(kept) + len(dropped)) == (round(keep * 128), 128)


@pytest.mark.parametrize("nested", [False, True])
def test_the_floor_of_a_large_identity_counts(nested, tmp_path, request):
    alike, apart = np.tile([1.0, 0.0], (20, 1)), faces_at(0, 90, 180, 270).vectors
    faces = shard_of(np.concatenate([alike, apart]), ["a"] * 20 + ["b"] * 4)
    selector = Nms(min_share=0.5, nested=nested)
    first, _, _ = run(tmp_path / "small", [faces], 14 / 24, selector)
    request.getfixturevalue("small_blocks")
    second, kept, _ = run(tmp_path / "large", split(faces, [1]), 14 / 24, selector)
    assert (second, kept.identity.tolist()) == (first, ["p000"] * 10 + ["p001"] * 4)
    assert first.max_cosine == pytest.approx(0, abs=1 / STEPS)


# The promises (those of every selector are in test_selectors.py)


def oracle(path, target, options):
    """The rule in ten lines: the smallest level that keeps `target` faces, and which; less the surplus, worst first."""
    identities = []
    for shard in Embeddings.open(path):
        cutter = prepare(Nms(**options), Embeddings.open(path))
        sparsity = cutter.rank(shard).sparsity
        for begin, end in itertools.pairwise(shard.starts.tolist()):
            order = begin + np.argsort(-sparsity[begin:end], kind="stable")
            packed_levels = np.empty(len(order) * (len(order) - 1) // 2, np.uint16)
            gram_levels(shard.vectors, order, np.empty(len(packed_levels), np.float32), packed_levels)
            levels = np.zeros((len(order), len(order)), np.uint16)
            levels[np.tril_indices(len(order), -1)] = packed_levels
            identities.append((order + shard.first, sparsity[order], levels))
    rule = nested_oracle if options.get("nested") else greedy_oracle

    def stay(levels, level):
        return filled_up(rule(levels, level), floor_of(len(levels), options))

    found = {level: [stay(levels, level) for *_, levels in identities] for level in candidate_levels(identities)}
    level = min(level for level, kept in found.items() if sum(map(len, kept)) >= target)
    below = max((other for other in found if other < level), default=None)
    return level, *trim(identities, found[level], [] if below is None else found[below], target, options)


def floor_of(size, options):
    return max(1, math.ceil(Fraction(str(options.get("min_share", 0))) * size))


def filled_up(kept, floor):
    """The positions kept, and of the others as many of the first as the floor asks for."""
    rest = (j for j in range(floor) if j not in kept)
    return sorted([*kept, *itertools.islice(rest, max(0, floor - len(kept)))])


def candidate_levels(identities):
    """The count changes only where a pair's cosine lies."""
    return sorted({0, *(int(level) for *_, levels in identities for level in packed(levels))})


def nested_oracle(levels, level):
    return [j for j in range(len(levels)) if all(levels[j, i] <= level for i in range(j))]


def trim(identities, kept, below, target, options):
    """The rows kept, less the worst-ranked of those admitted last while their identity can spare one; and these."""
    rows = {int(order[j]) for (order, *_), chosen in zip(identities, kept, strict=True) for j in chosen}
    last = []
    for number, ((order, sparsity, _), chosen) in enumerate(zip(identities, kept, strict=True)):
        new = [j for j in chosen if not below or j not in below[number]]
        last += [(float(sparsity[j]), -int(order[j]), number) for j in new]
    spare = {
        number: len(chosen) - floor_of(len(order), options)
        for number, ((order, *_), chosen) in enumerate(zip(identities, kept, strict=True))
    }
    trimmed = set()
    for _, row, number in sorted(last):
        if len(rows) - len(trimmed) > target and spare[number]:
            trimmed.add(-row)
            spare[number] -= 1
    return rows - trimmed, trimmed


ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=6)
OPTIONS = st.sampled_from(
    [
        {},
        {"nested": True},
        {"rank": "central"},
        {"rank": "random", "seed": 3},
        {"rank": "dataset"},
        {"rank": "confusable"},
        {"min_share": 0.3},
        {"min_share": 0.5, "nested": True},
    ]
)


def row_of(face_id):
    return int(face_id.split("/")[1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), ROWS, st.floats(0.3, 1), OPTIONS)
def test_the_subset_is_that_of_the_oracle(tmp_path_factory, seed, sizes, keep, options):
    faces = random_faces(seed, sizes, dimension=4)
    target = faces_to_keep(keep, len(faces))
    assume(target >= sum(floor_of(size, options) for size in sizes))
    path = tmp_path_factory.mktemp("oracle")
    selection, kept, dropped = run(path, [faces], keep, Nms(**options))
    level, rows, trimmed = oracle(path / "embeddings", target, options)
    assert selection.max_cosine == to_cosines(np.array(level))
    assert {row_of(face) for face in kept.face_id} == rows
    assert len(rows) == selection.kept == target
    gone = {row_of(face.face_id): face.reason for face in dropped.itertuples()}
    assert {row for row, reason in gone.items() if reason == "trimmed"} >= trimmed
    assert selection.dropped == {reason: int(n) for reason, n in dropped.reason.value_counts().items()}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), ROWS, st.floats(0.3, 1), st.sampled_from([{}, {"rank": "random"}, {"rank": "central"}]))
def test_the_two_guarantees(tmp_path_factory, seed, sizes, keep, options):
    faces = random_faces(seed, sizes, dimension=4)
    assume(faces_to_keep(keep, len(faces)) >= len(sizes))
    selection, kept, dropped = run(tmp_path_factory.mktemp("guarantees"), [faces], keep, Nms(**options))
    vectors = dict(zip(names_of(faces)["face_id"].to_pylist(), stored(faces.vectors), strict=True))
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


# The limits


def test_a_cosine_instead_of_a_fraction(tmp_path):
    store = write_store(tmp_path / "store", [faces_at(0, 10, 40, 90)])
    for max_cosine, kept in ((0.99, 4), (0.98, 3), (0.5, 2), (-1, 1), (1, 4)):
        out = tmp_path / "out.parquet"
        done = select(store, Nms(), max_cosine=max_cosine, out=out, overwrite=True)
        assert (done.kept, done.max_cosine) == (kept, pytest.approx(max_cosine, abs=1 / STEPS))
        assert done.max_cosine <= max_cosine
        assert read_manifest(out)[1].options["max_cosine"] == max_cosine


def test_a_fraction_and_a_cosine_exclude_each_other(tmp_path):
    for given_ in ({}, {"keep": 0.5, "max_cosine": 0.5}):
        with pytest.raises(OptionError) as error:
            select(tmp_path, Nms(), **given_, out=tmp_path / "out.parquet")
        assert str(error.value) == "give --keep, the fraction of faces to keep, or --max-cosine, and not both"
    with pytest.raises(OptionError) as error:
        threshold_at(1.2)
    assert str(error.value) == "max_cosine must be from -1 to 1, got 1.2"


def test_a_maximum_keeps_the_best_ranked(tmp_path):
    # sparsity falls: 90 and 0 degrees are furthest, then 70 and 20, then 45
    store = write_store(tmp_path / "store", [faces_at(0, 20, 45, 70, 90)])
    done = select(store, Nms(max_per_identity=2), max_cosine=0.95, out=tmp_path / "out.parquet")
    kept = pq.read_table(tmp_path / "out.parquet")["face_id"].to_pylist()
    dropped = pq.read_table(tmp_path / "out.dropped.parquet").to_pandas()
    assert kept == ["p000/0000", "p000/0004"]
    assert dropped.reason.tolist() == ["over-maximum"] * 3
    assert dropped.rival.tolist() == ["p000/0000", "p000/0000", "p000/0004"]
    assert done.dropped == {"over-maximum": 3}


def test_keep_above_the_maximum_says_the_largest_that_can(tmp_path):
    with pytest.raises(OptionError) as error:
        run(tmp_path, [random_faces(0, [5, 5])], 0.9, Nms(max_per_identity=3))
    assert str(error.value) == (
        "keep 0.9 asks for 9 of 10 faces, but 6 at most can stay with --max-per-identity; "
        "use --keep 0.6 or less, or other limits"
    )
    with pytest.raises(OptionError) as error:
        run(tmp_path, [random_faces(0, [5, 5])], 0.9, Nms(0, max_per_identity=5, min_centre_cosine=1))
    assert str(error.value) == (
        "keep 0.9 asks for 9 of 10 faces, but 0 at most can stay with --max-per-identity and --min-centre-cosine; "
        "use other limits"
    )


def test_the_guard_drops_faces_far_from_the_others(tmp_path):
    # 180 degrees is a wrong label: without the guard it is the sparsest face, kept with certainty
    faces = faces_at(0, 5, 12, 20, 180)
    _, kept, _ = run(tmp_path / "without", [faces], 0.6)
    assert "p000/0004" in kept.face_id.tolist()
    done, kept, dropped = run(tmp_path / "with", [faces], 0.6, Nms(min_centre_cosine=0.2))
    assert kept.face_id.tolist() == ["p000/0000", "p000/0002", "p000/0003"]
    assert dict(zip(dropped.face_id, dropped.reason, strict=True)) == {
        "p000/0001": "near-duplicate",
        "p000/0004": "far-from-centre",
    }
    assert done.dropped == {"near-duplicate": 1, "far-from-centre": 1}


def test_the_guard_leaves_the_floor(tmp_path):
    # of two faces that agree on nothing each is far from the other: the floor keeps the first
    _, kept, dropped = run(tmp_path, [faces_at(0, 180)], 0.5, Nms(min_centre_cosine=0.2))
    assert (kept.face_id.tolist(), dropped.reason.tolist()) == (["p000/0000"], ["far-from-centre"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rank": "best"}, f"rank is one of {', '.join(RANKS)}; got best"),
        ({"min_per_identity": -1}, "min_per_identity must be 0 or more, got -1"),
        (
            {"min_per_identity": 3, "max_per_identity": 2},
            "max_per_identity must be 1 or more, and at least min_per_identity, 3; got 2",
        ),
        ({"min_share": 1.5}, "min_share is a share of an identity's faces, from 0 to 1; got 1.5"),
        ({"min_share": math.nan}, "min_share is a share of an identity's faces, from 0 to 1; got nan"),
        ({"min_centre_cosine": 2.0}, "min_centre_cosine must be from -1 to 1, got 2"),
        ({"neighbours": 0}, "neighbours must be 1 or more, got 0"),
        (
            {"neighbours": 77},
            "neighbours is of the ranks dataset and confusable, not of identity; leave it out",
        ),
        (
            {"rank": "random", "search": "exact"},
            "search is of the ranks dataset and confusable, not of random; leave it out",
        ),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"seed": 1 << 64}, "seed must be below 2**64, got 18446744073709551616"),
        ({"min_per_identity": 1 << 31}, "min_per_identity must be below 2**31, got 2147483648"),
        ({"max_per_identity": 1 << 70}, "max_per_identity must be below 2**31, got 1180591620717411303424"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options, line):
    with pytest.raises(OptionError) as error:
        Nms(**options)
    assert str(error.value) == line


def test_the_largest_options_that_can_be(tmp_path):
    most = (1 << 31) - 1
    for name in ("max_per_identity", "min_per_identity"):
        run(tmp_path / name, [faces_at(0, 40, 80)], 1.0, Nms(rank="random", seed=(1 << 64) - 1, **{name: most}))


# The floor


def test_a_floor_of_two_brings_back_the_best_dropped_face(tmp_path):
    faces = shard_of(
        np.concatenate([faces_at(0, 1, 2, 3).vectors, faces_at(0, 40, 80, 120).vectors]), ["a"] * 4 + ["b"] * 4
    )
    _, kept, _ = run(tmp_path, [faces], 0.75, Nms(min_per_identity=2))
    assert kept.identity.tolist() == ["p000"] * 2 + ["p001"] * 4


@pytest.mark.parametrize(
    ("share", "size", "floor"),
    [(0.3, 10, 3), (0.07, 100, 7), (0.3, 11, 4), (0.001, 1, 1), (1.0, 7, 7), (1 / 3, 3, 1), (2 / 3, 3, 2), (0, 9, 0)],
)
def test_a_share_is_rounded_up_as_the_decimal_it_is_written_as(share, size, floor):
    assert math.ceil(0.07 * 100) == 8
    assert Limits(min_per_identity=0, min_share=share).floors(np.array([size])).tolist() == [floor]


def test_the_largest_floor_holds_and_a_maximum_comes_first():
    limits = Limits(min_per_identity=2, min_share=0.25, max_per_identity=4)
    assert limits.floors(np.array([1, 2, 7, 9, 16, 17, 500])).tolist() == [1, 2, 2, 3, 4, 4, 4]


def test_a_share_brings_back_the_best_dropped_faces(tmp_path):
    # alike as they are, the first identity would keep one face; the second keeps all, as they lie apart
    alike, apart = faces_at(0, 1, 2, 3, 4, 5, 6, 7), faces_at(0, 90, 180, 270)
    faces = shard_of(np.concatenate([alike.vectors, apart.vectors]), ["a"] * 8 + ["b"] * 4)
    done, kept, _ = run(tmp_path / "without", [faces], 5 / 12)
    assert kept.identity.tolist() == ["p000"] + ["p001"] * 4
    _, kept, dropped = run(tmp_path / "with", [faces], 7 / 12, Nms(min_share=0.3))
    assert kept.face_id.tolist() == [
        "p000/0000",
        "p000/0001",
        "p000/0007",
        *[f"p001/{row:04d}" for row in range(8, 12)],
    ]
    assert set(dropped.reason) == {"near-duplicate"}
    cut = select(
        tmp_path / "with" / "embeddings", Nms(min_share=0.3), max_cosine=done.max_cosine, out=tmp_path / "cut.parquet"
    )
    assert (cut.kept, cut.dropped) == (7, {"near-duplicate": 5})


def test_the_guard_spares_a_share(tmp_path):
    # of the nine, four agree and five lie opposite each other: of all, 0.6 are 6, so the nearest two of five stay
    faces = faces_at(0, 1, 2, 3, 100, 130, 180, 230, 260)
    _, kept, dropped = run(tmp_path, [faces], 1.0 * 6 / 9, Nms(min_share=0.6, min_centre_cosine=0.8))
    assert len(kept) == 6
    assert dropped.reason.tolist() == ["far-from-centre"] * 3
    assert {"p000/0005", "p000/0006", "p000/0007"} == set(dropped.face_id)


@pytest.mark.parametrize(
    ("keep", "limits", "line"),
    [
        (
            0.3,
            {"min_share": 0.5},
            "keep 0.3 asks for 12 of 40 faces, but every identity keeps at least 1 and 0.5 of its faces, 22 in all; "
            "use --keep 0.55 or more, or --min-share 0.25 or less",
        ),
        (
            0.3,
            {"min_share": 0.5, "min_per_identity": 0},
            "keep 0.3 asks for 12 of 40 faces, but every identity keeps at least 0.5 of its faces, 22 in all; "
            "use --keep 0.55 or more, or --min-share 0.25 or less",
        ),
        (
            0.1,
            {"min_share": 0.5, "min_per_identity": 0},
            "keep 0.1 asks for 4 of 40 faces, but every identity keeps at least 0.5 of its faces, 22 in all; "
            "use --keep 0.55 or more, or --min-share 0",
        ),
        (
            0.1,
            {"min_share": 0.3, "min_per_identity": 2},
            "keep 0.1 asks for 4 of 40 faces, but every identity keeps at least 2 and 0.3 of its faces, 15 in all; "
            "use --keep 0.375 or more, or a lower --min-share and --min-per-identity",
        ),
    ],
    ids=str,
)
def test_keep_below_the_shares_says_which_is_possible(keep, limits, line, tmp_path):
    # of 20, 1, 3, 9 and 7 faces half are 10 + 1 + 2 + 5 + 4, and a quarter 5 + 1 + 1 + 3 + 2
    with pytest.raises(OptionError) as error:
        run(tmp_path, [random_faces(0, [20, 1, 3, 9, 7])], keep, Nms(**limits))
    assert str(error.value) == line


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


@pytest.mark.parametrize(
    ("keep", "faces", "count"),
    [(0.6, 13_233, 7_940), (0.5, 5, 2), (0.5, 7, 4), (0.07, 150, 10), (0.29, 50, 14), (1 / 3, 9, 3), (1, 42, 42)],
)
def test_a_half_goes_to_the_even_number_by_the_decimal_that_is_written(keep, faces, count):
    assert faces_to_keep(keep, faces) == Target(keep, faces).count == count  # as floats, 0.07 x 150 is above 10.5


def test_no_floor_is_named_where_none_would_do(tmp_path):
    with pytest.raises(OptionError) as error:
        run(tmp_path, [random_faces(0, [50, 50])], 0.001)
    assert str(error.value) == (
        "keep 0.001 asks for 0 of 100 faces, but every identity keeps at least 1, 2 in all; use --keep 0.02 or more"
    )


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
    assert made.options == {"keep": 0.5, **dataclasses.asdict(Nms())}
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


def test_what_is_no_manifest_is_never_replaced(tmp_path):
    store = write_store(tmp_path / "store", [faces_at(0, 60)])
    path = tmp_path / "report.json"
    path.write_text("{}")
    with pytest.raises(OptionError) as error:
        select(store, Nms(), keep=1.0, out=path, overwrite=True)
    assert str(error.value) == f"{path} does not end in .parquet, the format of manifests; choose another --out"
    assert path.read_text() == "{}"


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.select.write._reasons", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, [random_faces(1, [6, 6])], 0.5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["embeddings"]


def test_dropped_faces_lie_beside_the_subset(tmp_path):
    assert dropped_path(tmp_path / "sixty.parquet") == tmp_path / "sixty.dropped.parquet"
