"""The options of quantization, checked on construction."""

import math
from dataclasses import dataclass, field

from facecore.errors import OptionError, check_max_rejected
from facecore.images import Preprocess
from facecore.quantize.bits import Bits
from facecore.quantize.distill import Schedule
from facecore.quantize.losses import LOSSES
from facecore.quantize.ranges import RANGES

FLOAT_RATE = 0.1
"""Of training a pruned network in floats, in 8-bit steps.

With 0.3 of the real MobileFaceNet pruned and reconstructed (cosine 0.69), 120 steps at 0.03 and 0.1 led to 0.76 and
0.79, 80 at 0.3 to 0.74.
"""


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantize and fine-tune."""

    bits: Bits = field(
        default_factory=Bits,
        metadata={"help": "Per weight and activation, w8a8 to w2a2; float only prunes.", "parse": Bits.parse},
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
            f"[default: 0.002 at 8 bits, 0.006 at 6, 0.02 at 4; {FLOAT_RATE} of an 8-bit step in floats]"
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
        for name in ("epochs", "ekd_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise OptionError(f"{name} must be 0 or more, got {value:g}")
        for name in ("calibration_faces", "workers", "patience", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} must be at least 1, got {value}")
        for name, table in (("ranges", RANGES), ("loss", LOSSES)):
            if getattr(self, name) not in table:
                raise OptionError(f"no {name} {getattr(self, name)}; there are {', '.join(table)}")
        if self.ekd_weight != 1 and self.loss != "ekd":
            raise OptionError(f"ekd_weight is of --loss ekd, not of {self.loss}; leave it out")
        if self.held_out < 0:
            raise OptionError(f"held_out must be 0 or more, got {self.held_out}")
        check_max_rejected(self.max_rejected)
        self._check_sparsity()
        self.schedule(1)

    def _check_sparsity(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise OptionError(f"sparsity is the fraction of the parameters to prune, in [0, 1); got {self.sparsity:g}")
        if self.bits.is_float and self.edges_8_bit:
            raise OptionError("edges_8_bit is of integer networks, but bits are float; leave it out")
        if self.bits.is_float and not self.sparsity:
            raise OptionError("bits float quantizes nothing and sparsity 0 prunes nothing; ask for one of them")

    def schedule(self, faces: int) -> Schedule:
        """The steps that the epochs come to on this many faces, and the rate."""
        steps = math.ceil(self.epochs * faces / max(1, self.batch_size)) if self.steps is None else self.steps
        rate = _usual_rate(self.bits) if self.learning_rate is None else self.learning_rate
        return Schedule(steps, self.batch_size, rate, self.warm_up, self.seed)


def _usual_rate(bits: Bits) -> float:
    """As measured on MobileFaceNet at 8, 6 and 4 bits: a step is ever more of a weight."""
    return FLOAT_RATE if bits.is_float else 0.002 * 10 ** ((8 - min(bits.weights, bits.activations)) / 4)
