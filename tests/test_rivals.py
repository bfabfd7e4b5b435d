"""Every rival against the slow obvious answer: its order written down, and the first faces of it counted off."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry import faces_at, random_faces, shard_of, split, write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore.embeddings import Embeddings, Shard
from facecore.errors import DataError, OptionError
from facecore.grid import LEVELS, STEPS, to_levels
from facecore.select import SELECTORS, faces_to_keep, facility_location, select
from facecore.select.diffprob import DiffProb
from facecore.select.facility_location import FacilityLocation
from facecore.select.herding import Herding
from facecore.select.kcenter import KCenter
from facecore.select.ranks import draws
from facecore.select.rivals import level_of, places, share_levels
from facecore.select.selector import prepare
from facecore.select.semdedup import SemDeDup

SIZES = [7, 1, 24, 3, 12, 2, 40]


def stored(path, shard, **columns):
    """The faces as a store gives them back, and the store."""
    store = Embeddings.open(write_store(path / "embeddings", [shard], **columns))
    return store.shard(0), store


def kept_rows(store, selector, keep):
    """Which rows of the store stay."""
    out = store.path.parent / "subset.parquet"
    select(store.path, selector, keep=keep, out=out, overwrite=True)
    kept = set(pq.read_table(out)["face_id"].to_pylist())
    names = [name for number in range(len(store)) for name in store.faces(number)["face_id"].to_pylist()]
    return [row for row, name in enumerate(names) if name in kept]


def counted_off(shard, key, keep, least, share=0.0):
    """The first round(keep * n) rows by a key, a tie to the earlier, the floor of every identity before all others."""
    order = sorted(range(len(shard)), key=lambda row: (key[row], row))
    whose = np.searchsorted(shard.starts, np.arange(len(shard)), "right")
    forced = [row for who in np.unique(whose) for row in own_floor([r for r in order if whose[r] == who], least, share)]
    others = [row for row in order if row not in set(forced)]
    return sorted(forced + others[: faces_to_keep(keep, len(shard)) - len(forced)])


def own_floor(rows, least, share):
    return rows[: max(least, math.ceil(round(share * len(rows), 6)))]


def identities(shard):
    """The rows of each identity, and the levels of all pairs of the whole shard."""
    levels = to_levels(np.array([[np.dot(a, b) for b in shard.vectors] for a in shard.vectors]))
    return [range(a, b) for a, b in zip(shard.starts[:-1], shard.starts[1:], strict=True)], levels.astype(int)


def central(shard, rows):
    """The level of f . mu for the rows of one identity."""
    return dict(zip(rows, to_levels(shard.vectors[rows] @ shard.vectors[rows].mean(axis=0)).astype(int), strict=True))


# The orders, said slowly; smaller is kept sooner


def by_centre(shard, sign):
    people, _ = identities(shard)
    return {row: sign * level for rows in people for row, level in central(shard, rows).items()}


def by_farthest_first(shard):
    people, levels = identities(shard)
    key = {}
    for rows in people:
        middle = central(shard, rows)
        first = max(rows, key=lambda row: (middle[row], -row))
        key[first], taken = 0, [first]
        while left := [row for row in rows if row not in taken]:
            nearest = {row: max(levels[row, other] for other in taken) for row in left}
            taken.append(min(left, key=lambda row: (nearest[row], row)))
            key[taken[-1]] = nearest[taken[-1]]
    return key


def by_herding(shard):
    people, levels = identities(shard)
    key = {}
    for rows in people:
        middle, taken = central(shard, rows), []
        while left := [row for row in rows if row not in taken]:
            match = {
                row: (len(taken) + 1) * (middle[row] - STEPS) - sum(levels[row, other] - STEPS for other in taken)
                for row in left
            }
            taken.append(max(left, key=lambda row: (match[row], -row)))
        key |= {row: (place + 0.5) / len(rows) for place, row in enumerate(taken)}
    return key


def by_gain(shard):
    people, levels = identities(shard)
    cover = np.maximum(levels, STEPS) - STEPS
    np.fill_diagonal(cover, STEPS)
    key = {}
    for rows in people:
        best, left = np.zeros(len(rows), int), list(rows)
        while left:
            gain = {row: np.maximum(cover[row, rows] - best, 0).sum() for row in left}
            taken = max(left, key=lambda row: (gain[row], -row))
            key[taken] = -gain[taken]
            best = np.maximum(best, cover[taken, rows])
            left.remove(taken)
    return key


def by_draw(shard):
    return dict(enumerate(draws(0, 0, len(shard))))


ORDERS = {
    "random": by_draw,
    "central": lambda shard: by_centre(shard, -1),
    "sparse": lambda shard: by_centre(shard, 1),
    "kcenter": by_farthest_first,
    "herding": by_herding,
    "facility-location": by_gain,
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize(
    ("seed", "keep", "least", "share"),
    [(0, 0.6, 1, 0), (1, 0.3, 0, 0), (2, 0.8, 4, 0), (3, 0.5, 2, 0.4), (4, 0.3, 0, 0.2)],
)
def test_the_first_faces_of_the_order_stay(name, seed, keep, least, share, tmp_path):
    shard, store = stored(tmp_path, random_faces(seed, SIZES))
    wanted = counted_off(shard, ORDERS[name](shard), keep, least, share)
    assert kept_rows(store, SELECTORS[name](min_per_identity=least, min_share=share), keep) == wanted


# Chance


def test_the_same_fraction_of_every_identity(tmp_path):
    shard, store = stored(tmp_path, random_faces(0, [10, 20, 5, 30]))
    assert whose_stay(shard, store, "random-per-identity", 0.6) == [6, 12, 3, 18]
    assert whose_stay(shard, store, "herding", 0.6) == [6, 12, 3, 18]


def whose_stay(shard, store, name, keep):
    rows = kept_rows(store, SELECTORS[name](), keep)
    return np.bincount(np.searchsorted(shard.starts, rows, "right") - 1, minlength=shard.identities).tolist()


def test_inside_an_identity_the_lowest_draws_stay(tmp_path):
    _, store = stored(tmp_path, random_faces(0, [20, 20]))
    drawn = draws(0, 0, 40).reshape(2, 20)
    lowest = sorted([*np.argsort(drawn[0])[:8], *(20 + np.argsort(drawn[1])[:8])])
    assert kept_rows(store, SELECTORS["random-per-identity"](), 0.4) == lowest


def test_all_of_an_identity_or_nothing(tmp_path):
    sizes = [4, 9, 1, 7, 6, 3, 10, 2]
    shard, store = stored(tmp_path, random_faces(0, sizes))
    stay = whose_stay(shard, store, "random-identities", 0.5)
    order = np.argsort(draws(0, 0, len(sizes)))
    left = 21
    for who in order:
        assert stay[who] == min(sizes[who], left)
        left -= stay[who]


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.62, 0.8, 0.99])
def test_the_largest_identities_stay_and_of_equals_who_drew_lowest(keep, tmp_path):
    sizes = [4, 1, 9, 1, 7, 4, 3, 1, 40, 2, 1, 4, 100, 101]
    shard, store = stored(tmp_path, random_faces(0, sizes))
    drawn, left = draws(0, 0, len(sizes)), faces_to_keep(keep, sum(sizes))
    stay = whose_stay(shard, store, "largest-identities", keep)
    for who in sorted(range(len(sizes)), key=lambda who: (-sizes[who], drawn[who])):
        assert stay[who] == min(sizes[who], left)
        left -= stay[who]


def test_of_many_of_one_size_all_but_one_are_whole(tmp_path):
    """Two hundred of thirty faces have 35 levels of the threshold between them: the count is exact by their draws."""
    shard, store = stored(tmp_path, random_faces(0, [30] * 200))
    stay = np.array(whose_stay(shard, store, "largest-identities", 0.503))
    order = np.argsort(draws(0, 0, 200), kind="stable")
    assert stay[order].tolist() == [30] * 100 + [18] + [0] * 99


@pytest.mark.parametrize("name", ["random", "random-per-identity", "random-identities", "largest-identities"])
def test_another_seed_draws_other_faces(name, tmp_path):
    _, store = stored(tmp_path, random_faces(0, [20] * 8))
    assert kept_rows(store, SELECTORS[name](seed=1), 0.5) != kept_rows(store, SELECTORS[name](), 0.5)


@pytest.mark.parametrize(
    "name", ["random", "random-per-identity", "random-identities", "largest-identities", "semdedup"]
)
def test_a_seed_below_zero(name):
    with pytest.raises(OptionError) as error:
        SELECTORS[name](seed=-1)
    assert str(error.value) == "seed must be 0 or more, got -1"


# Orders one can check by eye


def rank_of(selector, shard):
    return prepare(selector, None).rank(shard)


def test_farthest_first_goes_from_the_middle_to_the_ends():
    ranked = rank_of(KCenter(), faces_at(0, 10, 50, 60, 120))
    assert np.argsort(ranked.values, kind="stable").tolist() == [2, 4, 0, 1, 3]  # 50; 120; 0; 10 and 60 tie
    cosines = np.cos(np.radians([70, 50, 10, 10]))
    assert ranked.values[[4, 0, 1, 3]].tolist() == pytest.approx(to_levels(cosines).tolist(), abs=1)


def test_who_goes_is_near_to_a_center(tmp_path):
    _, store = stored(tmp_path, random_faces(0, SIZES))
    done = select(store.path, KCenter(), keep=0.5, out=tmp_path / "subset.parquet")
    cosines = pq.read_table(tmp_path / "subset.dropped.parquet")["cosine"].to_numpy()
    assert cosines.min() >= done.max_cosine


def test_herding_balances_the_two_sides():
    ranked = rank_of(Herding(), faces_at(-40, -20, 0, 20, 40))
    order = np.argsort(ranked.values, kind="stable").tolist()
    assert order[0] == 2
    assert sorted(order[1:3]) in ([0, 4], [1, 3])


def test_one_of_two_twins_covers_both_before_the_second_is_taken():
    ranked = rank_of(FacilityLocation(), faces_at(0, 0, 90, 90, 180))
    assert np.argsort(ranked.values, kind="stable").tolist() == [0, 2, 4, 1, 3]
    assert ranked.sparsity.tolist() == pytest.approx([2, 0, 2, 0, 1], abs=1e-3)  # 0 and 180 do not cover each other
    assert ranked.values[[0, 4, 1]].tolist() == to_levels(np.array([-1 / 3, 0, 1])).tolist()


def test_a_large_identity_is_covered_as_a_small_one_is(monkeypatch):
    monkeypatch.setattr(facility_location, "_HELD", 7)
    monkeypatch.setattr(facility_location, "_STRIP", 10)
    shard = random_faces(9, [90])
    whole = rank_of(FacilityLocation(), shard)
    monkeypatch.setattr(facility_location, "is_large", lambda faces, identities: True)
    in_parts = rank_of(FacilityLocation(), shard)
    assert in_parts.values.tolist() == pytest.approx(whole.values.tolist(), abs=1)
    assert in_parts.sparsity == pytest.approx(whole.sparsity, abs=1e-3)


def test_the_level_of_two_rows_is_that_of_the_grid():
    vectors = random_faces(0, [30], dimension=19).vectors
    own = [[level_of(vectors, a, b) for b in range(30)] for a in range(30)]
    assert np.abs(np.array(own) - to_levels(vectors @ vectors.T)).max() <= 1


def test_places_are_shares_of_the_identity():
    shares = places(np.array([0, 2, 3, 7]), np.array([1, 0, 2, 4, 6, 3, 5]))
    assert shares.tolist() == [0.75, 0.25, 0.5, 0.625, 0.125, 0.875, 0.375]
    assert share_levels(np.array([0, 0.5, 1])).tolist() == [0, STEPS, LEVELS - 1]


# SemDeDup


def test_in_one_cell_the_nearest_face_farther_from_the_centroid_decides(tmp_path):
    shard, store = stored(tmp_path, random_faces(3, [7, 1, 24, 3, 12]))  # so few are all drawn for the centroid
    mean = shard.vectors.mean(axis=0)
    centroid = (mean / np.linalg.norm(mean)).astype(np.float16).astype(np.float32)
    outside_in = sorted(range(len(shard)), key=lambda row: (to_levels(shard.vectors[row] @ centroid), row))
    _, levels = identities(shard)
    key = {row: max((levels[row, other] for other in outside_in[:at]), default=0) for at, row in enumerate(outside_in)}
    wanted = counted_off(shard, key, 0.5, 0)
    assert kept_rows(store, SemDeDup(cells=1, min_per_identity=0), 0.5) == wanted


def test_cells_cut_across_identities_and_compare_nothing_beyond_them(tmp_path):
    angles = np.radians([0, 1, 44, 90, 91, 46])  # the cells are 0 to 44 and 46 to 91; 44 and 46 lie in different ones
    store = stored(tmp_path, shard_of(np.stack([np.cos(angles), np.sin(angles)], 1), "aabbbb"))[1]
    assert kept_rows(store, SemDeDup(cells=2, min_per_identity=0), 4 / 6) == [0, 2, 4, 5]
    assert kept_rows(store, SemDeDup(cells=1, min_per_identity=0), 1 / 6) == [4]


def test_vectors_are_gathered_from_many_shards(tmp_path):
    faces = random_faces(3, SIZES)
    one = stored(tmp_path / "one", faces)[1]
    many = Embeddings.open(write_store(tmp_path / "many" / "embeddings", split(faces, [1, 2, 5])))
    assert kept_rows(one, SemDeDup(cells=5), 0.6) == kept_rows(many, SemDeDup(cells=5), 0.6)


def test_more_cells_than_faces_are_no_error(tmp_path):
    store = stored(tmp_path, faces_at(0, 30, 60))[1]
    assert len(kept_rows(store, SemDeDup(cells=50), 0.6)) == 2


def test_no_cells():
    with pytest.raises(OptionError) as error:
        SemDeDup(cells=0)
    assert str(error.value) == "cells must be 1 or more, got 0"


# DiffProb


def walk(probabilities, t):
    """The paper's rule: which faces stay, most probable first."""
    kept = []
    for at in sorted(range(len(probabilities)), key=lambda at: (-probabilities[at], at)):
        if not kept or probabilities[kept[-1]] - probabilities[at] > t:
            kept.append(at)
    return kept


