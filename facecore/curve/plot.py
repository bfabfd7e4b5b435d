"""The curve as a picture: a panel for every protocol, with matplotlib."""

import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from facecore.curve.pools import RANDOM
from facecore.curve.results import Place, Results
from facecore.provenance import written_whole

# Okabe and Ito's colours, told apart with any colour vision, each with a marker of its own; random is grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osDv^P*X<>"
RANDOM_COLOUR, INK, PALE = "#767676", "#222222", "#e2e2e2"
APART = 0.012  # of the width, between the error bars of two methods
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#9a9a9a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "facecore",  # or every file would have names of its own in it
}


def draw(results: Results) -> None:
    """Write curve.png and curve.svg: the same results give the same bytes."""
    with matplotlib.rc_context(STYLE):
        figure = figure_of(results)
        for suffix, varies in (("png", "Software"), ("svg", "Date")):
            with written_whole(results.sweep.out / f"curve.{suffix}") as part:
                figure.savefig(part, format=suffix, dpi=160, metadata={varies: None})


def figure_of(results: Results) -> Figure:
    """A panel for every protocol, three in a row at the most, over one legend."""
    columns = min(3, len(results.protocols))
    rows = math.ceil(len(results.protocols) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08, wspace=0.04, hspace=0.06)
    figure = Figure(figsize=(max(4.6 * columns, 6.8), 3.3 * rows + 1.4), layout=layout)
    panels = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for number, axes in enumerate(panels):
        if number < len(results.protocols):
            _panel(axes, results, results.protocols[number], first=number % columns == 0)
        else:
            axes.set_axis_off()
    seeds = results.sweep.options.seeds
    spread = f"mean and 95 % interval over {seeds} seeds" if seeds > 1 else "one seed"
    title = f"Accuracy of {results.sweep.quantize.bits} networks against the fraction of the faces"
    figure.suptitle(f"{title}\n{spread}\n{results.budget}", size=10, color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    return figure


def _panel(axes: Axes, results: Results, protocol: str, *, first: bool) -> None:
    fractions = results.sweep.options.fractions
    axes.set_title(protocol, loc="left", size=11, weight="bold", color=INK)
    axes.set_xscale("log", base=2)
    margin = 2 ** (0.06 * math.log2(fractions[-1] / fractions[0]) or 0.5)
    axes.set_xlim(fractions[0] / margin, fractions[-1] * margin)
    axes.set_xticks(fractions)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}"))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.tick_params(colors="#4a4a4a", length=3)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"fraction of {results.sweep.faces:,} faces, %", color=INK)
    if first:
        axes.set_ylabel("accuracy, %", color=INK)
    for stage, name, line in (("float", "teacher, float", "-"), ("calibrated", "calibrated only", (0, (5, 3)))):
        axes.axhline(100 * results.reference(protocol, stage), color=INK, linestyle=line, linewidth=1.1, label=name)
    _lines(axes, results, protocol)
    axes.set_ylim(*_limits(results, protocol))


def _lines(axes: Axes, results: Results, protocol: str) -> None:
    """A line for every method, its error bars a little beside those of the others."""
    methods, fractions = results.sweep.pool.methods, results.sweep.options.fractions
    low, high = (math.log2(limit) for limit in axes.get_xlim())
    colours = iter(COLOURS * len(methods))
    for number, method in enumerate(methods):
        found = [results.accuracy(Place(protocol, method, fraction)) for fraction in fractions]
        aside = 2 ** (APART * (high - low) * (number - (len(methods) - 1) / 2))
        axes.errorbar(
            [fraction * aside for fraction in fractions],
            [100 * of.mean for of in found],
            [100 * (of.half or 0) for of in found] if results.sweep.options.seeds > 1 else None,
            color=RANDOM_COLOUR if method == RANDOM else next(colours),
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            linewidth=1.8,
            elinewidth=1.1,
            capsize=2.5,
            label=method,
        )


def _limits(results: Results, protocol: str) -> tuple[float, float]:
    """From below the lowest network to above the highest; intervals of few seeds may reach beyond."""
    sweep = results.sweep
    values = [results.reference(protocol, stage) for stage in ("float", "calibrated")]
    for method in sweep.pool.methods:
        for fraction in sweep.options.fractions:
            place = Place(protocol, method, fraction)
            values += results.folds(place).mean(axis=1).tolist()
    low, high = 100 * min(values), 100 * max(values)
    margin = max(0.15 * (high - low), 0.1)
    return low - margin, high + margin
