"""The files of a quantized network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from facecore.errors import DataError
from facecore.models import packed
from facecore.quantize.bits import Bits

MODEL, PACKED, CALIBRATED, REPORT = "model.onnx", "model.safetensors", "calibrated.onnx", "report.json"
CHECKPOINT = "checkpoint.pt"  # of a run that is not done


def artefact_names(bits: Bits) -> list[str]:
    """The files of a network of these bits: one that runs, one as it was before fine-tuning, and one of honest size.

    The last only below 8 bits. ONNX has weights of 4 bits, but onnxruntime computes with them in floats: MobileFaceNet
    took 11.1 ms a face instead of the 2.3 ms of bytes. `load_backbone` makes bytes of the packed file.
    """
    return [MODEL, CALIBRATED, PACKED] if bits.weights < 8 else [MODEL, CALIBRATED]


def artefacts(integer: onnx.ModelProto, calibrated: bytes, bits: Bits) -> dict[str, bytes]:
    """The content of each of `artefact_names`; `calibrated` is the ONNX model before fine-tuning."""
    content = {MODEL: integer.SerializeToString(), CALIBRATED: calibrated}
    return content | {PACKED: packed(integer)} if bits.weights < 8 else content


def sizes(content: Mapping[str, bytes]) -> dict[str, int]:
    """The bytes of the files that stand for the network, as a report has them."""
    names = {"quantized": MODEL, "packed": PACKED}
    return {key: len(content[name]) for key, name in names.items() if name in content}


def to_json(report: Mapping[str, Any]) -> str:
    """The text of report.json."""
    return json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n"


def check_report(path: Path) -> None:
    """Raise DataError if there is a report that is not of a quantized network: train writes one of the same name."""
    if not path.is_file():
        return
    try:
        ours = "bits" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise DataError(f"{path} is not of a quantized network; choose another --out")
