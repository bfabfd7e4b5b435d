"""MobileFaceNet; parameters are named as in InsightFace's arcface_torch (mbf and mbf_large)."""

from collections.abc import Sequence

from torch import Tensor, nn


class ConvBlock(nn.Module):
    """A convolution, its normalisation, and PReLU unless `linear`."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        # every 3 x 3 kernel keeps the side, every other one (1 x 1, and the final 7 x 7) is unpadded
        padding = 1 if kernel == 3 else 0
        conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False)
        activation = [] if linear else [nn.PReLU(channels)]
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(channels), *activation)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) to (n, channels, h', w')."""
        out: Tensor = self.layers(x)
        return out


class DepthWise(nn.Module):
    """The inverted bottleneck: widen to `groups` channels, convolve each by itself, narrow again without activation."""

    def __init__(self, channels_in: int, channels: int, *, groups: int, stride: int, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(
            ConvBlock(channels_in, groups, 1),
            ConvBlock(groups, groups, 3, stride=stride, groups=groups),
            ConvBlock(groups, channels, 1, linear=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels_in, h, w) to (n, channels, h / stride, w / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class Residual(nn.Module):
    """Inverted bottlenecks of one width, each added to its input."""

    def __init__(self, channels: int, blocks: int, *, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(DepthWise(channels, channels, groups=groups, stride=1, residual=True) for _ in range(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) to the same shape."""
        out: Tensor = self.layers(x)
        return out


class EmbeddingHead(nn.Module):
    """A 7 x 7 convolution of each channel by itself, and one linear layer: (n, 512, 7, 7) to (n, dimension)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvBlock(512, 512, 7, groups=512, linear=True),
            nn.Flatten(),
            nn.Linear(512, dimension, bias=False),
            nn.BatchNorm1d(dimension),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        out: Tensor = self.layers(x)
        return out


class MobileFaceNet(nn.Module):
    """Inverted bottlenecks in four stages, from (n, 3, 112, 112) to (n, dimension); `scale` widens them all."""

    def __init__(self, blocks: Sequence[int], scale: int, dimension: int = 512) -> None:
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        second = ConvBlock(narrow, narrow, 3, groups=64) if blocks[0] == 1 else Residual(narrow, blocks[0], groups=128)
        self.layers = nn.ModuleList(
            [
                ConvBlock(3, narrow, 3, stride=2),
                second,
                DepthWise(narrow, narrow, groups=128, stride=2),
                Residual(narrow, blocks[1], groups=128),
                DepthWise(narrow, wide, groups=256, stride=2),
                Residual(wide, blocks[2], groups=256),
                DepthWise(wide, wide, groups=512, stride=2),
                Residual(wide, blocks[3], groups=256),
            ]
        )
        self.conv_sep = ConvBlock(wide, 512, 1)
        self.features = EmbeddingHead(dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        for layer in self.layers:
            x = layer(x)
        embeddings: Tensor = self.features(self.conv_sep(x))
        return embeddings


def mbf() -> nn.Module:
    """MobileFaceNet as arcface_torch's `mbf`."""
    return MobileFaceNet((1, 4, 6, 2), scale=2)


def mbf_large() -> nn.Module:
    """MobileFaceNet as arcface_torch's `mbf_large`: twice the blocks, twice the width."""
    return MobileFaceNet((2, 8, 12, 4), scale=4)
