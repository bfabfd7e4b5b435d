"""What a graph computes: the shapes of its tensors, and its multiply-adds."""

import math

import onnx

Shape = tuple[int, ...]


def tensor_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes of all tensors and constants, for one image."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
    return shapes


def multiply_adds(model: onnx.ModelProto) -> tuple[int, int]:
    """The multiply-adds for one image of its convolutions and matrix products: in integers, and all."""
    shapes = tensor_shapes(model)
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    integer = every = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = shapes[node.input[1]]
            count = math.prod(shapes[node.output[0]]) * math.prod(
                weight[1:]
            )  # a Gemm's weight is (out, in), normalised
            every += count
            integer += count if set(node.input[:2]) <= dequantized else 0
    return integer, every
