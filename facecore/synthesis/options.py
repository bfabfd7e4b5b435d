"""The options of synthesis, checked on construction."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

from facecore.errors import OptionError, check_seed
from facecore.images import Preprocess

GENERATOR, FROM_MODEL, PARAMETRIC = "generator", "from-model", "parametric"
RANGES = {"-1,1": (-1.0, 1.0), "0,1": (0.0, 1.0), "0,255": (0.0, 255.0)}  # what black and white are


def parse_latent(text: str) -> tuple[int, ...]:
    """The shape that 512 or 512x1x1 says; raises OptionError on any other text."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise OptionError(f"latent is a shape without the batch, as 512 or 512x1x1; got {text!r}")
    return tuple(int(side) for side in text.split("x"))


@dataclass(frozen=True)
class SynthesisOptions:
    """How faces are made; `source` in a field's metadata names the one source that it is of."""

    size: int = field(default=112, metadata={"help": "Side of the images to write, in pixels."})
    seed: int = field(default=0, metadata={"help": "Another seed makes other faces."})
    batch_size: int = field(default=32, metadata={"help": "Faces made together."})
    crop: float = field(
        default=1.0,
        metadata={"help": "Of --generator: fraction of its images to keep, about the middle.", "source": GENERATOR},
    )
    range: str = field(
        default="auto",
        metadata={"help": f"Of --generator: black and white, auto or {' or '.join(RANGES)}.", "source": GENERATOR},
    )
    latent: str | None = field(
        default=None,
        metadata={"help": "Of --generator: the latent's shape, if the file does not say: 512.", "source": GENERATOR},
    )
    classes: int | None = field(
        default=None,
        metadata={"help": "Of --generator: how many classes it knows, if the file does not say.", "source": GENERATOR},
    )
    truncation: float = field(
        default=1.0, metadata={"help": "Of --generator: psi, for those that take it.", "source": GENERATOR}
    )
    steps: int = field(
        default=50, metadata={"help": "Of --from-model: steps to optimise each batch for.", "source": FROM_MODEL}
    )
    min_norm: float | None = field(default=None, metadata={"help": "With --teacher: drop faces below this norm."})
    max_cosine: float | None = field(
        default=None, metadata={"help": "With --teacher: drop faces above this cosine to another."}
    )
    preprocess: Preprocess | None = None  # of the network of --from-model or --teacher; None: as its file says

    def __post_init__(self) -> None:
        for name, least in (("size", 8), ("batch_size", 2), ("steps", 1), ("classes", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise OptionError(f"{name} must be at least {least}, got {value}")
        check_seed(self.seed)
        if not 0 < self.crop <= 1:
            raise OptionError(f"crop is the fraction of an image to keep, in (0, 1]; got {self.crop:g}")
        if self.range not in ("auto", *RANGES):
            raise OptionError(f"range must be auto or one of {' and '.join(RANGES)}; got {self.range}")
        if self.latent is not None:
            parse_latent(self.latent)
        if not 0 <= self.truncation < float("inf"):
            raise OptionError(f"truncation must be 0 or more, got {self.truncation:g}")
        if self.min_norm is not None and not 0 < self.min_norm < float("inf"):
            raise OptionError(f"min_norm is the length of an embedding, above 0; got {self.min_norm:g}")
        if self.max_cosine is not None and not -1 <= self.max_cosine < 1:
            raise OptionError(f"max_cosine is a cosine, in [-1, 1); got {self.max_cosine:g}")

    def check_source(self, source: str) -> None:
        """Raise OptionError if an option of another source than this was given."""
        for part in dataclasses.fields(self):
            of = part.metadata.get("source", source)
            if of != source and getattr(self, part.name) != part.default:
                raise OptionError(f"--{part.name.replace('_', '-')} is of --{of}, not of --{source}; leave it out")

    def recorded(self, source: str) -> dict[str, Any]:
        """The options that this source depends on."""
        values = dataclasses.asdict(self)
        return {
            part.name: values[part.name]
            for part in dataclasses.fields(self)
            if part.metadata.get("source", source) == source
        }
