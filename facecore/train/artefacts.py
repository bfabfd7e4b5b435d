"""What training leaves: the network as a checkpoint and as ONNX, and the classifier."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from facecore.checkpoint import save_whole
from facecore.images import Floats, Preprocess
from facecore.models import ARCHITECTURES, record_preprocess, to_onnx
from facecore.provenance import Provenance, written_whole
from facecore.train.folder import HEAD, ONNX, PARAMETERS
from facecore.train.loop import BACKBONE, CLASSIFIER
from facecore.train.networks import SIZE, embedding_length


class Live:
    """A network in training as a Backbone, to be measured."""

    size, preprocess, sha256 = SIZE, Preprocess(), ""  # of no file

    def __init__(self, network: nn.Module) -> None:
        self._network, self.dimension = network, embedding_length(network)
        self._device = next(network.parameters()).device

    def embed(self, batch: Floats) -> Floats:
        """(n, 3, size, size) to (n, dimension), not normalised; n may be 0."""
        if not len(batch):
            return np.empty((0, self.dimension), np.float32)
        images = torch.from_numpy(batch).to(self._device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return np.asarray(self._network(images).cpu().numpy())


def write_artefacts(out: Path, arch: str, weights: Mapping[str, Any], identities: list[str], made: Provenance) -> None:
    """Write backbone.pt, backbone.onnx and head.safetensors from weights as `Trainer.weights` gives them."""
    with torch.device("meta"):  # its own first weights are neither wanted nor drawn
        network = ARCHITECTURES[arch]()
    network.load_state_dict(weights[BACKBONE], assign=True)
    model = to_onnx(network.eval(), SIZE)
    record_preprocess(model, Preprocess())
    model.metadata_props.add(key="facecore", value=made.to_json())
    with written_whole(out / ONNX) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
    save_whole(weights[BACKBONE], out / PARAMETERS)
    # names as bytes of JSON: the header of safetensors would end at 100 MB, some millions of identities
    names = np.frombuffer(json.dumps(identities, ensure_ascii=False).encode(), np.uint8)
    tensors = {"weight": weights[CLASSIFIER]["weight"], "identities": torch.tensor(names)}
    with written_whole(out / HEAD) as part:
        try:
            safetensors.torch.save_file(tensors, part, metadata={"facecore": made.to_json()})
        except safetensors.SafetensorError as error:  # of what could not be written; the tensors are sound
            raise OSError(f"{out / HEAD}: {error}") from error
        shutil.copymode(out / PARAMETERS, part)  # safetensors would let nobody else read it
