"""What faces are made by: a source makes them in batches, each a function of its options and the batch's number."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np

from facecore.images import Pixels
from facecore.synthesis.face import a_person, a_shot
from facecore.synthesis.options import PARAMETRIC, SynthesisOptions
from facecore.synthesis.paint import draw_face
from facecore.synthesis.streams import LONE_PEOPLE, LONE_SHOTS, stream

# Drawn heads fill the picture; in ArcFace's crops eyes and mouth do, and a network's ranges are those of such crops:
# calibrated on 64 faces, w8a8 of a real MobileFaceNet has a cosine of 0.988 to it instead of 0.983, on real faces.
CLOSER, HIGHER = 1.25, 3.0  # a factor, and pixels


class Source(Protocol):
    """Face i is row i % batch of batch i // batch, so that more faces begin with those that fewer are."""

    name: ClassVar[str]  # as the command's option
    batch: int
    inputs: Mapping[str, str]  # sha256 of the files that it is made of
    facts: Mapping[str, Any]  # what was found out about them

    def faces(self, number: int) -> Pixels:
        """The batch of this number, (batch, height, width, 3)."""
        ...


class Parametric:
    """Faces drawn here, each of somebody else."""

    name: ClassVar[str] = PARAMETRIC

    def __init__(self, options: SynthesisOptions) -> None:
        self.inputs: Mapping[str, str] = {}
        self.facts: Mapping[str, Any] = {}
        self.batch, self._seed = options.batch_size, options.seed

    def faces(self, number: int) -> Pixels:
        """See `Source`."""
        return np.stack([self._face(number * self.batch + place) for place in range(self.batch)])

    def _face(self, face: int) -> Pixels:
        person, shot = a_person(stream(self._seed, LONE_PEOPLE, face)), a_shot(stream(self._seed, LONE_SHOTS, face))
        return draw_face(person, replace(shot, scale=shot.scale * CLOSER, shift_y=shot.shift_y - HIGHER))
