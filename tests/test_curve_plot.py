"""The picture of a curve: what is on it, and that it is the same every time."""

from pathlib import Path

import numpy as np
import pytest

from facecore.accuracy import Check
from facecore.curve import CurveOptions, Results, Store, Sweep
from facecore.curve.plot import draw, figure_of
from facecore.quantize import QuantizeOptions


def results(out, protocols=("lfw",), *, seeds=3, fractions=(0.05, 0.1, 0.4, 1.0)):
    """Made-up accuracies of nms and random, in four folds."""
    rng = np.random.default_rng(0)
    options = CurveOptions(fractions, seeds, quantize=QuantizeOptions(steps=40))
    checks = tuple(Check(name, Path("pairs")) for name in protocols)
    sweep = Sweep(Store(Path("store"), ("nms", "random")), Path("model"), out, options, checks)
    sweep.__dict__["faces"] = 1000

    def found(mean):
        folds = (mean + 0.002 * rng.normal(size=4)).tolist()
        return {"fold_accuracies": folds, "accuracy": float(np.mean(folds))}

    def accuracy(stage, mean):
        return {name: {stage: found(mean)} for name in protocols}

    reports = {
        point: {"accuracy": accuracy("fine_tuned", 0.985 + 0.004 * np.log10(point.fraction))} for point in sweep.points
    }
    references = {"float": accuracy("float", 0.993), "calibrated": accuracy("calibrated", 0.976)}
    return Results(sweep, reports, references)


def test_a_panel_says_what_it_shows(tmp_path):
    figure = figure_of(results(tmp_path, ("lfw", "cfp-fp")))
    first, second = figure.axes
    assert (first.get_title(loc="left"), second.get_title(loc="left")) == ("lfw", "cfp-fp")
    assert [label.get_text() for label in figure.legends[0].get_texts()] == [
        "teacher, float",
        "calibrated only",
        "nms",
        "random",
    ]
    assert [label.get_text() for label in first.get_xticklabels()] == ["5", "10", "40", "100"]
    assert figure.get_suptitle() == (
        "Accuracy of w8a8 networks against the fraction of the faces\n"
        "mean and 95 % interval over 3 seeds\n"
        "equal steps: 40 of 32 faces at every point"
    )
    assert (first.get_xlabel(), first.get_ylabel()) == ("fraction of 1,000 faces, %", "accuracy, %")


def test_the_lines_are_the_means(tmp_path):
    made = results(tmp_path)
    (axes,) = figure_of(made).axes
    nms = axes.containers[0].lines[0]
    expected = [
        100 * np.mean([made.reports[p]["accuracy"]["lfw"]["fine_tuned"]["accuracy"] for p in made.sweep.points
                       if p.fraction == fraction and p.method in ("nms", "all")])
        for fraction in made.sweep.options.fractions
    ]  # fmt: skip
    assert nms.get_ydata() == pytest.approx(expected)
    low, high = axes.get_ylim()
    assert low < 97.6
    assert high > 99.3


@pytest.mark.parametrize("few", [{"seeds": 1}, {"fractions": (0.5,)}, {"protocols": list("abcd")}])
def test_few_of_anything(few, tmp_path):
    draw(results(tmp_path, **few))
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        draw(results(tmp_path / name))
    for suffix in ("png", "svg"):
        path = f"curve.{suffix}"
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
    assert b"dc:date" not in (tmp_path / "one" / "curve.svg").read_bytes()
