"""Channels go together, and only they: what is zero can go unnoticed, what is left is a network."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from pictures import folder_of
from test_models_onnx import batch_of, by_onnxruntime, floats, model_of, written
from test_quantize_export import residual

from facecore.errors import OptionError
from facecore.images import Preprocess
from facecore.models import OnnxNetwork, load_backbone, load_onnx
from facecore.quantize import Bits, QuantizeOptions
from facecore.quantize.distill import Schedule
from facecore.quantize.faces import Faces
from facecore.quantize.prune import prune
from facecore.quantize.reconstruct import RIDGE, least_squares, reconstruct
from facecore.quantize.recover import recover
from facecore.quantize.student import Student
from facecore.quantize.teacher import Teacher
from facecore.quantize.tuning import School
from facecore.readers import open_dataset


def depthwise():
    """An inverted residual: a sum of the input and Conv, depthwise Conv, Conv; then Flatten of 4 x 4 and a Gemm."""
    nodes = [
        helper.make_node("Conv", ["in", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("PRelu", ["c0", "slope"], ["p0"]),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"]),
        helper.make_node("Clip", ["c1", "low", "high"], ["k1"]),
        helper.make_node("Conv", ["k1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"]),
        helper.make_node("Add", ["c3", "p0"], ["a3"]),
        helper.make_node("Flatten", ["a3"], ["f4"]),
        helper.make_node("Gemm", ["f4", "w4", "b4"], ["out"], transB=1),
    ]
    constants = {
        "w0": floats(8, 3, 3, 3, seed=1),
        "b0": floats(8, seed=2),
        "slope": np.linspace(0, 0.5, 8, dtype=np.float32).reshape(8, 1, 1),
        "w1": floats(16, 8, 1, 1, seed=3),
        "b1": floats(16, seed=4),
        "low": np.float32(0),
        "high": np.float32(6),
        "w2": floats(16, 1, 3, 3, seed=5),
        "b2": floats(16, seed=6),
        "w3": floats(8, 16, 1, 1, seed=7),
        "b3": floats(8, seed=8),
        "w4": floats(6, 128, seed=9),
        "b4": floats(6, seed=10),
    }
    return model_of(nodes, constants)


def loaded(model, path):
    return load_onnx(written(model, path / "net.onnx"))


def shapes(model):
    return {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.dims}


def parameters(model):
    return sum(int(np.prod(shape)) for shape in shapes(model).values())


def changed(model, **constants):
    """The model with these functions of its constants."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in constants:
            values = numpy_helper.to_array(tensor).copy()
            constants[tensor.name](values)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return result


def test_tied_channels_go_together(tmp_path):
    found = shapes(prune(loaded(depthwise(), tmp_path), 0.5).model)
    stream, inner = found["conv_0_weight"][0], found["conv_1_weight"][0]
    assert stream < 8
    assert inner < 16
    assert found == {
        "conv_0_weight": (stream, 3, 3, 3),
        "conv_0_bias": (stream,),
        "prelu_0_slope": (stream, 1, 1),
        "conv_1_weight": (inner, stream, 1, 1),
        "conv_1_bias": (inner,),
        "conv_2_weight": (inner, 1, 3, 3),
        "conv_2_bias": (inner,),
        "conv_3_weight": (stream, inner, 1, 1),
        "conv_3_bias": (stream,),
        "gemm_0_weight": (6, stream * 16),
        "gemm_0_bias": (6,),
    }


HALF = 4 * 27 + 4 + 4 + 8 * 4 + 8 + 8 * 9 + 8 + 4 * 8 + 4 + 6 * 64 + 6  # parameters, with half of all channels


def zero_channels(of):
    """Channels 1, 2, 5 and 6 of the stream and 0, 3, ... of the block are zero where they are made."""

    def clear(places):
        return lambda values: values.__setitem__(places, 0)

    stream, inner = [1, 2, 5, 6], [0, 3, 4, 7, 8, 11, 12, 15]
    return changed(
        of,
        **{f"conv_{n}_{part}": clear(stream) for n in (0, 3) for part in ("weight", "bias")},
        **{f"conv_{n}_{part}": clear(inner) for n in (1, 2) for part in ("weight", "bias")},
    )


