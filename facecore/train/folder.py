"""The folder of a training: its files, and whether a training may write there."""

import os
from pathlib import Path

from facecore.errors import DataError
from facecore.provenance import check_folder, refuse_to_overwrite

PARAMETERS, ONNX, HEAD, LOG, REPORT = "backbone.pt", "backbone.onnx", "head.safetensors", "log.csv", "report.json"
ARTEFACTS = (PARAMETERS, ONNX, HEAD, LOG, REPORT)
CHECKPOINT, BEST = "checkpoint.pt", "best.pt"  # of a run that is not done


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise DataError if a network is at `out` that is not to be overwritten, or anything that no training left.

    What lies beside a network or the checkpoint of a run is left alone, whatever it is.
    """
    check_folder(out)
    there = set(os.listdir(out)) if out.is_dir() else set()
    foreign = {name for name in there if name.removesuffix(".part") not in (*ARTEFACTS, CHECKPOINT, BEST)}
    if foreign and not there & {PARAMETERS, CHECKPOINT}:
        raise DataError(f"{out} holds {min(foreign)}, which is not of a training; choose another --out")
    going_on = CHECKPOINT in there
    if REPORT in there and not going_on:
        (out / BEST).unlink(missing_ok=True)  # after a run that was killed when all was done
    refuse_to_overwrite(*(out / name for name in ARTEFACTS), overwrite=overwrite or going_on)
