"""Core-set selection: which faces stay, which go, and because of whom."""

from facecore.select.nms import Nms
from facecore.select.run import Selection, dropped_path, select
from facecore.select.selector import Cut, Selector

SELECTORS: dict[str, type[Selector]] = {Nms.name: Nms}

__all__ = ["SELECTORS", "Cut", "Nms", "Selection", "Selector", "dropped_path", "select"]
