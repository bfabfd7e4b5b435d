"""One form for every inference graph: passes from graph to graph, each of which leaves the embeddings as they are."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from facecore.errors import ModelError
from facecore.models.backbone import first_line
from facecore.models.onnx_backbone import (
    PREPROCESS_KEY,
    TOLERANCE,
    Signature,
    open_session,
    probe_images,
    run_session,
    signature_of,
    with_any_batch,
)
from facecore.models.onnx_graph import ROLES, Graph, Node, check_supported, pruned, read_graph, write_graph

OLDEST_OPSET, NEWEST_OPSET = 17, 21
Shapes = dict[str, tuple[int, ...]]  # of the tensors, for two images

VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
FLAT = Node("Flatten", (), "", {"axis": 1})
INPUT, OUTPUT = "images", "embeddings"


def normalised(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The same network in the one form that facecore trains and quantizes.

    Any number of images at a time; operators of `OPERATORS` only; every Conv and Gemm has a bias; a Gemm is
    x weight' + bias; BatchNormalization only where no Conv or Gemm before it takes it up; constants belong to one node
    each, and names are plain: the tensors `images`, `conv_0`, ..., `embeddings`, the constants `conv_0_weight`, ...
    Raises ModelError if the network is quantized already, or has an operator that facecore cannot train.
    """
    _check_float(model, path)
    session = open_session(model, path)
    signature = signature_of(session, path)
    free = model if signature.batch is None else with_any_batch(model, signature.batch)
    try:
        raised = _in_known_opset(free)
        shapes = _shapes(raised, signature)
        graph = read_graph(raised, output=signature.output, size=signature.size, dimension=signature.dimension)
        graph = _without_identities(graph)
        for rewrite in (_pooled, _flattened):
            graph = rewrite(graph, shapes)
        for simplify in PASSES:
            graph = pruned(simplify(graph))
        check_supported(graph)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key == PREPROCESS_KEY}
    result = write_graph(replace(_renamed(graph), metadata=metadata))
    _check_same(result, session, signature, path)
    return result


def _check_float(model: onnx.ModelProto, path: Path) -> None:
    counts = Counter(node.op_type for node in model.graph.node)
    integer = sorted(op for op in counts if "quantizelinear" in op.lower() or op.startswith("QLinear"))
    if integer:
        raise ModelError(f"{path} is quantized already ({', '.join(integer)}); start from the float network")


def _in_known_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    version = max(versions, default=1)
    wanted = min(max(version, OLDEST_OPSET), NEWEST_OPSET)
    if version == wanted:
        return model
    try:
        return onnx.version_converter.convert_version(model, wanted)
    except Exception as error:  # the converter raises RuntimeError and its own
        raise ModelError(
            f"onnx cannot convert it from opset {version} to {wanted} ({first_line(error)}); export it again"
        ) from error


