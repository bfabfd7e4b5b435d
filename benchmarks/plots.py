"""Pictures drawn from the results, as benchmarks/README.md shows them: the same results give the same bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from facecore.curve.options import ALL
from facecore.curve.plot import COLOURS, INK, MARKERS, PALE, RANDOM_COLOUR, STYLE
from facecore.curve.pools import RANDOM
from facecore.provenance import written_whole

Place = tuple[str, int]  # a pool and a number of steps


def which_rank(result: Mapping[str, Any], out: Path) -> None:
    """A panel for every pool and number of steps at which methods kept two fractions or more."""
    panels = {
        (pool["pool"], steps): [row for row in pool["rows"] if row["steps"] == steps]
        for pool in result["pools"]
        for steps in sorted({row["steps"] for row in pool["rows"]})
    }
    panels = {place: rows for place, rows in panels.items() if len({row["keep"] for row in rows}) > 2}
    protocols = {pool["pool"]: pool["protocol"] for pool in result["pools"]}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 0.6 + 3.9 * len(panels)), layout="constrained")
        for axes, ((name, steps), rows) in zip(
            figure.subplots(len(panels), squeeze=False).flatten().tolist(), panels.items(), strict=True
        ):
            axes.set_title(f"{name}, tested on {protocols[name]}\n{steps:,} steps of 64 faces at every point", size=10)
            _panel(axes, rows)
        with written_whole(out) as part:
            figure.savefig(part, format="png", dpi=160, metadata={"Software": None})


def _panel(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """A line a method, up to the whole pool."""
    whole = [row for row in rows if row["method"] == ALL]
    kept = {row["method"]: [of for of in rows if of["method"] == row["method"]] for row in rows}
    several = [method for method, of in kept.items() if method not in (ALL, RANDOM) and len(of) > 1]
    lines = {method: kept[method] for method in (*sorted(several), RANDOM)}
    for number, (method, of) in enumerate(lines.items()):
        shown = sorted([*of, *whole], key=lambda row: float(row["keep"]))
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
    axes.set_xscale("log")
    axes.set_xticks(sorted({row["keep"] for row in rows}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("faces kept, %; mean and 95 % interval over seeds", color=INK)
    axes.set_ylabel("accuracy, %", color=INK)
    axes.legend(frameon=False)
