"""Networks: loading them to run, and as graphs to train and quantize."""

from facecore.models.backbone import Backbone, embed_pixels
from facecore.models.load import load_backbone, load_onnx
from facecore.models.onnx_backbone import record_preprocess, session_options
from facecore.models.onnx_network import OnnxNetwork
from facecore.models.packed import packed
from facecore.models.torch_backbone import ARCHITECTURES
from facecore.models.torch_to_onnx import to_onnx

__all__ = [
    "ARCHITECTURES",
    "Backbone",
    "OnnxNetwork",
    "embed_pixels",
    "load_backbone",
    "load_onnx",
    "packed",
    "record_preprocess",
    "session_options",
    "to_onnx",
]
