import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from facecore.errors import DataError, OptionError
from facecore.verify.metrics import check_pairs, roc_of, tar_at_far, ten_fold_accuracy

# few distinct values, so that ties are everywhere
COSINES = st.integers(-4, 4).map(lambda quarter: quarter / 4)
PAIRS = st.lists(st.tuples(COSINES, st.booleans(), st.integers(1, 4)), min_size=2, max_size=30)


def columns(pairs):
    cosines, same, folds = zip(*pairs, strict=True)
    return np.array(cosines, np.float32), np.array(same, bool), np.array(folds, np.int32)


def slow_accuracy(cosines, same, folds):
    """Every candidate on every fold, one pair at a time."""
    chosen, accuracies = [], []
    for fold in sorted(set(folds)):
        others = [(c, s) for c, s, f in zip(cosines, same, folds, strict=True) if f != fold]
        candidates = sorted({c for c, _ in others}, reverse=True)
        candidates.insert(0, math.nextafter(candidates[0], math.inf))
        best = max(candidates, key=lambda t: sum((c >= t) == s for c, s in others))  # the first of equals
        held_out = [(c >= best) == s for c, s, f in zip(cosines, same, folds, strict=True) if f == fold]
        chosen.append(best)
        accuracies.append(sum(held_out) / len(held_out))
    return chosen, accuracies


def slow_tar(cosines, same, tenths):
    """The most genuine pairs accepted at any observed cosine whose false accepts are within tenths / 10."""
    genuine = [c for c, s in zip(cosines, same, strict=True) if s]
    impostors = [c for c, s in zip(cosines, same, strict=True) if not s]
    if tenths * len(impostors) < 10 or not genuine:
        return None
    accepted = [0.0]
    for t in cosines:
        if 10 * sum(c >= t for c in impostors) <= tenths * len(impostors):
            accepted.append(sum(c >= t for c in genuine) / len(genuine))
    return max(accepted)


def test_two_folds_by_eye():
    cosines = np.array([0.9, 0.5, 0.4, 0.1, 0.8, 0.3, 0.45, 0.0])
    same = np.array([True, True, False, False] * 2)
    mean, standard_error, min_cosines, accuracies = ten_fold_accuracy(cosines, same, np.repeat([1, 2], 4))
    # on fold 2 both 0.8 (0.45 and 0.0 out, 0.3 lost) and 0.3 (all but 0.45) make one mistake: the higher is taken
    assert min_cosines.tolist() == [0.8, 0.5]
    assert accuracies.tolist() == [0.75, 0.75]  # 0.5 is lost, then 0.3 is
    assert (mean, standard_error) == (0.75, 0.0)


def test_the_standard_error_is_of_a_sample():
    cosines = np.array([0.9, 0.1, 0.9, 0.1] * 2 + [0.1, 0.9])  # the third fold is the wrong way round
    same = np.array([True, False] * 5)
    mean, standard_error, _, accuracies = ten_fold_accuracy(cosines, same, np.repeat([1, 2, 3], [4, 4, 2]))
    assert accuracies.tolist() == [1.0, 1.0, 0.0]
    assert mean == pytest.approx(2 / 3)
    assert standard_error == pytest.approx(math.sqrt(((1 / 3) ** 2 * 2 + (2 / 3) ** 2) / 2) / math.sqrt(3))


def test_calling_none_the_same_can_be_best():
    same = np.array([True, False, True, False, False])
    found = ten_fold_accuracy(np.array([0.5, 0.7, -0.5, 0.2, 0.3]), same, np.array([1, 1, 2, 2, 2]))
    assert found.min_cosines[0] == np.nextafter(0.3, 1)
    assert found.accuracies[0] == 0.5


@settings(deadline=None, max_examples=300)
@given(PAIRS)
def test_accuracy_agrees_with_the_double_loop(pairs):
    cosines, same, folds = columns(pairs)
    if len(set(folds)) < 2 or same.all() or not same.any():
        return
    found = ten_fold_accuracy(cosines, same, folds)
    chosen, accuracies = slow_accuracy(cosines.tolist(), same.tolist(), folds.tolist())
    assert found.accuracies.tolist() == accuracies
    assert found.mean == pytest.approx(sum(accuracies) / len(accuracies))
    assert found.min_cosines.tolist() == chosen


@settings(deadline=None, max_examples=300)
@given(PAIRS, st.integers(1, 10))
def test_tar_agrees_with_the_double_loop(pairs, tenths):
    cosines, same, _ = columns(pairs)
    assert tar_at_far(cosines, same, tenths / 10) == slow_tar(cosines.tolist(), same.tolist(), tenths)


@pytest.mark.parametrize(("impostors", "admitted"), [(9, None), (10, 1), (19, 1), (20, 2), (30, 3)])
def test_a_tenth_of_the_impostors(impostors, admitted):
    cosines = np.concatenate([np.arange(impostors), np.arange(impostors) + 0.5]) / 100
    same = np.arange(2 * impostors) >= impostors
    # a genuine pair lies above every impostor: those of the admitted ones and of the next pass
    assert tar_at_far(cosines, same, 0.1) == (None if admitted is None else (admitted + 1) / impostors)


