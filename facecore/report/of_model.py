"""The part of a page about a quantized network: what it costs and saves, and which layer hurts."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes

from facecore.provenance import Provenance
from facecore.report.charts import COLOURS, Chart, Mark, chart
from facecore.report.page import Section

WORST = 8  # layers pointed out
STAGES = ("float", "calibrated", "fine_tuned")
FILES = {"float": "before", "quantized": "model.onnx", "packed": "model.safetensors"}
BATCHES = {"batch_1": "1 at a time", "batch_64": "64 at a time"}


def model_section(report: Mapping[str, Any], name: str, slug: str) -> Section:
    """Show the report that a quantization left."""
    size, after = report["bytes"], report["cosine_to_teacher"]["fine_tuned"]["mean"]
    in_floats = report["bits"] == "float"  # pruned, not quantized: nothing is calibrated, and no tensor has such noise
    figures = [
        (report["bits"], "pruned only" if in_floats else "bits of weights and activations"),
        (f"{size['quantized'] / 1e6:.2f} MB", f"{100 * size['quantized'] / size['float']:.0f} % of the float file"),
        (f"{after:.4f}", "mean cosine to full precision"),
        *_speed(report),
    ]
    layers = _layers(report["decibels"], slug) if report["decibels"] else None
    charts = [_sizes(report, slug), _latencies(report, slug), layers]
    course = [check for check in report.get("checkpoints", ()) if "cosine" in check]
    if len(course) > 1:
        charts.append(_course(course, slug))
    values = {
        "charts": [of for of in charts if of],
        "begun": "pruned" if in_floats else "calibrated",
        "accuracy": _accuracy(report),
        "cosines": report["cosine_to_teacher"],
        "worst": sorted(report["decibels"].items(), key=lambda item: (item[1], item[0])),
        "shown": WORST,
        "facts": _facts(report),
    }
    return Section("model", name, slug, figures, Provenance("quantize", {}, report["inputs"]), values)


def _speed(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    of = report.get("latency_ms", {}).get("batch_1")
    return [(f"{of['float'] / of['quantized']:.1f} ×", "as fast, one face at a time")] if of else []  # noqa: RUF001


def _accuracy(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """For each protocol, the accuracy of every stage in percent with its standard error."""

    def percent(of: Mapping[str, float]) -> str:
        return f"{100 * of['accuracy']:.2f} ± {100 * of['standard_error']:.2f}"

    return [
        (protocol, [percent(of[stage]) if stage in of else "" for stage in STAGES])
        for protocol, of in report.get("accuracy", {}).items()
    ]


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it was made from and how, as rows."""
    done, rows = report.get("computation", {}), []
    rows.append(("faces", f"{report['faces']:,}, of which {report['faces_used']:,} were trained on"))
    rows.append(("held out to measure", f"{report.get('faces_held_out', 0):,} faces"))
    rows.append(("could not be read", f"{len(report.get('rejected', ())):,} faces"))
    rows += [(name.replace("_", " "), f"{value:g}") for name, value in report.get("schedule", {}).items()]
    rows.append(("parameters", f"{report['parameters']:,}"))
    if report.get("sparsity"):
        rows.append(("pruned", f"{100 * report['sparsity']:g} % of the parameters"))
    if loss := report.get("loss"):
        rows.append(("loss, first to last", f"{loss['first']:.6f} to {loss['last']:.6f}"))
    if done:
        rows.append(("multiply-adds", f"{done['multiply_adds'] / 1e6:,.0f} million"))
        rows.append(("of them in integers", f"{100 * done['integer_share']:.1f} %"))
    rows += [
        (f"seconds to {name.replace('_', '-')}", f"{value:,.0f}") for name, value in report.get("seconds", {}).items()
    ]
    return rows


