"""Core-set selection: which faces stay, which go, and because of whom."""

from facecore.select.nms import Nms
from facecore.select.run import Selection, select
from facecore.select.selector import Cut, Cutter, Fates, Limits, Selector
from facecore.select.write import dropped_path

SELECTORS: dict[str, type[Selector]] = {Nms.name: Nms}

__all__ = [
    "SELECTORS",
    "Cut",
    "Cutter",
    "Fates",
    "Limits",
    "Nms",
    "Selection",
    "Selector",
    "dropped_path",
    "select",
]
