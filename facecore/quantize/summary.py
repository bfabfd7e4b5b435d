"""A report for a reader: one screen of what the quantized network is worth."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facecore.errors import counted

Row = tuple[str, str, str, str]
COLUMNS = 4


def summary(report: Mapping[str, Any]) -> str:
    """The figures of a report as a table, and what they rest on."""
    rows = [_header(report), *_accuracies(report), *_cosines(report), *_sizes(report), *_latencies(report)]
    return "\n".join([_title(report), *_aligned(rows), *_notes(report)])


def _header(report: Mapping[str, Any]) -> Row:
    return ("", "full precision", "pruned" if report["bits"] == "float" else "calibrated", "fine-tuned")


def _title(report: Mapping[str, Any]) -> str:
    made, used, seconds = report["bits"], report["faces_used"], report["seconds"]["fine_tune"]
    if report["sparsity"]:
        made = f"{100 * report['sparsity']:g} % of the parameters pruned, {made}"
    if not used:
        return f"{made}, not fine-tuned"
    steps, each = report["schedule"]["steps"], 1000 * seconds / used
    data = f"{counted(used, 'face')} in {counted(steps, 'step')}"
    return f"{made}, fine-tuned on {data}, {seconds:.0f} s ({each:.0f} s per 1,000)"


def _accuracies(report: Mapping[str, Any]) -> list[Row]:
    """Percent of the pairs of each protocol, and the standard error."""

    def percent(found: Mapping[str, float]) -> str:
        return f"{100 * found['accuracy']:.2f} +- {100 * found['standard_error']:.2f} %"

    return [
        (f"accuracy, {name}", percent(of["float"]), percent(of["calibrated"]), percent(of["fine_tuned"]))
        for name, of in report.get("accuracy", {}).items()
    ]


def _cosines(report: Mapping[str, Any]) -> list[Row]:
    before, after = report["cosine_to_teacher"]["calibrated"], report["cosine_to_teacher"]["fine_tuned"]
    names = {"mean": "cosine to full precision", "p01": "  its 1st percentile"}
    return [(name, "1", f"{before[key]:.4f}", f"{after[key]:.4f}") for key, name in names.items()]


def _sizes(report: Mapping[str, Any]) -> list[Row]:
    size = report["bytes"]
    names = {"quantized": "model.onnx", "packed": "model.safetensors"}
    return [
        (f"size, {name}", f"{size['float'] / 1e6:.2f} MB", "", f"{size[key] / 1e6:.2f} MB, {_share(size, key)}")
        for key, name in names.items()
        if key in size
    ]


def _share(size: Mapping[str, int], key: str) -> str:
    return f"{100 * size[key] / size['float']:.0f} %"


def _latencies(report: Mapping[str, Any]) -> list[Row]:
    names = {"batch_1": "one face", "batch_64": "a face of 64"}
    rows = []
    for key, name in names.items():
        of = report["latency_ms"][key]
        faster = of["float"] / of["quantized"]
        rows.append((f"time, {name}", f"{of['float']:.1f} ms", "", f"{of['quantized']:.1f} ms, {faster:.1f} x"))
    return rows


def _notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What the figures rest on."""
    done = report["computation"]
    if not report["faces_held_out"]:
        yield "no faces were held out: the cosines are of faces that were trained on, or calibrated with"
    if report["bits"] == "float":
        yield f"{done['multiply_adds'] / 1e6:,.0f} million multiply-adds, all of floats"
        return
    share = f"{100 * done['integer_share']:.1f} %"
    yield f"{share} of {done['multiply_adds'] / 1e6:,.0f} million multiply-adds are of bytes"
    if done["float_products"]:
        yield f"onnxruntime runs {done['float_products']} convolutions or matrix products in floats all the same"
    if "packed" in report["bytes"]:
        yield "model.onnx stores a byte a weight: onnxruntime is no faster below 8 bits, and runs int4 in floats"


def _aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(COLUMNS)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
