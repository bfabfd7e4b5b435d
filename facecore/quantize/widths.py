"""Where quantizers stand in a graph, and how many bits each has."""

import onnx

from facecore.errors import ModelError

MATRIX_OPERATORS = ("Conv", "Gemm")
# These move values about without changing them, so their output has the quantizer of their input.
MOVES = ("Flatten", "Reshape", "MaxPool", "Transpose", "Squeeze")
CLAMPS = ("Relu", "Clip")


def activation_bits(graph: onnx.GraphProto, bits: int, *, edges_8_bit: bool = False) -> dict[str, int]:
    """The tensors that are quantized, each with its bits: the input, and what every operator puts out.

    What a ReLU or Clip alone will clamp is left out, since the integer range clamps it. What no convolution or matrix
    product reads, and the input, always have 8 bits: they are accumulators put back to a byte.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    last = matrices(graph)[-1:] if edges_8_bit else []

    def width(name: str) -> int:
        """The bits of the widest product that reads a tensor, itself or moved; 8 if none does."""
        found = [8 if node in last else bits for node in readers.get(name, []) if node.op_type in MATRIX_OPERATORS]
        moved = [width(node.output[0]) for node in readers.get(name, []) if node.op_type in MOVES and _read(node)]
        return max(found + moved, default=8)

    def _read(node: onnx.NodeProto) -> bool:
        return bool(readers.get(node.output[0]))

    constants = {tensor.name for tensor in graph.initializer}
    quantized = {value.name: 8 for value in graph.input if value.name not in constants}
    for node in graph.node:
        name = node.output[0]
        clamped = name in readers and all(reader.op_type in CLAMPS for reader in readers[name])
        if node.op_type not in MOVES and not clamped:
            quantized[name] = width(name)
    return quantized


def weight_bits(graph: onnx.GraphProto, bits: int, *, edges_8_bit: bool = False) -> dict[str, int]:
    """The weights of every convolution and matrix product, each with its bits."""
    nodes = matrices(graph)
    edges = [nodes[0], nodes[-1]] if edges_8_bit and nodes else []
    return {node.input[1]: 8 if node in edges else bits for node in nodes}


def matrices(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The convolutions and matrix products, in order of computation."""
    return [node for node in graph.node if node.op_type in MATRIX_OPERATORS]


def check_products(graph: onnx.GraphProto) -> None:
    """Raise ModelError if there is nothing to quantize."""
    if not matrices(graph):
        raise ModelError("the network has no convolution or matrix product, so there is nothing to quantize")


def apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in which products read a copy of what others read too, so that it can have fewer bits.

    A residual sum then keeps 8 bits on its way to the next sum, however few the convolutions beside it read.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    others = {
        name for node in model.graph.node if node.op_type not in (*MATRIX_OPERATORS, *MOVES) for name in node.input
    }
    made = {node.output[0] for node in model.graph.node}
    shared = {node.input[0] for node in matrices(model.graph)} & others & made
    del result.graph.node[:]
    for node in model.graph.node:
        copy = result.graph.node.add()
        copy.CopyFrom(node)
        if node.op_type in MATRIX_OPERATORS and node.input[0] in shared:
            copy.input[0] = f"{node.input[0]}/read"
        if node.output[0] in shared:
            name = node.output[0]
            result.graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}/read"], name=f"{name}/read"))
    return result