def test_a_rate_is_the_decimal_as_written():
    cosines = np.concatenate([np.arange(100), [71.5, 70.5]]) / 100
    same = np.arange(102) >= 100
    assert 0.29 * 100 < 29  # in floats; floored it would admit 28 impostors, and the pair at 0.705 would be lost
    assert tar_at_far(cosines, same, 0.29) == 1.0


def test_lfw_has_pairs_for_a_thousandth_but_not_for_a_ten_thousandth():
    cosines = np.linspace(1, -1, 6000)
    same = np.arange(6000) < 3000
    assert tar_at_far(cosines, same, 1e-3) == 1.0
    assert tar_at_far(cosines, same, 1e-4) is None
    assert tar_at_far(cosines, ~same, 1e-3) == 0.0


def test_tied_impostors_are_not_let_in():
    cosines = np.array([0.9, 0.5, 0.5, 0.1, 0.5, 0.6])
    same = np.array([False, False, False, False, True, True])
    assert tar_at_far(cosines, same, 0.5) == 0.5  # at 0.5 three of four impostors would pass


def test_no_genuine_pairs_have_no_rate():
    assert tar_at_far(np.array([0.5, 0.4]), np.array([False, False]), 1.0) is None


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, math.nan])
def test_a_rate_outside_its_range(far):
    with pytest.raises(OptionError) as error:
        tar_at_far(np.array([0.5, 0.4]), np.array([True, False]), far)
    assert str(error.value) == f"far is the fraction of impostor pairs accepted, in (0, 1]; got {far}"


@pytest.mark.parametrize(
    ("same", "folds", "message"),
    [
        ([1, 1], [1, 2], "p.csv has 2 pairs, none of them of different people; telling the two kinds apart takes both"),
        ([0, 0], [1, 2], "p.csv has 2 pairs, none of them of one person; telling the two kinds apart takes both"),
        (
            [0, 1],
            [3, 3],
            "p.csv has all 2 pairs in one fold; the cosine for a fold is chosen on the others, "
            "so at least 2 are needed",
        ),
    ],
)
def test_pairs_that_cannot_be_judged(same, folds, message):
    with pytest.raises(DataError) as error:
        check_pairs(np.array(same, bool), np.array(folds), "p.csv")
    assert str(error.value) == message


@settings(deadline=None, max_examples=200)
@given(PAIRS)
def test_the_roc_agrees_with_scikit_learn(pairs):
    cosines, same, _ = columns(pairs)
    if same.all() or not same.any():
        return
    curve = roc_of(cosines, same)
    far, tar, min_cosine = roc_curve(same, cosines, drop_intermediate=False)
    steps = np.isin(min_cosine, cosines[same])  # scikit-learn has the cosines of impostors, too
    assert curve.min_cosine.tolist() == min_cosine[steps].tolist()
    assert curve.far == pytest.approx(far[steps])
    assert curve.tar == pytest.approx(tar[steps])
    for asked in (0.1, 0.25, 0.5, 0.75, 1.0):
        found = tar_at_far(cosines, same, asked)
        if found is not None:
            assert found == pytest.approx(tar[far <= asked + 1e-9].max())
            # no row of the curve is missing: between two of them TAR does not change
            assert found == pytest.approx(curve.tar[curve.far <= asked + 1e-9].max(initial=0))


def test_the_roc_by_eye():
    cosines = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5])
    same = np.array([True, True, False, False, True, False])
    curve = roc_of(cosines, same)
    assert curve.min_cosine.tolist() == [0.9, 0.8, 0.6]
    assert curve.far.tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert curve.tar.tolist() == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_million_pairs_by_the_definition():
    rng = np.random.default_rng(0)
    same = np.zeros(1_000_000, bool)
    same[:5000] = True
    rng.shuffle(same)
    cosines = (rng.normal(0, 0.1, len(same)) + 0.45 * same).astype(np.float32)
    far, tar, _ = roc_curve(same, cosines, drop_intermediate=False)
    curve = roc_of(cosines, same)
    impostors = np.sort(cosines[~same])[::-1]
    for asked in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        found = tar_at_far(cosines, same, asked)
        assert found == pytest.approx(tar[far <= asked].max())
        assert found == pytest.approx(curve.tar[curve.far <= asked].max())
        # of the definition: any cosine that lets more genuine pairs pass lets too many impostors pass
        passing = cosines[same] > impostors[math.floor(asked * len(impostors))]
        assert found == passing.mean()
        lower = cosines[same][~passing].max()
        assert (impostors >= lower).mean() > asked
        # InsightFace takes the point of the nearest FAR: no more than half an impostor further
        nearest = np.flatnonzero(np.abs(far - asked) == np.abs(far - asked).min())
        assert tar[nearest].max() - found < 0.002
    assert tar_at_far(cosines, same, 1e-6) is None  # of 995,000
