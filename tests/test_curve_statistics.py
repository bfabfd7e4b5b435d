"""What is noise, against the slow obvious answer."""

import numpy as np
import pytest

from facecore.curve.statistics import Interval, over_seeds, paired_difference, student_t

# two-sided 95 %, as printed in any table of Student's t
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize("degrees", TABLE)
def test_students_t(degrees):
    assert student_t(degrees) == pytest.approx(TABLE[degrees], abs=6e-4)


def test_an_interval_over_seeds_by_hand():
    # mean 3, deviations -1, 0, 1: variance 1, error 1 / sqrt(3)
    assert over_seeds(np.array([2.0, 3.0, 4.0])) == pytest.approx((3, 4.30265 / 3**0.5), abs=1e-4)
    assert over_seeds(np.array([0.5])) == (0.5, None)


def test_one_seed_is_a_paired_t_over_folds():
    ours, theirs = np.array([[0.9, 0.8, 0.7, 0.9]]), np.array([[0.8, 0.8, 0.6, 0.7]])
    # differences .1, 0, .1, .2: mean .1, variance .02 / 3
    found = paired_difference(ours, theirs)
    assert found == pytest.approx((0.1, 3.18245 * (0.02 / 3 / 4) ** 0.5), abs=1e-5)
    assert found.is_noise


def test_people_and_seeds_add_up_as_squares():
    seeds = np.array([0.3, 0.1, -0.1])[:, np.newaxis]
    folds = np.array([0.02, 0.0, 0.01, 0.05])[np.newaxis]
    nothing = np.zeros((3, 4))
    assert paired_difference(seeds + nothing, nothing).half == pytest.approx(4.30265 * 0.2 / 3**0.5, abs=1e-5)
    deviation = np.std(folds, ddof=1)
    assert paired_difference(folds + nothing, nothing).half == pytest.approx(3.18245 * deviation / 2, abs=1e-5)
    both = paired_difference(seeds + folds, nothing)
    assert both == pytest.approx((0.12, np.hypot(4.30265 * 0.2 / 3**0.5, 3.18245 * deviation / 2)), abs=1e-5)


def test_what_holds_zero_is_noise():
    assert [Interval(*of).is_noise for of in ((0.1, 0.2), (-0.1, 0.1), (0.0, 0.0), (0.3, None))] == [True] * 4
    assert [Interval(*of).is_noise for of in ((0.3, 0.2), (-0.3, 0.2), (0.1, 0.0))] == [False] * 3


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("of_seeds", "of_folds"), [(0, 0), (0, 0.5), (0.6, 0.6), (2, 0), (50, 50)])
def test_the_truth_is_in_the_interval_as_often_as_said(of_seeds, of_folds, seeds):
    draw, shape = np.random.default_rng(0), (seeds, 10)
    held = 0
    for _ in range(600):
        ours = draw.normal(size=shape) + of_seeds * draw.normal(size=(seeds, 1)) + of_folds * draw.normal(size=(1, 10))
        held += paired_difference(ours, np.zeros(shape)).is_noise
    assert held / 600 > 0.93  # of 600, 95 % are below this once in a hundred times
