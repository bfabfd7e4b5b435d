"""The search for nearest points against the slow obvious answer, and its promise to depend on nothing else."""

import logging
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore.errors import OptionError
from facecore.parallel import in_order
from facecore.search import HOW, Index, shortlist


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def at(*degrees):
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def clouds(n, dimension=32, seed=0):
    """Points around fifty centres, not far from each other, as float16."""
    rng = np.random.default_rng(seed)
    centres = 0.6 * rng.normal(size=(50, dimension))
    return unit(centres[rng.integers(50, size=n)] + rng.normal(size=(n, dimension))).astype(np.float16)


def brute(points, queries, k, but=None):
    """Sorted by cosine, then number, in float64."""
    points = unit(np.asarray(points, np.float16).astype(np.float64))
    cosines = np.round(unit(np.asarray(queries, np.float64)) @ points.T, 6)  # to which the loops agree
    if but is not None:
        cosines[np.arange(len(queries)), but] = -np.inf
    numbers = np.argsort(-cosines, axis=1, kind="stable")[:, : min(k, len(points) - (but is not None))]
    return np.take_along_axis(cosines, numbers, 1), numbers


@pytest.mark.parametrize("how", ["auto", "exact", "shortlist", "torch"])
def test_on_a_circle(how):
    index = Index.over(at(0, 10, 90, 180), how=how)
    cosines, numbers = index.nearest(at(4, 100), 3)
    assert numbers.tolist() == [[0, 1, 2], [2, 3, 1]]
    assert cosines == pytest.approx(np.cos(np.radians([[4, 6, 86], [10, 80, 90]])), abs=1e-3)
    cosines, numbers = index.nearest(at(4, 100), 3, but=np.array([1, -1]))
    assert numbers.tolist() == [[0, 2, 3], [2, 3, 1]]
    assert (cosines.dtype, numbers.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("how", ["exact", "torch"])
def test_against_brute_force(how):
    points, own = clouds(9_000), np.arange(0, 9_000, 11)
    index = Index.over(points, how=how)
    assert (index.how, index.recall) == (how, 1.0)
    for but in (None, own):
        cosines, numbers = index.nearest(points[own], 10, but=but)
        wanted, _ = brute(points, points[own], 10, but)
        assert cosines == pytest.approx(wanted, abs=2e-6)
        assert np.all(np.diff(cosines, axis=1) <= 0)
        there = unit(points.astype(np.float64))
        found = np.einsum("qd,qkd->qk", there[own], there[numbers])
        assert cosines == pytest.approx(found, abs=2e-6)
        assert all(len(set(row)) == 10 for row in numbers.tolist())
        assert but is None or not np.any(numbers == own[:, None])


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    k=st.integers(1, 50),
    leave_out=st.booleans(),
)
def test_equal_cosines_go_to_the_lower_number(numbers, k, leave_out):
    """Points drawn from six, so that most have copies."""
    points = at(0, 30, 100, 170, 200, 290)[numbers].astype(np.float16)
    but = np.zeros(2, np.int64) if leave_out else None
    cosines, found = Index.over(points, how="exact").nearest(at(20, 210), k, but=but)
    wanted_cosines, wanted = brute(points, at(20, 210), k, but)
    assert found.tolist() == wanted.tolist()
    assert cosines == pytest.approx(wanted_cosines, abs=2e-6)


def test_copies_in_thousands():
    points = np.repeat(clouds(3), 4_000, axis=0)
    cosines, numbers = Index.over(points, how="exact").nearest(points[[0, 4_000, 8_000]], 5)
    assert numbers.tolist() == [[*range(start, start + 5)] for start in (0, 4_000, 8_000)]
    assert cosines == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("how", ["exact", "shortlist", "torch"])
def test_lengths_do_not_matter_and_zeros_are_far_from_all(how):
    points = np.array([[0, 0], [0.9, 0], [0, -1.1]], np.float32)
    cosines, numbers = Index.over(points, how=how).nearest(np.array([[5, 0], [0, 0]]), 3)
    assert numbers.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert cosines.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_few_points_give_few_answers():
    index = Index.over(at(0, 90))
    assert index.nearest(at(10), 5)[1].tolist() == [[0, 1]]
    assert index.nearest(at(10), 5, but=np.array([0]))[1].tolist() == [[1]]
    assert Index.over(at(0)).nearest(at(10), 5, but=np.array([0]))[0].shape == (1, 0)
    assert Index.over(np.empty((0, 2), np.float16)).nearest(at(10, 20), 5)[1].shape == (2, 0)
    assert index.nearest(np.empty((0, 2), np.float32), 2)[0].shape == (0, 2)


