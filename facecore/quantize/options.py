"""The options of quantization, checked on construction."""

import math
from dataclasses import dataclass, field

from facecore.errors import OptionError
from facecore.images import Preprocess
from facecore.quantize.bits import Bits
from facecore.quantize.distill import Schedule
from facecore.quantize.losses import LOSSES
from facecore.quantize.ranges import RANGES


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize and fine-tune."""

    bits: Bits = field(
        default_factory=Bits, metadata={"help": "Per weight and activation, w8a8 to w2a2.", "parse": Bits.parse}
    )
    edges_8_bit: bool = field(
        default=False, metadata={"help": "8 bits for the weights of the first and last layer, and what the last reads."}
    )
    ranges: str = field(
        default="mse", metadata={"help": f"How calibration finds the ranges of activations: {', '.join(RANGES)}."}
    )
    sparsity: float = field(
        default=0.0,
        metadata={"help": "Fraction of the parameters to prune first, by channel; as many steps again make up for it."},
    )
    loss: str = field(default="cosine", metadata={"help": f"What is fine-tuned for: {', '.join(LOSSES)}."})
    ekd_weight: float = field(default=1.0, metadata={"help": "Of the ranks beside the embeddings, for --loss ekd."})
    epochs: float = field(default=1.0, metadata={"help": "Times every face is used; a fraction is allowed."})
    steps: int | None = field(default=None, metadata={"help": "Optimizer steps, instead of epochs."})
    batch_size: int = field(default=32, metadata={"help": "Faces in a step."})
    learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Quantization steps that a weight moves in an optimizer step, at the most.  "
            "[default: 0.002 at 8 bits, 0.006 at 6, 0.02 at 4]"
        },
    )
    warm_up: float = field(default=0.05, metadata={"help": "Fraction of the steps in which the rate rises."})
    held_out: int = field(
        default=256, metadata={"help": "Faces not trained on but measured, a tenth of the data set at the most."}
    )
    patience: int | None = field(
        default=None, metadata={"help": "Stop after so many checkpoints without a better cosine on the held-out faces."}
    )
    checkpoint_every: int = field(default=100, metadata={"help": "Steps between two checkpoints."})
    calibration_faces: int = field(default=512, metadata={"help": "Faces whose activations set the ranges."})
    seed: int = field(default=0, metadata={"help": "Of the faces held out, the order of the others and the flips."})
    workers: int = field(default=2, metadata={"help": "Threads that read and decode images."})
    max_rejected: float = field(default=0.01, metadata={"help": "Stop when more than this fraction is rejected."})
    preprocess: Preprocess | None = None  # None: as the network's file, else the manifest's maker, recorded it

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epochs) and self.epochs >= 0):
            raise OptionError(f"epochs must be 0 or more, got {self.epochs:g}")
        for name, least in (("calibration_faces", 1), ("workers", 1), ("patience", 1), ("checkpoint_every", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} must be at least {least}, got {value}")
        for name, table in (("ranges", RANGES), ("loss", LOSSES)):
            if getattr(self, name) not in table:
                raise OptionError(f"no {name} {getattr(self, name)}; there are {', '.join(table)}")
        if not 0 <= self.sparsity < 1:
            raise OptionError(f"sparsity is the fraction of the parameters to prune, in [0, 1); got {self.sparsity:g}")
        if self.held_out < 0:
            raise OptionError(f"held_out must be 0 or more, got {self.held_out}")
        if not (math.isfinite(self.ekd_weight) and self.ekd_weight >= 0):
            raise OptionError(f"ekd_weight must be 0 or more, got {self.ekd_weight:g}")
        if not 0 <= self.max_rejected <= 1:
            raise OptionError(
                f"max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got {self.max_rejected}"
            )
        self.schedule(1)

    def schedule(self, faces: int) -> Schedule:
        """The steps that the epochs come to on this many faces, and the rate."""
        steps = math.ceil(self.epochs * faces / max(1, self.batch_size)) if self.steps is None else self.steps
        rate = self.learning_rate
        if (
            rate is None
        ):  # measured at 8, 6 and 4 bits on MobileFaceNet; a step is a larger part of a weight at few bits
            rate = 0.002 * 10 ** ((8 - min(self.bits.weights, self.bits.activations)) / 4)
        return Schedule(steps, self.batch_size, rate, self.warm_up, self.seed)