def _shapes(model: onnx.ModelProto, signature: Signature) -> Shapes:
    """The shapes of all tensors for two images, so that a side can be told from a product."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in fixed.graph.input:
        if value.name == signature.input:
            for dim, side in zip(value.type.tensor_type.shape.dim, (2, 3, signature.size, signature.size), strict=True):
                dim.dim_value = side
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if all(dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }


def _without_identities(graph: Graph) -> Graph:
    """Identity and, in inference, Dropout give what they take."""
    source: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(source.get(name, name) for name in node.inputs)
        if node.op in ("Identity", "Dropout"):
            source[node.output] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    return pruned(replace(graph, nodes=nodes, output=source.get(graph.output, graph.output)))


def _pooled(graph: Graph, shapes: Shapes) -> Graph:
    """A mean over height and width is a GlobalAveragePool, flattened if the axes go; adds to `shapes` what it makes."""
    nodes = []
    for node in graph.nodes:
        axes = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
        before, after = shapes.get(node.inputs[0], ()), shapes.get(node.output, ())
        if node.op == "ReduceMean" and len(before) == 4 and axes is not None and {axis % 4 for axis in axes} == {2, 3}:
            pooled = node.output if len(after) == 4 else f"{node.output}_pooled"
            nodes.append(Node("GlobalAveragePool", node.inputs[:1], pooled))
            shapes[pooled] = (*before[:2], 1, 1)
            if pooled != node.output:
                nodes.append(replace(FLAT, inputs=(pooled,), output=node.output))
        else:
            nodes.append(node)
    return replace(graph, nodes=nodes)


def _flattened(graph: Graph, shapes: Shapes) -> Graph:
    """Whatever turns (n, ...) into (n, d) without reordering is one Flatten, however its shape was computed."""
    origin: dict[str, str] = {}  # of the values in a tensor that is only another view of them
    same: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = replace(node, inputs=tuple(same.get(name, name) for name in node.inputs))
        if node.op in VIEWS:
            origin[node.output] = source = origin.get(node.inputs[0], node.inputs[0])
            before, after = shapes.get(source, ()), shapes.get(node.output, ())
            if before and before == after:
                same[node.output] = source
            elif before and after == (2, int(np.prod(before)) // 2):
                node = replace(FLAT, inputs=(source,), output=node.output)
        nodes.append(node)
    return pruned(replace(graph, nodes=nodes, output=same.get(graph.output, graph.output)))


def _linear(graph: Graph) -> Graph:
    """MatMul with a constant matrix, and every Gemm with constants, as x weight' + bias."""
    nodes: list[Node] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        weight = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if node.op not in ("MatMul", "Gemm") or weight is None or weight.ndim != 2 or node.attributes.get("transA", 0):
            nodes.append(node)
            continue
        scaled = weight.astype(np.float64) * node.attributes.get("alpha", 1.0)
        rows = scaled if node.attributes.get("transB", 0) else scaled.T  # (out, in)
        added = constants.get(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(len(rows))
        if added is None or added.size not in (1, len(rows)):
            nodes.append(node)
            continue
        bias = np.broadcast_to(added.astype(np.float64).reshape(-1) * node.attributes.get("beta", 1.0), len(rows))
        nodes.append(_with_weights(replace(node, op="Gemm", attributes={"transB": 1}), rows, bias, constants))
    return replace(graph, nodes=nodes, constants=constants)


def _with_biases(graph: Graph) -> Graph:
    """A Conv without a bias gets one of zeros, so that there is always one to train and to fold into."""
    nodes: list[Node] = []
    constants = dict(graph.constants)
    for node in graph.nodes:
        if node.op == "Conv" and (len(node.inputs) < 3 or not node.inputs[2]) and node.inputs[1] in constants:
            weight = constants[node.inputs[1]]
            node = _with_weights(node, weight, np.zeros(len(weight)), constants)
        nodes.append(node)
    return replace(graph, nodes=nodes, constants=constants)


def _folded(graph: Graph) -> Graph:
    """BatchNormalization, and Add of a constant vector to a Gemm, taken up by the Conv or Gemm that alone feeds it."""
    uses, constants = graph.uses(), dict(graph.constants)
    nodes: list[Node] = []
    place: dict[str, int] = {}  # of the node that makes a tensor
    for node in graph.nodes:
        at = next((place[name] for name in node.inputs if name in place and uses[name] == 1), None)
        affine = _affine(node, nodes[at], constants) if at is not None else None
        if at is None or affine is None:
            place[node.output] = len(nodes)
            nodes.append(node)
            continue
        gain, offset = affine
        before = nodes[at]
        weight, bias = (constants[name].astype(np.float64) for name in before.inputs[1:3])
        rows = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
        nodes[at] = _with_weights(replace(before, output=node.output), rows, bias * gain + offset, constants)
        place[node.output] = at
    return replace(graph, nodes=nodes, constants=constants)


def _affine(
    node: Node, before: Node, constants: dict[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """The gain and offset a channel by which `node` continues a Conv or Gemm; None if it does something else."""
    if before.op not in ("Conv", "Gemm") or any(name not in constants for name in before.inputs[1:3]):
        return None
    channels = len(constants[before.inputs[1]])
    if node.op == "BatchNormalization" and all(name in constants for name in node.inputs[1:]):
        scale, bias, mean, var = (constants[name].astype(np.float64) for name in node.inputs[1:])
        gain = scale / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
        return gain, bias - mean * gain
    if node.op == "Add" and before.op == "Gemm":
        added = next((constants[name] for name in node.inputs if name in constants), None)
        if added is not None and added.size in (1, channels) and added.shape[-1:] in ((), (added.size,)):
            return np.ones(channels), np.broadcast_to(added.astype(np.float64).reshape(-1), channels)
    return None


def _with_weights(
    node: Node, weight: npt.NDArray[Any], bias: npt.NDArray[Any], constants: dict[str, npt.NDArray[Any]]
) -> Node:
    """The node with constants of its own, rounded to float32 once."""
    names = f"{node.output}_own_weight", f"{node.output}_own_bias"
    constants[names[0]] = np.ascontiguousarray(weight, np.float32)
    constants[names[1]] = np.ascontiguousarray(bias, np.float32)
    return replace(node, inputs=(node.inputs[0], *names))


PASSES: tuple[Callable[[Graph], Graph], ...] = (_linear, _with_biases, _folded)


def _renamed(graph: Graph) -> Graph:
    """Plain names that depend on the order of the nodes only; a constant read twice becomes two."""
    tensors, constants, nodes = {graph.input: INPUT}, {}, []
    counts: Counter[str] = Counter()
    for node in graph.nodes:
        own = f"{node.op.lower()}_{counts[node.op]}"
        counts[node.op] += 1
        tensors[node.output] = OUTPUT if node.output == graph.output else own
        inputs = []
        for place, name in enumerate(node.inputs):
            role = ROLES[node.op][place - 1] if node.op in ROLES else f"constant_{place}"
            if name in graph.constants:
                constants[f"{own}_{role}"] = graph.constants[name]
            inputs.append(f"{own}_{role}" if name in graph.constants else tensors.get(name, ""))
        nodes.append(replace(node, inputs=tuple(inputs), output=tensors[node.output]))
    return replace(graph, input=INPUT, output=OUTPUT, nodes=nodes, constants=constants)


def _check_same(result: onnx.ModelProto, session: Any, signature: Signature, path: Path) -> None:
    """Raise ModelError if the network did not survive: it relates the images of a batch to each other, for example."""
    images = probe_images(signature.batch or 2, signature.size)
    expected = run_session(session, signature, images)
    if not np.isfinite(expected).all():
        raise ModelError(f"{path} gives embeddings that are not finite; it is damaged, or was never trained")
    free = replace(signature, input=INPUT, output=OUTPUT)
    got = run_session(open_session(result, path), free, images)
    if not np.allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max()):
        raise ModelError(
            f"{path} gives other embeddings once its graph is normalised, off by {np.abs(got - expected).max():.2g}; "
            "export the network again, in eval mode and with a dynamic batch"
        )
