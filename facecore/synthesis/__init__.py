"""Faces that nobody had to photograph."""

from facecore.synthesis.drawn import Drawn, DrawOptions, draw_dataset

__all__ = ["DrawOptions", "Drawn", "draw_dataset"]
