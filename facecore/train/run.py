"""The training stage: a data set in, an ONNX network out."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facecore.errors import DataError, OptionError
from facecore.images import Pixels, Preprocess, load_batches
from facecore.models import record_preprocess, to_onnx
from facecore.progress import progress
from facecore.provenance import Provenance, refuse_to_overwrite, written_whole
from facecore.readers import Dataset
from facecore.train.proxy import TrainOptions, train_proxy
from facecore.train.tiny import SIZE

LAST_STEPS = 20  # whose mean loss is reported: one batch says little


@dataclass(frozen=True)
class Training:
    """What a training did, in numbers."""

    faces: int
    identities: int
    parameters: int
    first_loss: float
    last_loss: float  # mean of the last steps


def train(dataset: Dataset, out: Path, options: TrainOptions, *, overwrite: bool = False) -> Training:
    """Train a small network on a data set that fits into memory, and write it as ONNX with any batch size.

    The file says how it was made and how it wants its pixels. Raises OptionError unless `out` ends in .onnx, DataError
    if it exists, or if a face cannot be read.
    """
    if out.suffix != ".onnx":
        raise OptionError(f"{out} does not end in .onnx, the format that training writes; name it so")
    refuse_to_overwrite(out, overwrite=overwrite)
    names, labels = np.unique(np.array(dataset.faces["identity"].to_pylist()), return_inverse=True)
    network, losses = train_proxy(_pixels(dataset), labels.astype(np.int64), options)
    facts = {"faces": len(labels), "identities": len(names)}
    model = to_onnx(network, SIZE)
    record_preprocess(model, Preprocess())
    made = Provenance("train", dataclasses.asdict(options), {"dataset": dataset.sha256}, facts)
    model.metadata_props.add(key="facecore", value=made.to_json())
    with written_whole(out) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
    parameters = sum(p.numel() for p in network.parameters())
    return Training(
        **facts, parameters=parameters, first_loss=float(losses[0]), last_loss=float(losses[-LAST_STEPS:].mean())
    )


def _pixels(dataset: Dataset) -> Pixels:
    """Every face, decoded: (n, 112, 112, 3). A face that cannot be read is an error: labels are few and dear here."""
    sources = dataset.faces["source"].to_pylist()
    pixels = np.empty((len(sources), SIZE, SIZE, 3), np.uint8)
    with progress(len(sources), "decode", "faces") as bar:
        for batch in load_batches(dataset.read, sources, size=SIZE, batch_size=256):
            if batch.rejected:
                row, reason = batch.rejected[0]
                raise DataError(
                    f"{sources[row]} under {dataset.root} cannot be read: {reason}; mend it or leave it out"
                )
            pixels[batch.rows] = batch.pixels
            bar.update(len(batch.rows))
    return pixels
