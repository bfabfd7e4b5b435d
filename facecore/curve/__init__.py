"""Accuracy against the fraction of the data: a sweep of select, quantize and verify."""

from facecore.curve.options import CurveOptions, Point, parse_fractions
from facecore.curve.pools import Order, Store
from facecore.curve.results import Results
from facecore.curve.run import curve
from facecore.curve.sweep import Sweep
from facecore.curve.table import text_of

__all__ = ["CurveOptions", "Order", "Point", "Results", "Store", "Sweep", "curve", "parse_fractions", "text_of"]
