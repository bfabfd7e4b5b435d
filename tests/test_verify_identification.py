"""Searching galleries, against one probe at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facecore.verify import identification
from facecore.verify.identification import FPIRS, identify, mean_of


def at(*degrees):
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def slow(cosines, enrolled, subjects):
    """Ranks and rates from cosines (p, g), one probe and one candidate cosine at a time."""
    people = sorted(set(enrolled))
    nearest = [
        {who: max(c for c, e in zip(row, enrolled, strict=True) if e == who) for who in people} for row in cosines
    ]
    mated = [(found, who) for found, who in zip(nearest, subjects, strict=True) if who in people]
    others = [max(found.values()) for found, who in zip(nearest, subjects, strict=True) if who not in people]
    ranks = [1 + sum(found[other] >= found[who] for other in people if other != who) for found, who in mated]
    rank = {k: sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5)} if ranks else {}
    tpir = {}
    for name, fpir in FPIRS.items():
        allowed = len(others) // round(1 / fpir)
        if ranks and allowed:
            # the most that are found above any threshold above which at most `allowed` strangers are
            thresholds = [-2.0, *others]
            good = [t for t in thresholds if sum(c > t for c in others) <= allowed]
            tpir[name] = max(
                sum(r == 1 and found[who] > t for r, (found, who) in zip(ranks, mated, strict=True)) / len(ranks)
                for t in good
            )
    return rank, tpir, len(mated), len(others), len(people)


def test_by_eye():
    # enrolled: 1 at 0 and 40 degrees, 2 at 90. Probes: 1 at 30 (its second template is near), 2 at 60, which is nearer
    # to 1, 2 at 80, and ten strangers, one of them at 88, the others far off
    gallery, enrolled = at(0, 90, 40), np.array([1, 2, 1])
    probes, subjects = at(30, 60, 80, 88, *range(180, 225, 5)), np.array([1, 2, 2, *[9] * 10])
    found = identify(gallery, enrolled, probes, subjects)
    # one stranger of ten may pass: that at 88 degrees; the two first-ranked are above the others
    assert found.to_json() == {
        "rank-1": 2 / 3,
        "rank-5": 1.0,
        "tpir": {"0.1": 2 / 3},
        "mated": 3,
        "non_mated": 10,
        "enrolled": 2,
    }


def test_a_tie_counts_against_the_probe():
    found = identify(at(0, 0), np.array([1, 2]), at(10), np.array([1]))
    assert found.rank == {1: 0.0, 5: 1.0}


def test_strangers_only():
    found = identify(at(0), np.array([1]), at(10, 20), np.array([2, 3]))
    assert (found.rank, found.tpir, found.mated, found.non_mated) == ({}, {}, 0, 2)


# coordinates of halves and quarters: their products are exact in any order, so that the two agree bit for bit
VECTOR = st.tuples(*[st.integers(-2, 2).map(lambda half: half / 2)] * 3)
GALLERY = st.lists(st.tuples(VECTOR, st.integers(1, 5)), min_size=1, max_size=8)
PROBES = st.lists(st.tuples(VECTOR, st.integers(1, 9)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=200)
@given(GALLERY, PROBES, st.integers(1, 50))
def test_agrees_with_one_probe_at_a_time(gallery, probes, at_once):
    vectors, enrolled = (np.array(column) for column in zip(*gallery, strict=True))
    sought, subjects = (np.array(column) for column in zip(*probes, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identification, "PROBES_AT_ONCE", at_once)
        found = identify(vectors.astype(np.float32), enrolled, sought.astype(np.float32), subjects)
    expected = slow((sought @ vectors.T).tolist(), enrolled.tolist(), subjects.tolist())
    assert (found.rank, found.tpir, found.mated, found.non_mated, found.enrolled) == (
        pytest.approx(expected[0]),
        pytest.approx(expected[1]),
        *expected[2:],
    )


def test_many_strangers():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 8))
    enrolled, subjects = np.repeat(np.arange(20), 2), rng.integers(0, 30, 900)
    vectors, sought = (people[who] + 0.9 * rng.normal(size=(len(who), 8)) for who in (enrolled, subjects))
    vectors, sought = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in (vectors, sought)
    )
    found = identify(vectors, enrolled, sought, subjects)
    expected = slow((sought @ vectors.T).tolist(), enrolled.tolist(), subjects.tolist())
    assert (found.rank, found.tpir) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert 0 < found.tpir["0.01"] < found.tpir["0.1"] < found.rank[1] < found.rank[5] < 1


def test_the_mean_over_galleries():
    one = identify(at(0, 90), np.array([1, 2]), at(10, 60), np.array([1, 1]))
    two = identify(at(0), np.array([3]), at(10, 60), np.array([3, 1]))
    assert (one.rank, two.rank) == ({1: 0.5, 5: 1.0}, {1: 1.0, 5: 1.0})
    mean = mean_of([one, two])
    assert (mean.rank, mean.tpir, mean.mated, mean.non_mated, mean.enrolled) == ({1: 0.75, 5: 1.0}, {}, 3, 1, 3)