def _sizes(report: Mapping[str, Any], slug: str) -> Chart:
    found = [(name, report["bytes"][key] / 1e6) for key, name in FILES.items() if key in report["bytes"]]

    def paint(axes: Axes) -> Sequence[Mark]:
        colours = [COLOURS["soft"], *[COLOURS["accent"]] * (len(found) - 1)]
        bars = axes.barh([name for name, _ in found], [size for _, size in found], 0.6, color=colours)
        axes.bar_label(bars, [f"{size:.2f} MB" for _, size in found], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.3)
        axes.grid(False)
        return list(zip(bars, [f"{name}: {size:.2f} MB" for name, size in found], strict=True))

    return chart(f"{slug}-sizes", "MB on disk", paint)


def _latencies(report: Mapping[str, Any], slug: str) -> Chart | None:
    found = [(name, report["latency_ms"][key]) for key, name in BATCHES.items() if key in report.get("latency_ms", {})]
    if not found:
        return None

    def paint(axes: Axes) -> Sequence[Mark]:
        marks: list[Mark] = []
        for key, label, colour, shift in (("float", "before", "soft", -0.2), ("quantized", "after", "accent", 0.2)):
            times = [of[key] for _, of in found]
            bars = axes.barh([place + shift for place in range(len(found))], times, 0.36, color=COLOURS[colour])
            axes.bar_label(bars, [f"{label} {time:.1f} ms" for time in times], padding=4)
            marks += zip(bars, [f"{label}, {name}: {of[key]:.2f} ms a face" for name, of in found], strict=True)
        axes.set_yticks(range(len(found)), [name for name, _ in found])
        axes.invert_yaxis()
        axes.margins(x=0.4)
        axes.grid(False)
        return marks

    return chart(f"{slug}-latency", "Milliseconds a face", paint)


def _layers(decibels: Mapping[str, float], slug: str) -> Chart:
    """A bar for every tensor, by kind and number; the worst stand out."""
    names = sorted(decibels, key=_by_number)
    worst = set(sorted(names, key=lambda name: (decibels[name], name))[:WORST])
    kinds = [(kind, len(list(of))) for kind, of in groupby(names, key=lambda name: str(_by_number(name)[0]))]

    def paint(axes: Axes) -> Sequence[Mark]:
        colours = [COLOURS["dropped"] if name in worst else COLOURS["accent"] for name in names]
        bars = axes.bar(range(len(names)), [decibels[name] for name in names], 0.8, color=colours)
        first = 0
        for place, (kind, count) in enumerate(kinds):
            if count > len(names) / 20:
                axes.text(first, 1.0, kind, transform=axes.get_xaxis_transform(), va="bottom")
            if place:
                axes.axvline(first - 0.5, color=COLOURS["line"], linewidth=1)
            first += count
        axes.set_xticks([])
        axes.set_ylabel("dB, higher is better")
        axes.set_xlabel("tensors by kind and number")
        return list(zip(bars, [f"{name}: {decibels[name]:.1f} dB" for name in names], strict=True))

    return chart(f"{slug}-layers", "Signal to quantization noise of every tensor", paint)


def _course(checks: Sequence[Mapping[str, float]], slug: str) -> Chart:
    def paint(axes: Axes) -> Sequence[Mark]:
        steps, cosines = [check["step"] for check in checks], [check["cosine"] for check in checks]
        axes.plot(steps, cosines, color=COLOURS["accent"], linewidth=1.8)
        points = [axes.plot(x, y, "o", color=COLOURS["accent"])[0] for x, y in zip(steps, cosines, strict=True)]
        axes.set_xlabel("step")
        axes.ticklabel_format(useOffset=False)
        said = [f"step {x:g}: {y:.4f}" for x, y in zip(steps, cosines, strict=True)]
        return list(zip(points, said, strict=True))

    return chart(f"{slug}-course", "Fine-tuning: mean cosine to full precision, on faces held out", paint)


def _by_number(name: str) -> tuple[str, int]:
    """conv_10 comes after conv_9."""
    found = re.fullmatch(r"(.*?)_?(\d*)", name)
    assert found is not None
    return found[1], int(found[2] or -1)
