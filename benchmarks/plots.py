"""Pictures drawn from the results, as benchmarks/README.md shows them: the same results give the same bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from above_chance import GUARDED, places
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from facecore.curve.options import ALL
from facecore.curve.plot import COLOURS, INK, MARKERS, PALE, RANDOM_COLOUR, STYLE
from facecore.curve.pools import RANDOM
from facecore.provenance import written_whole
from facecore.select import Nms

ACROSS = 3  # panels side by side
BESIDE = 0.005  # of a cosine: so far beside its neighbour a hollow point is seen


def which_rank(result: Mapping[str, Any], out: Path) -> None:
    """A panel for every pool and number of steps at which there are lines, see `_lines`, and all was learnt."""
    panels = [
        (pool, steps)
        for pool in result["pools"]
        for steps in sorted({row["steps"] for row in pool["rows"] if row["method"] == ALL})
        if _lines(pool["rows"], steps)
    ]
    with matplotlib.rc_context(STYLE):
        across = min(len(panels), ACROSS)
        down = -(-len(panels) // across)
        figure = Figure(figsize=(4.7 * across, 4.2 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).flatten().tolist()
        for empty in axes[len(panels) :]:
            empty.remove()
        for panel, (pool, steps) in zip(axes, panels, strict=False):
            panel.set_title(f"trained on {pool['pool']}, tested on {pool['protocol']}", loc="left", size=10)
            _panel(panel, pool["rows"], steps)
        with written_whole(out) as part:
            figure.savefig(part, format="png", dpi=160, metadata={"Software": None})


def above_chance(result: Mapping[str, Any], out: Path) -> None:
    """By how much nms is above random faces at every t*, with a least threshold (hollow) and without."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=INK, linewidth=1.1)
        for number, pool in enumerate(result["pools"]):
            there = [place for place in places(result) if place.pool == pool["pool"]]
            style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
            _dots(axes, [(place.threshold, place.nms) for place in there], label=pool["pool"], **style)
            guarded = [(place.threshold + BESIDE, place.guarded) for place in there if place.guarded is not None]
            _dots(axes, guarded, markerfacecolor="white", **style)
        _dots(axes, [], label=f"hollow: {GUARDED}", markerfacecolor="white", color=INK, marker="o")
        axes.grid(axis="y", color=PALE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("t* of nms, the cosine above which a kept face suppresses others", color=INK)
        axes.set_ylabel("points above random faces; 95 % interval", color=INK)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        with written_whole(out) as part:
            figure.savefig(part, format="png", dpi=160, metadata={"Software": None})


def _dots(axes: Axes, points: list[tuple[float, Mapping[str, Any]]], **style: Any) -> None:
    axes.errorbar(
        [t for t, _ in points],
        [row["above_random"] for _, row in points],
        [row["above_random_half"] for _, row in points],
        linestyle="none",
        markersize=6,
        elinewidth=1.0,
        **style,
    )


def _lines(rows: list[dict[str, Any]], steps: int) -> dict[str, list[dict[str, Any]]]:
    """The points of random faces, at two fractions or more, and of every method at all of these, at so many steps.

    A line through fewer would pass by what a method has at the others, such as nms:0.9 where it is nms.
    """
    kept: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["steps"] == steps and row["method"] != ALL:
            kept.setdefault(row["method"], []).append(row)
    at = {row["keep"] for row in kept.get(RANDOM, [])}
    there = {method: {row["keep"] for row in of} for method, of in kept.items() if method != RANDOM}
    several = sorted(
        (method for method, of in there.items() if len(at) > 1 and at <= of),
        key=lambda method: (method != Nms.name, method),  # one colour for nms in all panels
    )
    return {method: kept[method] for method in (*several, RANDOM)} if several else {}


def _panel(axes: Axes, rows: list[dict[str, Any]], steps: int) -> None:
    """A line a method, up to all faces at as many steps; all faces for a fraction's epochs are a line across."""
    whole = {row["steps"]: row for row in rows if row["method"] == ALL}
    lines = _lines(rows, steps)
    for number, (method, of) in enumerate(lines.items()):
        shown = sorted([*of, *([whole[steps]] if steps in whole else [])], key=lambda row: float(row["keep"]))
        axes.errorbar(
            [row["keep"] * (1 + 0.012 * (number - len(lines) / 2)) for row in shown],
            [row["accuracy"] for row in shown],
            [row["accuracy_half"] or 0 for row in shown],
            color=RANDOM_COLOUR if method == RANDOM else COLOURS[number],
            marker=MARKERS[number],
            markersize=5,
            linewidth=1.8,
            elinewidth=1.1,
            capsize=2.5,
            label=method,
        )
        for row in shown:
            if row["method"] == method != RANDOM and row.get("max_cosine") is not None:
                axes.annotate(
                    f"t* {row['max_cosine']:.2f}",
                    (row["keep"], row["accuracy"]),
                    xytext=(-7, 3),
                    textcoords="offset points",
                    ha="right",
                    size=8,
                    color=INK,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
                )
    kept = sorted({row["keep"] for of in lines.values() for row in of} | {1.0})
    for more in sorted(whole.keys() & {round(steps / keep) for keep in kept if keep < 1}):
        label = f"all faces, {more:,} steps"
        axes.axhline(whole[more]["accuracy"], color=INK, linestyle=(0, (5, 3)), linewidth=1.1, label=label)
    axes.set_xscale("log")
    axes.set_xticks(kept)
    axes.set_xlim(0.78 * kept[0], 1.08)  # room for what is written beside the leftmost points
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"faces kept, %, {steps:,} steps; 95 % interval over seeds", color=INK)
    axes.set_ylabel("accuracy, %", color=INK)
    axes.legend(
        frameon=False, loc="upper center", columnspacing=1.0, bbox_to_anchor=(0.5, -0.16), ncols=2
    )  # below: points are anywhere
