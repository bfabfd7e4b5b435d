"""Networks below 8 bits as files of their honest size: integers in as few bits as they need, in safetensors.

A file holds what `packed` was given, bit for bit: `graph`, the ONNX model without its large constants, deflated; every
large constant under its own name; of integers, their bit planes: row i of (bits, ceil(n / 8)) bytes holds bit i of
each, eight to a byte, the first in the highest bit, in two's complement.
"""

import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import safetensors
import safetensors.numpy
from onnx import numpy_helper

from facecore.errors import ModelError
from facecore.models.backbone import first_line

GRAPH = "graph"
SMALL = 16  # bytes up to which a constant stays in the graph: its entry in the file would be larger than itself
IN_PLANES = (np.int8, np.int32)
MAX_GRAPH = 1 << 26  # bytes of a graph without its constants; that of r200 has under one MiB


def packed(model: onnx.ModelProto) -> bytes:
    """The bytes of a .safetensors file that `unpacked` turns back into the same model."""
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    tensors: dict[str, npt.NDArray[np.generic]] = {}
    for tensor in rest.graph.initializer:
        if len(tensor.raw_data) > SMALL:
            values = numpy_helper.to_array(tensor)
            tensors[tensor.name] = to_planes(values) if values.dtype in IN_PLANES else np.ascontiguousarray(values)
            tensor.ClearField("raw_data")
    graph = zlib.compress(rest.SerializeToString(deterministic=True), 9)
    return bytes(safetensors.numpy.save({GRAPH: np.frombuffer(graph, np.uint8), **tensors}))


def unpacked(path: Path) -> onnx.ModelProto:
    """The model of a file that `packed` made; raises ModelError if it is none."""
    try:
        tensors = safetensors.numpy.load_file(path)
        model = onnx.ModelProto.FromString(_inflated(tensors[GRAPH].tobytes()))
        for tensor in model.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise ValueError(f"{tensor.name} lies in another file")
            if tensor.name in tensors:
                dtype, values = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type), tensors[tensor.name]
                if dtype in IN_PLANES:
                    values = from_planes(values, math.prod(tensor.dims))
                tensor.raw_data = values.reshape(tuple(tensor.dims)).astype(dtype, casting="same_kind").tobytes()
    except Exception as error:  # safetensors, zlib, protobuf and numpy each raise their own
        raise ModelError(
            f"{path} is not a network that facecore packed ({first_line(error)}); "
            "name the model.safetensors that facecore quantize wrote"
        ) from error
    return model


def _inflated(data: bytes) -> bytes:
    """What was deflated; raises ValueError if it is larger than any graph, which a few KB may claim to be."""
    inflate = zlib.decompressobj()
    graph = inflate.decompress(data, MAX_GRAPH)
    if not inflate.eof:
        raise ValueError(f"its graph is cut short, or larger than {MAX_GRAPH:,} bytes")
    return graph


def to_planes(integers: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Signed integers of any shape as bit planes (bits, ceil(n / 8)), as many as the largest of them needs."""
    flat = integers.reshape(-1)
    bits = bits_of(flat)
    return np.stack([np.packbits((flat >> bit & 1).astype(np.uint8)) for bit in range(bits)])


def from_planes(planes: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int64]:
    """The integers (count,) that `to_planes` was given; raises ValueError if there are not as many."""
    if planes.ndim != 2 or planes.shape[1] != -(-count // 8):
        raise ValueError(f"{count:,} integers do not come from planes of shape {planes.shape}")
    values = np.zeros(count, np.int64)
    for bit, plane in enumerate(planes):
        values |= np.unpackbits(plane, count=count).astype(np.int64) << bit
    sign = 1 << (len(planes) - 1)
    return (values ^ sign) - sign


def bits_of(integers: npt.NDArray[np.integer]) -> int:
    """The fewest bits, 1 to 32, that hold all of them in two's complement."""
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    return 1 + max(high, ~low).bit_length()
