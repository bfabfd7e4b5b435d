"""Operators without an integer kernel, spelled in those that have one: equal to the student, and integer throughout."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from test_models_onnx import CPU, batch_of, by_onnxruntime, floats, model_of, written

from facecore.models import load_onnx, session_options
from facecore.quantize import Bits
from facecore.quantize.counting import multiply_adds, tensor_shapes
from facecore.quantize.export import in_larger_groups, to_float, to_integer
from facecore.quantize.student import Student


def residual(*, slope=0.25, groups=1):
    """A block of IResNet: BatchNormalization before a padded Conv, PReLU with a slope a channel, a residual sum."""
    nodes = [
        helper.make_node("Conv", ["in", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("PRelu", ["c0", "slope"], ["p0"]),
        helper.make_node("BatchNormalization", ["p0", "gain", "offset", "mean", "var"], ["n0"]),
        helper.make_node("Conv", ["n0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], group=groups),
        helper.make_node("PRelu", ["c1", "slope"], ["p1"]),
        helper.make_node("Add", ["p1", "p0"], ["a1"]),
        helper.make_node("GlobalAveragePool", ["a1"], ["g1"]),
        helper.make_node("Flatten", ["g1"], ["f1"]),
        helper.make_node("Gemm", ["f1", "w2", "b2"], ["out"], transB=1),
    ]
    constants = {
        "w0": floats(32, 3, 3, 3, seed=1) * 0.3,
        "b0": floats(32, seed=2) * 0.1,
        "slope": np.linspace(-0.1, slope, 32, dtype=np.float32).reshape(32, 1, 1),
        "gain": np.linspace(-1, 2, 32, dtype=np.float32),
        "offset": floats(32, seed=3),
        "mean": floats(32, seed=4) * 0.1,
        "var": np.linspace(0.5, 2, 32, dtype=np.float32),
        "w1": floats(32, 32 // groups, 3, 3, seed=5) * 0.1,
        "b1": floats(32, seed=6) * 0.1,
        "w2": floats(6, 32, seed=7),
        "b2": floats(6, seed=8) * 0.1,
    }
    return model_of(nodes, constants)


def calibrated(path, bits="w8a8", **options):
    student = Student(load_onnx(written(residual(**options), path / "net.onnx")), Bits.parse(bits))
    student.calibrate([torch.from_numpy(np.tanh(batch_of(64)))])
    return student


def integer_of(student):
    return to_integer(student.model(), student.quantizers, student.weight_quantizers)


def kernels(model, folder):
    """The operators that onnxruntime runs, in the order of the graph."""
    options = session_options()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def tensors_of(integer, images):
    """What onnxruntime computes for every quantized tensor, by its name in the float graph."""
    made = [node.output[0] for node in integer.graph.node if node.op_type == "DequantizeLinear"]
    names = [name for name in made if "/weight/" not in name and "/bias/" not in name]
    model = onnx.ModelProto()
    model.CopyFrom(integer)
    known = {value.name for value in integer.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
    found = session.run(names, {"images": images})
    return {name.removesuffix("/dequantized"): values for name, values in zip(names, found, strict=True)}


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
@pytest.mark.parametrize("groups", [1, 16])
def test_every_layer_is_the_students_to_one_step(bits, groups, tmp_path):
    student = calibrated(tmp_path, bits, groups=groups)
    images = np.tanh(batch_of(16))
    found = tensors_of(integer_of(student), images)
    made = tensors_of_student(student, images, found)
    assert set(made) == set(student.quantizers)
    for name, values in made.items():
        steps = np.abs(found[name] - values) / student.quantizers[name].scale
        assert steps.max() < 1.01, name
        # a bias in 127ths of a step, and the rest exact: where BatchNormalization shifts, a few fall the other way
        assert (steps > 0.01).mean() < 0.01, name


@pytest.mark.parametrize("bits", ["w8a8", "w4a8", "w6a6"])
def test_nothing_between_the_pixels_and_the_embedding_is_in_floats(bits, tmp_path):
    operators = kernels(integer_of(calibrated(tmp_path, bits)), tmp_path)
    assert operators.count("QLinearConv") == 2 + 2 + 1  # the convolutions, the slopes of PReLU, the normalisation
    assert operators.count("QGemm") == 1
    floating = {"Conv", "FusedConv", "Gemm", "FusedGemm", "BatchNormalization", "Mul", "PRelu", "Add"}
    assert not (floating | {"GlobalAveragePool"}) & set(operators)


def clamped(low, high):
    """A network that clamps before a convolution, before a residual sum and before the embedding."""
    nodes = [
        helper.make_node("Conv", ["in", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Clip", ["c0", low and "low", high and "high"], ["k0"]),
        helper.make_node("Conv", ["k0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Add", ["r1", "k0"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"]),
        helper.make_node("Clip", ["c2", low and "low", high and "high"], ["k2"]),
        helper.make_node("GlobalAveragePool", ["k2"], ["g2"]),
        helper.make_node("Flatten", ["g2"], ["out"]),
    ]
    constants = {
        "w0": floats(8, 3, 3, 3, seed=1) * 0.3,
        "b0": floats(8, seed=2) * 0.1,
        "w1": floats(8, 1, 3, 3, seed=3) * 0.3,
        "b1": floats(8, seed=4) * 0.1,
        "w2": floats(6, 8, 1, 1, seed=5),
        "b2": floats(6, seed=6) * 0.1,
        **{name: np.float32(value) for name, value in (("low", low), ("high", high)) if value},
    }
    return model_of(nodes, constants)


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
@pytest.mark.parametrize(("low", "high"), [("", 1.5), (-0.75, 1.5), (-0.1, 100.0), (-0.2, ""), ("", "")])
def test_a_clamp_is_one_of_integers(low, high, bits, tmp_path):
    student = Student(load_onnx(written(clamped(low, high), tmp_path / "net.onnx")), Bits.parse(bits))
    images = np.tanh(batch_of(16))
    student.calibrate([torch.from_numpy(images)])
    integer = integer_of(student)
    operators = kernels(integer, tmp_path)
    assert operators.count("QLinearConv") == 3
    assert not {"Conv", "FusedConv", "Clip", "Relu"} & set(operators)
    found = tensors_of(integer, images)
    for name, values in tensors_of_student(student, images, found).items():
        steps = np.abs(found[name] - values) / student.quantizers[name].scale
        assert steps.max() < 1.01, name
        assert (steps > 0.01).mean() < 0.001, name


def tensors_of_student(student, images, found):
    """What the student makes of the tensors found, each from those before it as found."""
    compute, seen = student.network.on_activation, {}

    def show(name, values):
        values = compute(name, values)
        if name in student.quantizers:
            seen[name] = values.numpy()
            return torch.from_numpy(found[name])  # so that a difference does not spread to the next layer
        return values

    student.network.on_activation = show
    with torch.inference_mode():
        student.network(torch.from_numpy(images))
    return seen


@pytest.mark.parametrize("slope", [0.5, 3.0])
def test_a_slope_above_one_is_right_too(slope, tmp_path):
    student = calibrated(tmp_path, slope=slope)
    images = np.tanh(batch_of(16))
    with torch.inference_mode():
        expected = student.network(torch.from_numpy(images)).numpy()
    found = by_onnxruntime(integer_of(student), images)
    assert np.abs(found - expected).max() < 3.01 * student.quantizers["embeddings"].scale


def test_the_fair_float_model_is_the_model(tmp_path):
    model = load_onnx(written(residual(), tmp_path / "net.onnx"))
    plain = to_float(model)
    assert "PRelu" not in {node.op_type for node in plain.graph.node}
    np.testing.assert_allclose(by_onnxruntime(plain, batch_of(4)), by_onnxruntime(model, batch_of(4)), atol=1e-5)


# Grouped convolutions


def test_two_channels_a_group_become_sixteen():
    weight = np.arange(1, 32 * 2 + 1, dtype=np.int8).reshape(32, 2, 1, 1)
    larger, groups = in_larger_groups(weight, 16)
    assert (larger.shape, groups) == ((32, 16, 1, 1), 2)
    for out in range(32):
        row, first = larger[out, :, 0, 0], out // 2 % 8 * 2  # two outputs a group, eight groups in one
        assert row[first : first + 2].tolist() == weight[out, :, 0, 0].tolist()
        assert np.count_nonzero(row) == 2


@pytest.mark.parametrize(("channels", "groups"), [((32, 1), 32), ((32, 32), 1), ((64, 16), 4)])
def test_groups_of_one_or_many_channels_stay(channels, groups):
    weight = np.ones((*channels, 3, 3), np.int8)
    larger, count = in_larger_groups(weight, groups)
    assert (larger.shape, count) == (weight.shape, groups)


@pytest.mark.parametrize(("out", "inside", "groups"), [(64, 2, 32), (128, 4, 32), (24, 4, 12), (32, 3, 16)])
def test_a_convolution_in_fewer_groups_is_the_same(out, inside, groups):
    draw = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (out, inside, 3, 3), generator=draw)
    images = torch.randint(-9, 9, (2, inside * groups, 5, 5), generator=draw).double()
    larger, fewer = in_larger_groups(weight.to(torch.int8).numpy(), groups)
    assert fewer < groups
    expected = torch.nn.functional.conv2d(images, weight.double(), groups=groups)
    assert torch.equal(torch.nn.functional.conv2d(images, torch.from_numpy(larger).double(), groups=fewer), expected)


# Counting


def test_multiply_adds_are_counted_from_the_shapes(tmp_path):
    model = load_onnx(written(residual(), tmp_path / "net.onnx"))
    expected = 32 * 8 * 8 * 3 * 9 + 32 * 8 * 8 * 32 * 9 + 6 * 32
    assert tensor_shapes(model)["conv_0"] == (1, 32, 8, 8)
    assert multiply_adds(model) == (0, expected)
    by_channel = 3 * 32 * 8 * 8  # two PReLUs and a BatchNormalization
    assert multiply_adds(integer_of(calibrated(tmp_path))) == (expected + by_channel, expected + by_channel)