def t_at(level):
    return -1 if level == LEVELS - 1 else (1 - level / (LEVELS - 2)) ** 3


def cutter_over(tmp_path, probabilities, starts, **options):
    rows = np.tile([1.0, 0.0], (len(probabilities), 1))
    shard = Shard(rows.astype(np.float32), np.array(starts))
    store = Embeddings.open(write_store(tmp_path, [shard], probability=np.array(probabilities, np.float32)))
    return prepare(DiffProb(**options), store), shard


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0, 0.1, 0.3, 0.5, 0.50001, 0.9, 0.99, 0.999, 1]), max_size=14),
    st.integers(0, 6),
    st.sampled_from([0, 0.3]),
)
def test_the_walk_at_every_level(tmp_path_factory, drawn, floor, share):
    own = [float(np.float32(p)) for p in [0.2, *drawn]]
    limits = {"min_per_identity": floor, "min_share": share}
    cutter, shard = cutter_over(tmp_path_factory.mktemp("walk"), own, [0, len(own)], **limits)
    floor = len(own_floor(own, floor, share))
    counts = np.cumsum(cutter.profile(shard))
    changes = np.flatnonzero(np.diff(counts)) + 1
    for level in {0, 1, LEVELS - 2, LEVELS - 1, *changes.tolist(), *(changes - 1).tolist()}:
        lowered = (walk(own, t_at(at)) for at in range(level, LEVELS))
        wanted = next(kept for kept in lowered if len(kept) >= min(floor, len(own)))
        assert counts[level] == len(wanted)
        assert np.flatnonzero(cutter.cut(shard, level).fates.reason == 0).tolist() == sorted(wanted)
    between = [level for level in range(0, LEVELS, 1009) if len(walk(own, t_at(level))) >= floor]
    assert [counts[level] for level in between] == [len(walk(own, t_at(level))) for level in between]


