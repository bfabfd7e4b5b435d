"""The part of a page about a sweep: accuracy against the fraction of the data, every seed a point."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from matplotlib.axes import Axes

from facecore.errors import DataError
from facecore.manifest import provenance_of
from facecore.parquet import check_expansion
from facecore.report.charts import COLOURS, MARKERS, SERIES, Chart, Mark, chart
from facecore.report.page import Section

REFERENCES = {"teacher": "-", "calibrated": ":"}  # methods that are no point of the sweep, as lines across it
HEIGHT = 4.0  # inches: there is a legend below
WIDE = 8  # from this ratio of the fractions on, the axis is logarithmic
DIFFERENCES = "differences.csv"
DIFFERENCES_IN = ("fraction", "points_above_random", "half_interval")
NUMBERS = {"fraction", "accuracy", "standard_error", "faces", "steps"}

Row = Mapping[str, Any]


def curve_section(path: Path, name: str, slug: str) -> Section:
    """Show the table of a sweep, and what is above chance where that lies beside it."""
    check_expansion(path)
    table = pq.read_table(path)
    _check(path, table.schema)
    rows = [row for row in table.to_pylist() if row["accuracy"] is not None]
    if not rows or not all(_is_point(row) for row in rows):
        raise DataError(f"{path} has {'rows that are no point' if rows else 'no points'}; run facecore curve again")
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


def _check(path: Path, schema: pa.Schema) -> None:
    """Raise DataError unless what is computed with are numbers."""
    for field in schema:
        if field.name in NUMBERS or field.name.startswith("seconds"):
            if not _is_number(field.type):
                raise DataError(f"{path}: column {field.name} is {field.type}, no numbers; run facecore curve again")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _is_point(row: Row) -> bool:
    """Whether it has a place: a method, a fraction above 0, and an accuracy that is a number."""
    fraction = row["fraction"] or 0.0
    return row["method"] is not None and 0 < fraction < math.inf and math.isfinite(row["accuracy"])


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
    try:
        table = pa.csv.read_csv(path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no whole table; run facecore curve again") from error
    kinds = {field.name: field.type for field in table.schema}
    numbers = all(_is_number(kinds.get(name, pa.string())) for name in DIFFERENCES_IN)
    if not numbers or not {"protocol", "method", "noise"} <= kinds.keys():
        raise DataError(f"{path} is not what facecore curve wrote; run it again")
    rows: list[dict[str, Any]] = table.drop_null().to_pylist()
    return rows
