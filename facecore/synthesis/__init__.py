"""Faces that nobody had to photograph."""

from facecore.synthesis.drawn import Drawn, DrawOptions, draw_dataset
from facecore.synthesis.options import SynthesisOptions
from facecore.synthesis.run import Origin, Synthesis, synthesize

__all__ = ["DrawOptions", "Drawn", "Origin", "Synthesis", "SynthesisOptions", "draw_dataset", "synthesize"]
