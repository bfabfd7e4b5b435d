"""Low-bit networks: calibration, fine-tuning by distillation, and integer models that run."""

from facecore.quantize.bits import Bits
from facecore.quantize.options import QuantizeOptions
from facecore.quantize.run import quantize
from facecore.quantize.summary import summary

__all__ = ["Bits", "QuantizeOptions", "quantize", "summary"]
