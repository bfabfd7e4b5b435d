"""A network small enough to be trained in a minute on two cores."""

from torch import Tensor, nn

from facecore.models.mobilefacenet import ConvBlock, DepthWise


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