def test_channels_that_are_zero_go_unnoticed(tmp_path):
    model = zero_channels(loaded(depthwise(), tmp_path))
    narrow = prune(model, 1 - (HALF + 2) / (parameters(model) + 2)).model  # the bounds of Clip count too
    assert parameters(narrow) == HALF
    np.testing.assert_allclose(by_onnxruntime(narrow, batch_of(4)), by_onnxruntime(model, batch_of(4)), 1e-6, 1e-5)


def test_what_is_left_takes_over_from_its_doubles(tmp_path):
    def double(values):  # in the block, every odd channel is the even one before it
        values[1::2] = values[0::2]

    def softly(values):  # which is read with less weight, and so goes
        values[:, 1::2] *= 0.05

    parts = {f"conv_{n}_{part}": double for n in (1, 2) for part in ("weight", "bias")}
    model = changed(loaded(depthwise(), tmp_path), **parts, conv_3_weight=softly)

    def clear(values):  # half of the stream is not there
        values[[1, 2, 5, 6]] = 0

    model = changed(model, **{f"conv_{n}_{part}": clear for n in (0, 3) for part in ("weight", "bias")})
    pruned = prune(model, 1 - (HALF + 2) / (parameters(model) + 2))
    assert pruned.rows["conv_2_weight"].tolist() == list(range(0, 16, 2))
    images = batch_of(64)
    after = reconstruct(model, pruned, torch.from_numpy(images))
    wanted = by_onnxruntime(model, images)
    lost, left = (np.square(by_onnxruntime(of, images) - wanted).sum() for of in (pruned.model, after))
    assert left < 0.01 * lost
    assert reconstruct(model, pruned, torch.from_numpy(images)) == after


def test_a_network_that_lost_nothing_stays_as_it_is(tmp_path):
    model = loaded(residual(), tmp_path)
    images = torch.from_numpy(batch_of(16))
    after = reconstruct(model, prune(model, 0), images)
    np.testing.assert_allclose(by_onnxruntime(after, batch_of(4)), by_onnxruntime(model, batch_of(4)), atol=1e-4)


def test_a_channel_that_makes_several_stays_as_it_is(tmp_path):
    nodes = [
        helper.make_node("Conv", ["in", "w0", "b0"], ["c0"], strides=[4, 4]),
        helper.make_node("Conv", ["c0", "w1", "b1"], ["c1"], group=4),
        helper.make_node("Flatten", ["c1"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["out"], transB=1),
    ]
    constants = {"w0": floats(4, 3, 4, 4), "b0": floats(4), "w1": floats(8, 1, 1, 1), "b1": floats(8)}
    model = loaded(model_of(nodes, {**constants, "w2": floats(6, 128), "b2": floats(6)}), tmp_path)
    after = reconstruct(model, prune(model, 0), torch.from_numpy(batch_of(16)))
    np.testing.assert_array_equal(*(numpy_helper.to_array(named(of, "conv_1_weight")) for of in (after, model)))


def test_least_squares_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    for equations, unknowns in ((40, 6), (6, 40)):  # solved in the smaller of both
        x, y, before = (rng.normal(size=shape) for shape in ((equations, unknowns), (equations, 3), (3, unknowns)))
        weights, offsets = least_squares(*(torch.from_numpy(of)[None] for of in (x, y, before)))
        centred = x - x.mean(0)
        ridge = RIDGE * np.square(centred).sum(0).mean()
        # the ridge as equations of their own: sqrt(ridge) w = sqrt(ridge) w before
        rows = np.concatenate([centred, np.sqrt(ridge) * np.eye(unknowns)])
        results = np.concatenate([y - y.mean(0), np.sqrt(ridge) * before.T])
        expected = np.linalg.lstsq(rows, results, rcond=None)[0]
        np.testing.assert_allclose(weights[0].numpy(), expected.T, atol=1e-6)
        np.testing.assert_allclose(offsets[0].numpy(), y.mean(0) - x.mean(0) @ expected, atol=1e-6)


def test_channels_that_nobody_reads_go_unnoticed(tmp_path):
    model = loaded(depthwise(), tmp_path)
    model = changed(model, conv_3_weight=lambda values: values.__setitem__((slice(None), slice(0, 16, 2)), 0))
    narrow = prune(model, 0.05).model
    assert 8 <= shapes(narrow)["conv_1_weight"][0] < 16
    kept = {row.tobytes() for row in numpy_helper.to_array(named(narrow, "conv_2_weight"))}
    assert {row.tobytes() for row in numpy_helper.to_array(named(model, "conv_2_weight"))[1::2]} <= kept


def named(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.7, 0.8])
@pytest.mark.parametrize("network", [depthwise, residual])
def test_at_least_as_many_parameters_go_as_asked(network, sparsity, tmp_path):
    model = loaded(network(), tmp_path)
    narrow = prune(model, sparsity).model
    assert parameters(narrow) <= (1 - sparsity) * parameters(model)
    assert parameters(narrow) > (1 - sparsity) * parameters(model) * 0.5
    found = by_onnxruntime(narrow, batch_of(3))
    assert found.shape == (3, 6)
    assert np.isfinite(found).all()
    assert OnnxNetwork(narrow).dimension == 6  # which is trained on
    assert [node.output[0] for node in narrow.graph.node] == [node.output[0] for node in model.graph.node]


