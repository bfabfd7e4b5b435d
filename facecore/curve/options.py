"""What a sweep goes through, and the rule of what each point may cost."""

import dataclasses
from dataclasses import dataclass, field
from typing import NamedTuple

from facecore.errors import OptionError
from facecore.quantize import QuantizeOptions
from facecore.select import faces_to_keep

BUDGETS = ("epochs", "steps")
ALL = "all"  # the method of the fraction 1: nothing is left to choose, so it is one point for all methods


class Point(NamedTuple):
    """One network of a sweep."""

    method: str
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """What its folder is called."""
        return f"{self.method.replace(':', '-')}-{self.fraction:g}-s{self.seed}"

    def __str__(self) -> str:
        return f"{self.method} {self.fraction:g}, seed {self.seed}"


@dataclass(frozen=True)
class CurveOptions:
    """The fractions, the seeds, and how every point is quantized.

    The seeds are that of `quantize` and those after it. With the budget `epochs` every point trains as many epochs over
    its own faces: the cost falls with the data. With `steps` all take as many steps, so only the data differ:
    quantize.steps, or what quantize.epochs come to at the largest fraction. None is `steps` if quantize.steps is given.
    """

    fractions: tuple[float, ...]
    seeds: int = 3
    budget: str | None = None
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)

    def __post_init__(self) -> None:
        if not self.fractions:
            raise OptionError("a curve needs at least one fraction, such as --fractions 0.1,0.5,1")
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise OptionError(f"fractions are of the faces, in (0, 1]; got {fraction:g}")
        names = [f"{fraction:g}" for fraction in self.fractions]
        for name in names:
            if names.count(name) > 1:
                raise OptionError(f"every fraction is run once, but {name} is there {names.count(name)} times")
        object.__setattr__(self, "fractions", tuple(sorted(self.fractions)))
        if self.seeds < 1:
            raise OptionError(f"seeds must be at least 1, got {self.seeds}")
        if self.budget not in (None, *BUDGETS):
            raise OptionError(f"no budget {self.budget}; there are {', '.join(BUDGETS)}")
        if self.budget == "epochs" and self.quantize.steps is not None:
            raise OptionError("--steps is a budget of steps, not of epochs; leave one of --steps and --budget out")
        if self.budget is None:
            object.__setattr__(self, "budget", "epochs" if self.quantize.steps is None else "steps")

    @property
    def seed_range(self) -> range:
        """The seeds themselves."""
        return range(self.quantize.seed, self.quantize.seed + self.seeds)

    def check_faces(self, faces: int) -> None:
        """Raise OptionError if a fraction of this many faces leaves less than a batch to train on."""
        for fraction in self.fractions:
            count = faces_to_keep(fraction, faces)
            if self._trained(count) < self.quantize.batch_size:
                raise OptionError(
                    f"the fraction {fraction:g} of {faces:,} faces is {count:,}, of which {self._trained(count):,} are "
                    f"trained on: less than a batch of {self.quantize.batch_size}; leave it out, or lower --batch-size"
                )

    def resolved(self, faces: int) -> QuantizeOptions:
        """How to quantize every point, but for its seed, where the whole is this many faces."""
        if self.budget == "epochs":
            return self.quantize
        trained = self._trained(faces_to_keep(self.fractions[-1], faces))
        return dataclasses.replace(self.quantize, steps=self.quantize.schedule(trained).steps)

    def _trained(self, faces: int) -> int:
        """The faces that quantize does not hold out."""
        return faces - min(self.quantize.held_out, faces // 10)


def parse_fractions(text: str) -> tuple[float, ...]:
    """The numbers of a list such as 0.1,0.5,1; raises OptionError on any other text."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"fractions are written as 0.1,0.5,1; got {text!r}") from None
