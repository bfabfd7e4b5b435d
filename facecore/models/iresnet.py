"""IResNet, the residual network of the ArcFace papers; parameters are named as in InsightFace's arcface_torch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 512)
FINAL_SIDE = 7  # 112 pixels after four strides of two


class Block(nn.Module):
    """The improved residual block: normalise, convolve, normalise, PReLU, convolve, normalise, then the sum."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        # an absent downsample must have no entry in the state_dict, so it is None rather than nn.Identity
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) to (n, channels, h / stride, w / stride); nothing follows the sum."""
        out: Tensor = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return out + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """Four layers of residual blocks and one fully connected layer, from (n, 3, 112, 112) to (n, dimension)."""

    def __init__(self, blocks: Sequence[int], dimension: int = 512) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        self.layer1 = _layer(64, CHANNELS[0], blocks[0])
        self.layer2 = _layer(CHANNELS[0], CHANNELS[1], blocks[1])
        self.layer3 = _layer(CHANNELS[1], CHANNELS[2], blocks[2])
        self.layer4 = _layer(CHANNELS[2], CHANNELS[3], blocks[3])
        self.bn2 = nn.BatchNorm2d(CHANNELS[3])
        self.fc = nn.Linear(CHANNELS[3] * FINAL_SIDE**2, dimension)
        self.features = nn.BatchNorm1d(dimension)
        self.features.weight.requires_grad = False  # fixed at 1: the margin loss normalises the length anyway
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embeddings: Tensor = self.features(self.fc(torch.flatten(self.bn2(x), 1)))
        return embeddings


def _layer(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Block(channels_in, channels, 2), *(Block(channels, channels, 1) for _ in range(1, blocks)))


def r18() -> nn.Module:
    """IResNet-18, 24.0 M parameters."""
    return IResNet((2, 2, 2, 2))


def r34() -> nn.Module:
    """IResNet-34, 34.1 M parameters."""
    return IResNet((3, 4, 6, 3))


def r50() -> nn.Module:
    """IResNet-50, 43.6 M parameters."""
    return IResNet((3, 4, 14, 3))


def r100() -> nn.Module:
    """IResNet-100, 65.2 M parameters."""
    return IResNet((3, 13, 30, 3))


def r200() -> nn.Module:
    """IResNet-200, 118.5 M parameters."""
    return IResNet((6, 26, 60, 6))
