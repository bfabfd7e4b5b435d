"""Bit widths: how many for weights, how many for activations, or none: a network that stays in floats."""

import re
from dataclasses import dataclass

from facecore.errors import OptionError


@dataclass(frozen=True)
class Bits:
    """Bits per weight and per activation, 2 to 8 each, or 32 for floats; written w8a8, w4a8 and so on, or float."""

    weights: int = 8
    activations: int = 8

    def __post_init__(self) -> None:
        if self.is_float:
            return
        for name, value in (("weight", self.weights), ("activation", self.activations)):
            if not 2 <= value <= 8:
                raise OptionError(f"bits per {name} go from 2 to 8, as in w8a8 or w4a8; got {value}")

    @classmethod
    def parse(cls, text: str) -> "Bits":
        """The widths that a text such as w8a8 names; raises OptionError on any other text."""
        if text.lower() == "float":
            return FLOAT
        match = re.fullmatch(r"w(\d+)a(\d+)", text.lower())
        if not match:
            raise OptionError(f"bits are written as w8a8 or w4a8, or float; got {text!r}")
        return cls(int(match[1]), int(match[2]))

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantized."""
        return self.weights == self.activations == 32

    def __str__(self) -> str:
        return "float" if self.is_float else f"w{self.weights}a{self.activations}"


FLOAT = Bits(32, 32)
