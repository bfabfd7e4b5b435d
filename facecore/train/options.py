"""The options of training, checked on construction."""

import math
from dataclasses import dataclass, field

from facecore.errors import OptionError, check_seed
from facecore.models import ARCHITECTURES
from facecore.train.augment import AUGMENTATIONS, augmentations_of
from facecore.train.head import LOSSES
from facecore.train.sampling import SAMPLINGS
from facecore.train.schedule import DECAYS

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainOptions:
    """What to train, on how much of the data set, and how."""

    arch: str = field(default="mbf", metadata={"help": f"Network to train: {', '.join(ARCHITECTURES)}."})
    identities: float | None = field(default=None, metadata={"help": "Train on this share of the identities, drawn."})
    faces: float | None = field(default=None, metadata={"help": "Train on this share of the faces, drawn."})
    loss: str = field(default="cosface", metadata={"help": f"Margin softmax: {', '.join(LOSSES)}."})
    margin: float | None = field(
        default=None,
        metadata={"help": "To the own class: a cosine (cosface) or radians (arcface).  [default: 0.35, 0.5]"},
    )
    scale: float = field(default=64.0, metadata={"help": "Factor on the cosines before the softmax."})
    sample_classes: float = field(
        default=1.0,
        metadata={"help": "Classes that a step compares with: a share up to 1, or a number from 2 on (Partial FC)."},
    )
    sampling: str = field(
        default="plain",
        metadata={"help": f"{SAMPLINGS[0]}: every face once an epoch; {SAMPLINGS[1]}: every identity alike."},
    )
    epochs: float = field(default=20.0, metadata={"help": "Times every face is used; a fraction is allowed."})
    steps: int | None = field(default=None, metadata={"help": "Optimizer steps, instead of epochs."})
    batch_size: int = field(default=128, metadata={"help": "Faces in a step, of all processes together."})
    learning_rate: float = field(default=0.1, metadata={"help": "Its peak."})
    decay: str = field(default="polynomial", metadata={"help": f"How the learning rate falls: {', '.join(DECAYS)}."})
    warm_up: float = field(default=0.05, metadata={"help": "Fraction of the steps in which it rises first."})
    weight_decay: float = field(default=5e-4, metadata={"help": "Of all parameters."})
    clip: float = field(default=5.0, metadata={"help": "Longest gradient; a longer one is shortened to it."})
    flip: bool = field(default=True, metadata={"help": "Mirror every other face, drawn."})
    augment: str = field(
        default="", metadata={"help": f"Of {', '.join(AUGMENTATIONS)}, with commas between: what else to do to faces."}
    )
    augment_share: float = field(default=0.2, metadata={"help": "Share of the faces that each of these is done to."})
    precision: str = field(
        default="auto", metadata={"help": f"Of the network's arithmetic: {', '.join(PRECISIONS)} (bfloat16 on a GPU)."}
    )
    checkpoint_every: int | None = field(
        default=None, metadata={"help": "Steps between two checkpoints.  [default: an epoch]"}
    )
    seed: int = field(default=0, metadata={"help": "Of the share, the first weights, the order and every draw."})
    workers: int = field(default=2, metadata={"help": "Threads that read, decode and augment faces ahead."})
    max_rejected: float = field(default=0.01, metadata={"help": "Stop when more than this fraction is rejected."})

    def __post_init__(self) -> None:
        self._check_names()
        self._check_shares()
        for name in ("epochs", "learning_rate", "scale", "clip", "weight_decay"):
            if not math.isfinite(getattr(self, name)):
                raise OptionError(f"{name} must be finite, got {getattr(self, name):g}")
            if getattr(self, name) <= 0 and name != "weight_decay":
                raise OptionError(f"{name} must be above 0, got {getattr(self, name):g}")
        if self.weight_decay < 0:
            raise OptionError(f"weight_decay must be 0 or more, got {self.weight_decay:g}")
        for name, least in (("steps", 1), ("checkpoint_every", 1), ("workers", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} must be at least {least}, got {value}")
        check_seed(self.seed)
        if self.batch_size < 2:
            raise OptionError(f"batch_size must be at least 2, batches are normalised; got {self.batch_size}")
        LOSSES[self.loss].check(self.angle_or_cosine)

    def _check_names(self) -> None:
        for name, known in (
            ("arch", ARCHITECTURES),
            ("loss", LOSSES),
            ("sampling", SAMPLINGS),
            ("decay", DECAYS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} must be one of {', '.join(known)}; got {getattr(self, name)}")
        augmentations_of(self.augment)

    def _check_shares(self) -> None:
        if self.identities is not None and self.faces is not None:
            raise OptionError("identities and faces are two ways to take a share of the data set; give one")
        for name in ("identities", "faces"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise OptionError(f"{name} is the share to train on, in (0, 1]; got {share:g}")
        if not (0 < self.sample_classes <= 1 or (self.sample_classes > 1 and self.sample_classes % 1 == 0)):
            raise OptionError(
                f"sample_classes is a share of the classes, in (0, 1], or a whole number of them; got "
                f"{self.sample_classes:g}"
            )
        for name in ("warm_up", "augment_share", "max_rejected"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is a fraction, in [0, 1]; got {getattr(self, name):g}")
        if self.augment_share != 0.2 and not self.augment:
            raise OptionError("augment_share is of what --augment does, and that is nothing; leave it out")

    @property
    def angle_or_cosine(self) -> float:
        """The margin, in the unit of the loss."""
        return LOSSES[self.loss].margin if self.margin is None else self.margin