@pytest.fixture
def narrow(monkeypatch):
    """A shortlist that has to choose: few cells are read of those that little data has."""
    monkeypatch.setattr(shortlist, "PROBED", 8)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("dimension", [32, 101, 128])
def test_a_shortlist_finds_most_and_its_cosines_are_exact(dimension):
    points, own = clouds(6_000, dimension), np.arange(0, 6_000, 7)
    index = Index.over(points, how="shortlist")
    cosines, numbers = index.nearest(points[own], 10, but=own)
    wanted, _ = brute(points, points[own], 10, own)
    recall = np.mean(cosines >= wanted[:, -1:] - 2e-6)
    assert index.how == "shortlist"
    assert 0.6 < recall < 0.999  # it does leave something out
    assert index.recall == pytest.approx(recall, abs=0.05)
    there = unit(points.astype(np.float64))
    assert cosines == pytest.approx(np.einsum("qd,qkd->qk", there[own], there[numbers]), abs=2e-6)
    assert np.all(np.diff(cosines, axis=1) <= 0)
    assert not np.any(numbers == own[:, None])


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("how", ["exact", "shortlist"])
def test_an_answer_depends_on_no_other_query_and_on_no_thread(how):
    points = clouds(6_000)
    index = Index.over(points, how=how)
    whole = index.nearest(points[:1_500], 10)
    for size in (1, 13, 600):
        parts = [points[:1_500][start : start + size] for start in range(0, 1_500, size)]
        for threads in (1, 3):
            found = list(in_order(lambda part: index.nearest(part, 10), parts, threads=threads))
            for all_at_once, piecewise in zip(whole, zip(*found, strict=True), strict=True):
                assert np.array_equal(all_at_once, np.concatenate(piecewise))


@pytest.mark.usefixtures("narrow")
def test_the_same_points_make_the_same_shortlist():
    points = clouds(3_000)
    first, again, other = (Index.over(points, how="shortlist", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.nearest(points, 10)[1], again.nearest(points, 10)[1])
    assert first.recall == again.recall
    assert not np.array_equal(first.nearest(points, 10)[1], other.nearest(points, 10)[1])


def test_where_the_cells_hold_too_few_the_search_is_exact(monkeypatch):
    monkeypatch.setattr(shortlist, "PROBED", 1)
    points = clouds(1_000)
    cosines, _ = Index.over(points, how="shortlist").nearest(points[:20], 300)
    assert cosines == pytest.approx(brute(points, points[:20], 300)[0], abs=2e-6)


def test_auto_is_exact_where_that_is_fast_or_nothing_else_is_possible(caplog):
    caplog.set_level(logging.INFO, "facecore")
    assert Index.over(clouds(2_000)).how == "exact"
    assert Index.over(clouds(50_001, 8)).how == "shortlist"
    (measured,) = caplog.messages
    assert measured.startswith("search by shortlist: ")
    assert Index.over(clouds(999), how="shortlist").how == "exact"
    assert Index.over(clouds(2_000, 131), how="shortlist").how == "exact"
    assert caplog.messages[1:] == [
        "exact search: 999 points of 32 dimensions allow no shortlist",
        "exact search: 2000 points of 131 dimensions allow no shortlist",
    ]


def test_how_is_one_of_four_and_a_seed_is_not_negative():
    assert HOW == ("auto", "exact", "shortlist", "torch")
    for options, line in (
        ({"how": "magic"}, "search must be one of auto, exact, shortlist, torch; got magic"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ):
        with pytest.raises(OptionError) as error:
            Index.over(at(0), **options)
        assert str(error.value) == line


def test_torch_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError) as error:
        Index.over(at(0), how="torch")
    assert str(error.value) == "search by torch was asked for, but torch is not installed; install it"
