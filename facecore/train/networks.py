"""The network that is trained, with the weights that it starts from."""

from pathlib import Path

import torch
from torch import nn

from facecore.errors import ModelError
from facecore.models import ARCHITECTURES
from facecore.models.torch_backbone import misfits, read_parameters

SIZE = 112  # of the images they take


def new_network(arch: str, *, seed: int, init: Path | None = None) -> nn.Module:
    """A network with weights drawn from the seed, or those of a checkpoint (arcface_torch's, or one of training).

    Raises ModelError if the checkpoint is of another network.
    """
    with torch.random.fork_rng(devices=[]):  # seeded without touching the caller's generator
        torch.manual_seed(seed)
        network = ARCHITECTURES[arch]()
    if init is not None:
        if not init.is_file():
            raise ModelError(f"no checkpoint at {init}; name a file that is there")
        if init.suffix.lower() in (".onnx", ".safetensors", ".pt2"):
            raise ModelError(f"{init} is no checkpoint; name one of --arch {arch}, such as train's backbone.pt")
        parameters = read_parameters(init)
        wrong = misfits(network, parameters)
        if wrong:
            raise ModelError(
                f"{init} has parameters that do not fit {arch}: {len(wrong):,}, first {wrong[0]}; "
                "start from a checkpoint of the same --arch"
            )
        network.load_state_dict(parameters, strict=False)  # old checkpoints lack num_batches_tracked alone
    return network


def embedding_length(network: nn.Module) -> int:
    """The length of its embeddings."""
    before = network.training
    with torch.inference_mode():
        length = int(network.eval()(torch.zeros(1, 3, SIZE, SIZE)).shape[1])
    network.train(before)
    return length
