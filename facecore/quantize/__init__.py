"""Low-bit networks: calibration, fine-tuning by distillation, and integer models that run."""

from facecore.quantize.bits import Bits
from facecore.quantize.report import one_line
from facecore.quantize.run import QuantizeOptions, quantize

__all__ = ["Bits", "QuantizeOptions", "one_line", "quantize"]
