"""The part of a page about a sweep: accuracy against the fraction of the data, every seed a point."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from matplotlib.axes import Axes

from facecore.manifest import provenance_of
from facecore.report.charts import COLOURS, MARKERS, SERIES, Chart, Mark, chart
from facecore.report.page import Section

REFERENCES = {"teacher": "-", "calibrated": ":"}  # methods that are no point of the sweep, as lines across it
HEIGHT = 4.0  # inches: there is a legend below
WIDE = 8  # from this ratio of the fractions on, the axis is logarithmic
DIFFERENCES = "differences.csv"

Row = Mapping[str, Any]


def curve_section(path: Path, name: str, slug: str) -> Section:
    """Show the table of a sweep, and what is above chance where that lies beside it."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["accuracy"] is not None]
    protocols = list(dict.fromkeys(_protocol(row) for row in rows))
    points = [row for row in rows if row["method"] not in REFERENCES]
    methods = list(dict.fromkeys(str(row["method"]) for row in points))
    charts = []
    for number, protocol in enumerate(protocols):
        of = [row for row in rows if _protocol(row) == protocol]
        charts.append(_curve(protocol, of, methods, f"{slug}-{number}"))
    figures = [
        (f"{len({(row['method'], row['fraction'], row.get('seed')) for row in points}):,}", "points"),
        (f"{len(methods):,}", "methods"),
        (f"{len({row.get('seed') for row in points}):,}", "seeds"),
        (
            ", ".join(sorted({str(row["budget"]) for row in points if row.get("budget")})) or "unknown",
            "of equal budget",
        ),
    ]
    values = {
        "charts": charts,
        "methods": methods,
        "tables": _tables(points, methods),
        "references": [(_protocol(row), row) for row in rows if row["method"] in REFERENCES],
        "differences": _differences(path.with_name(DIFFERENCES)),
    }
    return Section("curve", name, slug, figures, provenance_of(path), values)


def _protocol(row: Row) -> str:
    return str(row.get("protocol") or "accuracy")


def _grouped(points: Sequence[Row]) -> list[list[Row]]:
    """The seeds of every place together, by protocol, then fraction, then method as they come."""
    found: dict[tuple[str, float, str], list[Row]] = {}
    for row in points:
        found.setdefault((_protocol(row), float(row["fraction"]), str(row["method"])), []).append(row)
    order = list(dict.fromkeys(protocol for protocol, _, _ in found))
    return [found[key] for key in sorted(found, key=lambda key: (order.index(key[0]), key[1]))]


def _tables(points: Sequence[Row], methods: Sequence[str]) -> list[dict[str, Any]]:
    """For each protocol a row a fraction: what it cost on average, and the accuracy by every method."""
    tables: dict[str, dict[float, dict[str, Any]]] = {}
    for seeds in _grouped(points):
        first = seeds[0]
        rows = tables.setdefault(_protocol(first), {})
        row = rows.setdefault(float(first["fraction"]), {"seconds": [], "cells": dict.fromkeys(methods, ("", ""))})
        row |= {"fraction": f"{100 * first['fraction']:g} %", "faces": first.get("faces"), "steps": first.get("steps")}
        row["seconds"] += [_seconds(of) for of in seeds]
        found = [100 * of["accuracy"] for of in seeds]
        between = f"{min(found):.2f} to {max(found):.2f}" if len(found) > 1 else ""
        row["cells"][first["method"]] = (f"{statistics.fmean(found):.2f}", between)
    for rows in tables.values():
        for row in rows.values():
            row["seconds"] = f"{statistics.fmean(row['seconds']):,.0f}"
    return [{"protocol": protocol, "places": list(rows.values())} for protocol, rows in tables.items()]


def _seconds(row: Row) -> float:
    return sum(row[name] or 0.0 for name in row if name.startswith("seconds"))


def _curve(protocol: str, rows: Sequence[Row], methods: Sequence[str], name: str) -> Chart:
    fractions = sorted({float(row["fraction"]) for row in rows if row["method"] not in REFERENCES})

    def paint(axes: Axes) -> Sequence[Mark]:
        marks: list[Mark] = []
        for place, method in enumerate(methods):
            colour, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
            own = sorted((row for row in rows if row["method"] == method), key=lambda row: float(row["fraction"]))
            means = [100 * statistics.fmean(row["accuracy"] for row in seeds) for seeds in _grouped(own)]
            axes.plot(sorted({row["fraction"] for row in own}), means, color=colour, linewidth=1.8)
            axes.plot([], [], color=colour, marker=marker, linewidth=1.8, label=method)
            for row in own:
                (point,) = axes.plot(row["fraction"], 100 * row["accuracy"], marker, color=colour, markersize=5)
                marks.append((point, _said(row)))
        for row in rows:
            if row["method"] in REFERENCES:
                line = axes.axhline(100 * row["accuracy"], color=COLOURS["soft"], linestyle=REFERENCES[row["method"]])
                line.set_label(str(row["method"]))
                line.set_linewidth(1.2)
                marks.append((line, f"{row['method']}: {100 * row['accuracy']:.2f} %"))
        _axes(axes, fractions)
        return marks

    return chart(name, f"{protocol}: accuracy against the fraction of the data", paint, height=HEIGHT)


def _axes(axes: Axes, fractions: Sequence[float]) -> None:
    if fractions and fractions[-1] >= WIDE * fractions[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(fractions, [f"{100 * fraction:g}" for fraction in fractions])
    axes.set_xlabel("% of the faces")
    axes.set_ylabel("accuracy, %")
    axes.figure.legend(loc="outside lower center", ncols=3)


def _said(row: Row) -> str:
    faces = f" ({row['faces']:,} faces)" if row.get("faces") else ""
    seed = f", seed {row['seed']}" if row.get("seed") is not None else ""
    error = f" ± {100 * row['standard_error']:.2f}" if row.get("standard_error") is not None else ""
    return f"{row['method']}, {100 * row['fraction']:g} %{faces}{seed}: {100 * row['accuracy']:.2f}{error} %"


def _differences(path: Path) -> list[dict[str, Any]]:
    """How much better than chance each method is, if that was written."""
    if not path.is_file():
        return []
    table = pa.csv.read_csv(path)
    wanted = {"protocol", "method", "fraction", "points_above_random", "half_interval", "noise"}
    return table.to_pylist() if wanted <= set(table.column_names) else []