def test_of_faces_equally_sure_one_stays(tmp_path):
    probabilities = [0.9, 0.89, 0.7, 0.5, 0.49, 0.1]
    _, store = stored(tmp_path, faces_at(*range(6)), probability=probabilities)
    assert kept_rows(store, DiffProb(min_per_identity=1), 4 / 6) == [0, 2, 3, 5]


def test_an_identity_below_its_minimum_lowers_its_own_t(tmp_path):
    own = [0.9, 0.89, 0.5, 0.49, 0.1]
    cutter, shard = cutter_over(tmp_path, own, [0, 5], min_per_identity=3)
    assert np.flatnonzero(cutter.cut(shard, 0).fates.reason == 0).tolist() == [0, 2, 4]


def test_another_column(tmp_path):
    _, store = stored(tmp_path, faces_at(0, 1, 2), sure=[0, 1, 0.99])
    assert kept_rows(store, DiffProb(column="sure", min_per_identity=1), 2 / 3) == [0, 1]


@pytest.mark.parametrize("name", ["probability", "sure"])
def test_a_store_without_probabilities(name, tmp_path):
    _, store = stored(tmp_path, faces_at(0, 1, 2))
    with pytest.raises(DataError) as error:
        kept_rows(store, DiffProb(column=name, min_per_identity=1), 0.5)
    path = store.path / "metadata" / "metadata_00000.parquet"
    assert str(error.value) == (
        f"{path} has no column {name}; facecore embed --head writes the column probability, "
        "or name another that holds probabilities with --column"
    )


@pytest.mark.parametrize(
    ("column", "row"), [([0.5, math.nan, 1], 1), ([0, 1, 7], 2), ([1, -0.1, 0], 1), (["sure", "not", ""], 0)]
)
def test_probabilities_that_are_none(column, row, tmp_path):
    _, store = stored(tmp_path, faces_at(0, 1, 2), probability=column)
    with pytest.raises(DataError) as error:
        kept_rows(store, DiffProb(min_per_identity=1), 0.5)
    path = store.path / "metadata" / "metadata_00000.parquet"
    assert str(error.value) == (
        f"{path}: row {row} of the column probability is no probability, from 0 to 1; name another with --column"
    )