@pytest.mark.parametrize("network", [depthwise, residual])
def test_nothing_asked_changes_nothing(network, tmp_path):
    model = loaded(network(), tmp_path)
    assert prune(model, 0).model == model


def test_groups_of_several_channels_stay(tmp_path):
    model = loaded(residual(groups=16), tmp_path)
    with pytest.raises(OptionError) as error:
        prune(model, 0.2)
    assert str(error.value) == "sparsity 0.2 is more than this network can lose; at most 0.000"


@pytest.mark.parametrize(
    ("sparsity", "line"),
    [
        (1.0, "sparsity is the fraction of the parameters to take out, in [0, 1); got 1"),
        (-0.1, "sparsity is the fraction of the parameters to take out, in [0, 1); got -0.1"),
        (0.999, "sparsity 0.999 is more than this network can lose; at most 0.898"),
    ],
)
def test_sparsities_that_cannot_be(sparsity, line, tmp_path):
    with pytest.raises(OptionError) as error:
        prune(loaded(depthwise(), tmp_path), sparsity)
    assert str(error.value) == line


@pytest.fixture
def school(tmp_path):
    dataset = open_dataset(folder_of(tmp_path / "faces", {f"p{n % 3}/{n}.jpg": n for n in range(40)}))
    faces = Faces(dataset, size=16, preprocess=Preprocess(), workers=1, max_rejected=0)
    teacher = Teacher(load_backbone(written(depthwise(), tmp_path / "net.onnx")), len(faces))
    return School(faces, teacher, np.arange(32), np.arange(32, 40))


def test_training_makes_up_for_what_was_pruned(tmp_path, school):
    narrow = prune(loaded(depthwise(), tmp_path), 0.5).model
    after = recover(narrow, school, QuantizeOptions(), Schedule(100, 16))
    assert shapes(after) == shapes(narrow)
    lost, left = (1 - school.cosine(Student(model, Bits())) for model in (narrow, after))
    assert left < 0.7 * lost
    assert recover(narrow, school, QuantizeOptions(), Schedule(100, 16)) == after
    assert recover(narrow, school, QuantizeOptions(), Schedule(0)) == narrow


def test_the_real_network_at_half_its_parameters(tmp_path, real_data):
    model = load_onnx(real_data.parent / "models" / "mobilefacenet.onnx")
    narrow = prune(model, 0.5).model
    assert 0.48 < parameters(narrow) / parameters(model) <= 0.5
    images = floats(2, 3, 112, 112)
    assert by_onnxruntime(narrow, images).shape == by_onnxruntime(model, images).shape
