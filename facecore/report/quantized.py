"""The report.json of a quantized network, checked before anything of it is shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facecore.errors import DataError

LARGEST = 1e300  # numbers beyond are none that quantize writes, nor is NaN or infinity
KNOWN_BY = {"bits", "cosine_to_teacher", "decibels"}  # a report.json with none of these is somebody else's


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and -LARGEST <= value <= LARGEST


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _a_list(value: Any) -> bool:
    return isinstance(value, list)


COSINES = {"mean": _number, "p01": _number}
# What the page reads: "name?" may be missing, "*" stands for every name, a list for any number of its one element.
SHAPE: dict[str, Any] = {
    "bits": _text,
    "bytes": {"float": _positive, "quantized": _positive, "packed?": _positive},
    "cosine_to_teacher": {"calibrated": COSINES, "fine_tuned": COSINES},
    "decibels": {"*": _number},
    "faces": _number,
    "faces_used": _number,
    "inputs": {"*": _text},
    "parameters": _number,
    "accuracy?": {"*": {"*": {"accuracy": _number, "standard_error": _number}}},
    "checkpoints?": [{"step": _number, "cosine?": _number}],
    "computation?": {"multiply_adds": _number, "integer_share": _number},
    "faces_held_out?": _number,
    "latency_ms?": {"*": {"float": _positive, "quantized": _positive}},
    "loss?": {"first": _number, "last": _number},
    "rejected?": _a_list,
    "schedule?": {"*": _number},
    "seconds?": {"*": _number},
    "sparsity?": _number,
}


def read_quantized(path: Path) -> dict[str, Any]:
    """The report that a quantization left; raises DataError unless all is there that a page shows."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not whole JSON; run facecore quantize again") from error
    if not isinstance(report, dict) or not KNOWN_BY & report.keys():
        raise DataError(f"{path} is not the report of a quantized network; facecore quantize writes one")
    report = {name: value for name, value in report.items() if value is not None}  # no loss without a step
    for name in _wrong(report, SHAPE, ""):
        raise DataError(f"{path} has no {name}, or none that can be shown; run facecore quantize again")
    return report


def _wrong(value: Any, shape: Any, name: str) -> Iterator[str]:
    """The dotted names of what is not as the shape says."""
    if callable(shape):
        if not shape(value):
            yield name
    elif not isinstance(value, type(shape)):
        yield name
    elif isinstance(shape, list):
        for place, inner in enumerate(value):
            yield from _wrong(inner, shape[0], f"{name}.{place}")
    else:
        for key, inner in shape.items():
            for own in value if key == "*" else [key.removesuffix("?")]:
                if own in value or not key.endswith("?"):
                    yield from _wrong(value.get(own), inner, f"{name}.{own}".removeprefix("."))
