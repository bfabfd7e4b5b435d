"""The networks that can be trained: those of arcface_torch, and one small enough for a minute on two cores."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from facecore.errors import ModelError
from facecore.models import ARCHITECTURES
from facecore.models.mobilefacenet import ConvBlock, DepthWise
from facecore.models.torch_backbone import misfits, read_parameters

SIZE = 112  # of the images they take


class TinyFaceNet(nn.Module):
    """Strided convolutions down to 7 x 7, then inverted bottlenecks: (n, 3, 112, 112) to (n, 128).

    Where images are large it has dense convolutions and few channels: on a processor the time there goes into
    normalisation and activation, which depthwise blocks have three times more of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvBlock(3, 8, 3, stride=2),
            ConvBlock(8, 32, 3, stride=2),
            ConvBlock(32, 64, 3, stride=2),
            DepthWise(64, 64, groups=64, stride=1, residual=True),
            ConvBlock(64, 96, 3, stride=2),
            DepthWise(96, 96, groups=128, stride=1, residual=True),
            ConvBlock(96, 192, 1),
            ConvBlock(192, 192, 7, groups=192, linear=True),  # each channel's own weight for each place of the face
            nn.Flatten(),
            nn.Linear(192, 128, bias=False),
            nn.BatchNorm1d(128),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        out: Tensor = self.layers(images)
        return out


NETWORKS: dict[str, Callable[[], nn.Module]] = {**ARCHITECTURES, "tiny": TinyFaceNet}


def new_network(arch: str, *, seed: int, init: Path | None = None) -> nn.Module:
    """A network with weights drawn from the seed, or those of a checkpoint (arcface_torch's, or one of training).

    Raises ModelError if the checkpoint is of another network.
    """
    with torch.random.fork_rng(devices=[]):  # seeded without touching the caller's generator
        torch.manual_seed(seed)
        network = NETWORKS[arch]()
    if init is not None:
        if not init.is_file():
            raise ModelError(f"no checkpoint at {init}; name a file that is there")
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
