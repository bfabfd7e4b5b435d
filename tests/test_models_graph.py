"""Normalising a graph, and its trainable twin: the embeddings stay, everything else gets one form."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from test_models_onnx import batch_of, by_onnxruntime, floats, model_of, small, written

from facecore.errors import ModelError
from facecore.images import Preprocess
from facecore.models import OnnxNetwork, load_onnx, record_preprocess
from facecore.models.onnx_operators import OPERATORS


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


def statistics(name, channels, seed):
    """The four constants of a BatchNormalization, none of them trivial."""
    values = floats(4, channels, seed=seed)
    return {
        f"{name}s": values[0] + 1,
        f"{name}b": values[1],
        f"{name}m": values[2] * 0.2,
        f"{name}v": np.abs(values[3]) * 0.1 + 1e-4,
    }


def normed(name):
    return f"{name}s {name}b {name}m {name}v"


def every_operator():
    """A network of 16 x 16 images with every kind of padding, batch normalisation and view."""
    nodes = [
        node("Sub", "in mean", "i0"),
        node("Mul", "scale i0", "i1"),
        node("Conv", "i1 w0", "c0", pads=[0, 1, 2, 1], strides=[2, 2]),
        node("BatchNormalization", f"c0 {normed('n0')}", "b0", epsilon=1e-3),  # folds into c0
        node("Relu", "b0", "r0"),
        node("BatchNormalization", f"r0 {normed('n1')}", "b1"),  # cannot
        node("Conv", "b1 w1 bias1", "c1", group=8, auto_pad="SAME_UPPER"),
        node("Constant", "", "six", value_float=6.0),
        node("Constant", "", "low", value_float=-1.0),
        node("Clip", "c1 low six", "k1"),
        node("PRelu", "k1 slopes", "p1"),
        node("Add", "p1 b1", "a1"),
        node("Identity", "a1", "i2"),
        node("Conv", "i2 w2", "c2", dilations=[2, 2], pads=[2, 2, 2, 2]),
        node("BatchNormalization", f"c2 {normed('n2')}", "b2"),  # cannot: c2 has another reader
        node("Add", "b2 c2", "a2"),
        node("PRelu", "a2 slope", "p2"),
        node("MaxPool", "p2", "m2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("AveragePool", "m2", "v2", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Dropout", "v2", "d2"),
        node("GlobalAveragePool", "d2", "g2"),
        node("Sigmoid", "g2", "s2"),
        node("Mul", "d2 s2", "x2"),
        node("Shape", "x2", "shape"),
        node("Gather", "shape index", "rows"),
        node("Concat", "rows minus", "view", axis=0),
        node("Reshape", "x2 view", "f2"),
        node("MatMul", "f2 w3", "l3"),
        node("Add", "bias3 l3", "a3"),
        node("BatchNormalization", f"a3 {normed('n3')}", "b3"),  # folds, through the Add
        node("LeakyRelu", "b3", "r3", alpha=0.1),
        node("Gemm", "r3 w4 bias4", "out", alpha=0.5, beta=2.0),
    ]
    constants = {
        "mean": np.float32(0.1),
        "scale": floats(3, 1, 1, seed=1),
        "w0": floats(8, 3, 3, 3, seed=2) * 0.3,
        "w1": floats(8, 1, 3, 3, seed=3) * 0.3,
        "bias1": floats(8, seed=4),
        "slopes": floats(8, 1, 1, seed=5),
        "slope": np.float32([0.3]),
        "w2": floats(6, 8, 3, 3, seed=6) * 0.1,
        "index": np.array([0]),
        "minus": np.array([-1]),
        "w3": floats(6 * 16, 7, seed=7) * 0.2,
        "bias3": floats(7, seed=8),
        "w4": floats(7, 5, seed=9),
        "bias4": floats(1, 5, seed=10),
        "unused": floats(3),
        **statistics("n0", 8, 11),
        **statistics("n1", 8, 12),
        **statistics("n2", 6, 13),
        **statistics("n3", 7, 14),
    }
    return model_of(nodes, constants)


def test_every_operator_in_its_one_form(tmp_path):
    original = every_operator()
    model = load_onnx(written(original, tmp_path / "net.onnx"))
    assert [(entry.name or entry.op_type) for entry in model.graph.node] == [
        *("sub_0", "mul_0", "conv_0", "relu_0", "batchnormalization_0", "conv_1", "clip_0", "prelu_0", "add_0"),
        *("conv_2", "batchnormalization_1", "add_1", "prelu_1", "maxpool_0", "averagepool_0", "globalaveragepool_0"),
        *("sigmoid_0", "mul_1", "flatten_0", "gemm_0", "leakyrelu_0", "embeddings"),
    ]
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert {name: shape for name, shape in shapes.items() if name.startswith(("conv_0", "gemm"))} == {
        "conv_0_weight": [8, 3, 3, 3],
        "conv_0_bias": [8],
        "gemm_0_weight": [7, 96],
        "gemm_0_bias": [7],
        "gemm_1_weight": [5, 7],
        "gemm_1_bias": [5],
    }
    assert not model.graph.value_info
    images = batch_of(4)
    expected = by_onnxruntime(original, images)
    np.testing.assert_allclose(by_onnxruntime(model, images), expected, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        got = OnnxNetwork(model)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


ALONE = [
    *(("Conv", {"auto_pad": pad, "strides": [2, 3]}) for pad in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")),
    ("Conv", {"pads": [2, 0, 1, 3], "dilations": [2, 1], "strides": [1, 2]}),
    *(("MaxPool", {"auto_pad": pad, "kernel_shape": [4, 3], "strides": [3, 2]}) for pad in ("SAME_UPPER", "VALID")),
    ("MaxPool", {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [1, 0, 2, 1]}),
    *(
        ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 2, 1], "count_include_pad": count})
        for count in (0, 1)
    ),
    ("AveragePool", {"kernel_shape": [4, 4], "strides": [3, 3], "auto_pad": "SAME_LOWER"}),
    *((op, {}) for op in ("Relu", "Sigmoid", "HardSwish", "HardSigmoid", "LeakyRelu", "GlobalAveragePool")),
    ("HardSigmoid", {"alpha": 0.1, "beta": 0.4}),
    ("BatchNormalization", {"epsilon": 0.1}),
    *((op, {"shape": shape}) for op in ("Add", "Sub", "Mul", "Div") for shape in ((), (3, 1, 1), (1, 3, 16, 16))),
    *(("PRelu", {"shape": shape}) for shape in ((), (1,), (3, 1, 1), (16,), (3, 16, 16))),
    *(("Clip", {"bounds": bounds}) for bounds in (("low", "high"), ("", "high"), ("low",), ())),
]


@pytest.mark.parametrize(("op", "attributes"), ALONE, ids=[f"{op} {attributes}" for op, attributes in ALONE])
def test_each_operator_as_onnxruntime_has_it(op, attributes, tmp_path):
    """The operator between the images and a Flatten; Clip leaves a bound out in each way there is."""
    attributes = dict(attributes)
    constants = {"low": np.float32(-0.5), "high": np.float32(0.7)}
    inputs = ["in", *attributes.pop("bounds", ())]
    if "shape" in attributes:
        constants["other"] = np.abs(floats(*attributes.pop("shape"), seed=4)) + np.float32(0.1)
        inputs.append("other")
    if op == "Conv":
        constants["w"] = floats(4, 3, 3, 2)
        inputs.append("w")
    if op == "BatchNormalization":
        constants |= statistics("n", 3, 5)
        inputs += normed("n").split()
    nodes = [helper.make_node(op, inputs, ["x"], **attributes), node("Flatten", "x", "out")]
    original = model_of(nodes, constants)
    expected = by_onnxruntime(original, batch_of(3))
    model = load_onnx(written(original, tmp_path / "net.onnx"))
    with torch.inference_mode():
        got = OnnxNetwork(model)(torch.from_numpy(batch_of(3))).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


VIEWS = {
    "Reshape (0, -1)": ([node("Reshape", "p shape", "f")], {"shape": [0, -1]}),
    "Reshape (-1, 8)": ([node("Reshape", "p shape", "f")], {"shape": [-1, 8]}),
    "Flatten": ([node("Flatten", "p", "f")], {}),
    "Flatten -3": ([node("Flatten", "p", "f", axis=-3)], {}),
    "Squeeze": ([node("Squeeze", "p axes", "f")], {"axes": [2, 3]}),
    "Squeeze twice": ([node("Squeeze", "p last", "q"), node("Squeeze", "q last", "f")], {"last": [-1]}),
    "Reshape thrice": (
        [node("Reshape", "p long", "q"), node("Reshape", "q flat", "x"), node("Flatten", "x", "f")],
        {"long": [-1, 2, 4], "flat": [0, 8]},
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_spelling_of_flatten(name, tmp_path):
    views, constants = VIEWS[name]
    nodes = [
        node("Conv", "in w", "c"),
        node("GlobalAveragePool", "c", "p"),
        *views,
        node("Gemm", "f g", "out", transB=1),
    ]
    original = model_of(nodes, {"w": floats(8, 3, 3, 3), "g": floats(5, 8), **constants})
    model = load_onnx(written(original, tmp_path / "net.onnx"))
    assert [entry.op_type for entry in model.graph.node] == ["Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    np.testing.assert_allclose(
        by_onnxruntime(model, batch_of(3)), by_onnxruntime(original, batch_of(3)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("opset", [17, 18])
def test_a_mean_over_the_image_is_a_pool(keepdims, opset, tmp_path):
    """The axes are an attribute up to opset 17 and an input from 18 on."""
    mean = (
        node("ReduceMean", "in", "p", axes=[-1, 2], keepdims=keepdims)
        if opset == 17
        else node("ReduceMean", "in axes", "p", keepdims=keepdims)
    )
    original = model_of([mean, node("Flatten", "p", "out")], {"axes": [-1, 2]}, opset=opset)
    model = load_onnx(written(original, tmp_path / "net.onnx"))
    assert [entry.op_type for entry in model.graph.node] == ["GlobalAveragePool", "Flatten"]
    np.testing.assert_allclose(by_onnxruntime(model, batch_of(3)), batch_of(3).mean((2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21, 22])
def test_old_and_new_opsets(opset, tmp_path):
    """Dropout, BatchNormalization and Clip have changed their form over the years."""
    clip = node("Clip", "b", "k", min=0.0, max=6.0) if opset < 11 else node("Clip", "b low high", "k")
    nodes = [
        node("Conv", "in w", "c"),
        node("BatchNormalization", f"c {normed('n')}", "b"),
        clip,
        node("Dropout", "k", "d"),
        node("Flatten", "d", "f"),
        node("Gemm", "f g g0", "out"),
    ]
    constants = {"w": floats(2, 3, 3, 3), "low": np.float32(0), "high": np.float32(6), **statistics("n", 2, 1)}
    original = model_of(nodes, {**constants, "g": floats(2 * 14 * 14, 5), "g0": floats(5)}, opset=opset)
    model = load_onnx(written(original, tmp_path / "net.onnx"))
    assert 17 <= model.opset_import[0].version <= 21
    assert [entry.op_type for entry in model.graph.node] == ["Conv", "Clip", "Flatten", "Gemm"]
    np.testing.assert_allclose(
        by_onnxruntime(model, batch_of(2)), by_onnxruntime(original, batch_of(2)), rtol=1e-4, atol=1e-4
    )


def test_a_batch_of_one_in_the_file_goes(tmp_path):
    model = load_onnx(written(small(batch=1, reshape=(1, -1)), tmp_path / "net.onnx"))
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert [entry.op_type for entry in model.graph.node][-2:] == ["Flatten", "Gemm"]


def test_a_constant_read_by_two_nodes_becomes_two(tmp_path):
    """So that training or quantizing one leaves the other alone."""
    nodes = [
        node("Conv", "in w b", "c"),
        node("Conv", "c w b", "d"),
        node("BatchNormalization", f"d {normed('n')}", "e"),
        node("Flatten", "e", "out"),
    ]
    original = model_of(nodes, {"w": floats(3, 3, 1, 1), "b": floats(3), **statistics("n", 3, 1)})
    model = load_onnx(written(original, tmp_path / "net.onnx"))
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert sorted(weights) == ["conv_0_bias", "conv_0_weight", "conv_1_bias", "conv_1_weight"]
    np.testing.assert_array_equal(weights["conv_0_weight"], floats(3, 3, 1, 1))
    assert not np.array_equal(weights["conv_1_weight"], floats(3, 3, 1, 1))


def test_folding_is_exact(tmp_path):
    """Against float64, rounded once: not one weight differs."""
    n = statistics("n", 8, 3)
    nodes = [
        node("Conv", "in w b", "c"),
        node("BatchNormalization", f"c {normed('n')}", "d"),
        node("Flatten", "d", "out"),
    ]
    weight, bias = floats(8, 3, 3, 3, seed=1), floats(8, seed=2)
    model = load_onnx(written(model_of(nodes, {"w": weight, "b": bias, **n}), tmp_path / "net.onnx"))
    folded = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale, shift, mean, var = (value.astype(np.float64) for value in n.values())
    epsilon = float(np.float32(1e-5))
    gain = scale / np.sqrt(var + epsilon)
    np.testing.assert_allclose(folded["conv_0_weight"], weight * gain[:, None, None, None], rtol=1e-7)
    np.testing.assert_allclose(folded["conv_0_bias"], bias * gain + shift - mean * gain, rtol=1e-6, atol=1e-7)


def test_same_file_same_bytes_and_the_preprocessing_stays(tmp_path):
    original = every_operator()
    record_preprocess(original, Preprocess(mean=1, scale=2, bgr=True))
    path = written(original, tmp_path / "net.onnx")
    model = load_onnx(path)
    assert model.SerializeToString() == load_onnx(path).SerializeToString()
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [
        ("facecore.preprocess", '{"bgr":true,"mean":1,"scale":2}')
    ]
    again = load_onnx(written(model, tmp_path / "again.onnx"))  # normalising twice changes nothing
    assert again.SerializeToString() == model.SerializeToString()


KNOWN = (
    "Add, AveragePool, BatchNormalization, Clip, Conv, Div, Flatten, Gemm, GlobalAveragePool, HardSigmoid, HardSwish, "
    "Identity, LeakyRelu, MaxPool, Mul, PRelu, Relu, Reshape, Sigmoid, Sub"
)
REFUSED = {
    "operators": (
        [node("Transpose", "in", "t", perm=[0, 1, 3, 2]), node("Tanh", "t", "u"), node("Flatten", "u", "out")],
        f": facecore cannot train or quantize the operators Tanh, Transpose; it knows {KNOWN}",
    ),
    "integer": (
        [node("QuantizeLinear", "in s z", "q"), node("DequantizeLinear", "q s z", "d"), node("Flatten", "d", "out")],
        " is quantized already (DequantizeLinear, QuantizeLinear); start from the float network",
    ),
    "ceil": (
        [node("MaxPool", "in", "p", kernel_shape=[3, 3], ceil_mode=1), node("Flatten", "p", "out")],
        ": facecore cannot train or quantize MaxPool with ceil_mode; export the network without it",
    ),
    "gram": (
        [node("Flatten", "in", "f"), node("Gemm", "f f", "g", transB=1), node("Add", "g f", "out")],
        ": facecore cannot train or quantize Gemm with computed parameters; export the network without it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_are_refused(name, tmp_path):
    nodes, problem = REFUSED[name]
    path = written(model_of(nodes, {"s": np.float32(0.1), "z": np.uint8(128)}), tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    assert str(caught.value) == f"{path}{problem}"


def test_a_network_that_overflows(tmp_path):
    nodes = [node("Mul", "in large", "x"), node("Mul", "x large", "y"), node("Flatten", "y", "out")]
    path = written(model_of(nodes, {"large": np.float32(1e30)}), tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    assert str(caught.value) == f"{path} gives embeddings that are not finite; it is damaged, or was never trained"


def twin(tmp_path):
    model = load_onnx(written(every_operator(), tmp_path / "net.onnx"))
    return model, OnnxNetwork(model)


def test_the_hooks_see_every_tensor_by_name(tmp_path):
    model, network = twin(tmp_path)
    activations, weights = [], []

    def on_activation(name, values):
        activations.append(name)
        return values

    def on_weight(name, values):
        weights.append((name, tuple(values.shape)))
        return values

    network.on_activation, network.on_weight = on_activation, on_weight
    network(torch.from_numpy(batch_of(2)))
    assert activations == ["images", *(entry.output[0] for entry in model.graph.node)]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names = [entry.input[1] for entry in model.graph.node if entry.op_type in ("Conv", "Gemm")]
    assert weights == [(name, shapes[name]) for name in names]


def test_what_a_hook_returns_is_used(tmp_path):
    model, network = twin(tmp_path)
    images = torch.from_numpy(batch_of(2))
    network.on_weight = lambda name, values: values * 0.5 if name == "conv_1_weight" else values
    network.on_activation = lambda name, values: values.clamp(0, 1) if name == "add_0" else values
    clamped = [
        helper.make_node("Clip", ["add_0", "zero", "one"], ["clamped"]),
        *(entry for entry in model.graph.node if entry.name == "conv_2"),
    ]
    clamped[1].input[0] = "clamped"
    place = next(place for place, entry in enumerate(model.graph.node) if entry.name == "conv_2")
    nodes = list(model.graph.node)
    nodes[place : place + 1] = clamped
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for tensor in model.graph.initializer:
        if tensor.name == "conv_1_weight":
            halved = onnx.numpy_helper.to_array(tensor) * np.float32(0.5)
            tensor.CopyFrom(onnx.numpy_helper.from_array(halved, tensor.name))
    for name, value in (("zero", 0), ("one", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    with torch.inference_mode():
        got = network(images).numpy()
    np.testing.assert_allclose(got, by_onnxruntime(model, images.numpy()), rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_parameter_and_only_those(tmp_path):
    model, network = twin(tmp_path)
    roles = ("weight", "bias", "slope", "scale")
    names = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.name.endswith(roles) and tensor.name.startswith(("conv", "gemm", "prelu", "batch"))
    }
    assert set(network.weights) == names
    assert len(list(network.parameters())) == len(names)
    network(torch.from_numpy(batch_of(8))).square().sum().backward()
    assert [name for name, value in network.weights.items() if value.grad is None or not value.grad.any()] == []


def test_write_back_is_the_trained_network(tmp_path):
    model, network = twin(tmp_path)
    before = model.SerializeToString()
    assert network.write_back().SerializeToString() == before
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    network(torch.from_numpy(batch_of(8))).square().sum().backward()
    optimizer.step()
    trained = network.write_back()
    assert model.SerializeToString() == before
    onnx.checker.check_model(trained)
    with torch.inference_mode():
        got = network(torch.from_numpy(batch_of(3))).numpy()
    np.testing.assert_allclose(got, by_onnxruntime(trained, batch_of(3)), rtol=1e-5, atol=1e-5)
    assert not np.allclose(got, by_onnxruntime(model, batch_of(3)), rtol=1e-3)


def test_a_deep_copy_is_trained_apart(tmp_path):
    _, network = twin(tmp_path)
    images = torch.from_numpy(batch_of(2))
    copied = copy.deepcopy(network)
    with torch.no_grad():
        before = network(images)
        copied.weights["conv_0_weight"].zero_()
        assert torch.equal(network(images), before)
        assert not torch.allclose(copied(images), before)
        copied.load_state_dict(network.state_dict())
        assert torch.equal(copied(images), before)


def test_the_real_network(real_data):
    path = real_data.parent / "models" / "mobilefacenet.onnx"
    model, images = load_onnx(path), batch_of(4, side=112)
    counts = {"Conv": 51, "Clip": 32, "Add": 12, "Relu": 2, "Flatten": 1}
    assert {op: sum(entry.op_type == op for entry in model.graph.node) for op in counts} == counts
    assert len(model.graph.node) == sum(counts.values())
    expected = by_onnxruntime(onnx.load(path), images)
    np.testing.assert_allclose(by_onnxruntime(model, images), expected, rtol=0, atol=1e-4)
    network = OnnxNetwork(model)
    got = network(torch.from_numpy(images))
    assert np.abs(got.detach().numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    got.square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in network.parameters())


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 1, 1), (4,), (3, 4, 4)])
def test_the_gradient_of_prelu_is_that_of_its_definition(shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
    slope = torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()
    ours = OPERATORS["PRelu"]([x, slope], {})
    plain = torch.where(x > 0, x, slope * x)
    assert torch.equal(ours, plain)
    upstream = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    for ours_, plain_ in zip(*(torch.autograd.grad(y, (x, slope), upstream) for y in (ours, plain)), strict=True):
        torch.testing.assert_close(ours_, plain_)
