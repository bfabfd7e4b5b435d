"""Images made from a network alone: those whose statistics at every BatchNorm are the ones that it remembers.

ZeroQ (Cai et al. 2020, arXiv 2001.00281) and DeepInversion (Yin et al. 2020, arXiv 1912.08795), without labels.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facecore.images import Pixels, Preprocess
from facecore.models.torch_backbone import best_device
from facecore.provenance import sha256_of_file
from facecore.synthesis.options import FROM_MODEL, SynthesisOptions
from facecore.synthesis.statistics import Remembering, load_remembering
from facecore.synthesis.streams import BEGINNINGS, stream

SMOOTHNESS = 1.0  # weight of the total variation of pixels in [0, 1]
DIVERSITY = 1.0  # weight of the squared cosines above 0
RATE = 0.05  # of Adam, falling to 0 on half a cosine; pixels are in [0, 1]
SHIFT = 2  # pixels that the images are moved at the most in each step, so that no pattern fits one grid

COARSE = 8  # squares across, in which the images begin

log = logging.getLogger(__name__)


class FromModel:
    """Images made from the network in a file; raises ModelError if it remembers no statistics."""

    name: ClassVar[str] = FROM_MODEL

    def __init__(self, path: Path, options: SynthesisOptions, *, arch: str | None) -> None:
        self._network, self._options = load_remembering(path, arch=arch), options
        self.inputs: Mapping[str, str] = {"model": sha256_of_file(path)}
        self.batch = options.batch_size
        self.facts: Mapping[str, Any] = {"batch_norms": len(self._network)}

    def faces(self, number: int) -> Pixels:
        """See `Source`."""
        random = stream(self._options.seed, BEGINNINGS, number)
        preprocess = self._options.preprocess or self._network.preprocess or Preprocess()
        begin = _beginnings(random, self.batch, self._network.size)
        images, distances = invert(
            self._network, begin, steps=self._options.steps, preprocess=preprocess, seed=int(random.integers(2**31))
        )
        log.info("batch %d: distance to the statistics %.3f, at first %.3f", number, distances[-1], distances[0])
        return np.asarray((images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())


def _beginnings(random: np.random.Generator, count: int, size: int) -> Tensor:
    """Smooth random shades, nearly grey (count, 3, size, size) in [0, 1].

    The statistics hardly tell one hue from another: grain and bright colours, once there, would stay.
    """
    shade, hue = (
        random.normal(0.45, 0.2, (count, 1, COARSE, COARSE)),
        random.normal(0, 0.04, (count, 3, COARSE, COARSE)),
    )
    coarse = torch.from_numpy((shade + hue).astype(np.float32))
    fine = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return fine.clamp(0, 1).to(best_device())


def invert(
    network: Remembering, begin: Tensor, *, steps: int, preprocess: Preprocess, seed: int
) -> tuple[Tensor, list[float]]:
    """Images (n, 3, size, size) in [0, 1] made from others, n at least 2, and the distance to the statistics by step.

    A function of the arguments alone on one machine.
    """
    random = torch.Generator().manual_seed(seed)
    images = begin.clone().requires_grad_()
    optimizer = torch.optim.Adam([images], RATE, betas=(0.5, 0.9))
    distances = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        embeddings, distance = network(_as_input(_moved(images, random), preprocess))
        loss = distance + SMOOTHNESS * _variation(images) + DIVERSITY * _likeness(embeddings)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
        distances.append(distance.item())
    return images.detach(), distances


def _moved(images: Tensor, random: torch.Generator) -> Tensor:
    """All images shifted by the same few pixels, and every other time mirrored."""
    across, down, mirrored = torch.randint(0, 2 * SHIFT + 1, (3,), generator=random).tolist()
    moved = images.roll((down - SHIFT, across - SHIFT), (2, 3))
    return moved.flip(3) if mirrored % 2 else moved


def _as_input(images: Tensor, preprocess: Preprocess) -> Tensor:
    channels = images.flip(1) if preprocess.bgr else images
    return (channels * 255 - preprocess.mean) / preprocess.scale


def _variation(images: Tensor) -> Tensor:
    """The mean step from a pixel to the next."""
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()


def _likeness(embeddings: Tensor) -> Tensor:
    """The mean square of what two images' cosine is above 0."""
    units = F.normalize(embeddings)
    cosines = (units @ units.T).triu(1).clamp(min=0)
    return (cosines**2).sum() * 2 / (len(units) * (len(units) - 1))
