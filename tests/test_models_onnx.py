"""ONNX files as backbones: any input name, any batch, any square size; what is refused, whole lines."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from facecore.errors import ModelError, OptionError
from facecore.images import Preprocess, to_input
from facecore.models import embed_pixels, load_backbone, record_preprocess, session_options
from facecore.models.onnx_backbone import OnnxBackbone
from facecore.provenance import sha256_of_file

CPU = "CPUExecutionProvider"


def model_of(nodes, constants, *, shape=("n", 3, 16, 16), outputs=(("out", 2),), dtype=TensorProto.FLOAT, opset=17):
    """A model with the input `in`; constants by name, outputs by name and rank."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "made by hand",
            [helper.make_tensor_value_info("in", dtype, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small(*, batch="n", side=16, reshape=(0, -1), dimension=5):
    """Conv, Relu, GlobalAveragePool, Reshape, Gemm."""
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "b"], ["out"], transB=1),
    ]
    constants = {"w": floats(8, 3, 3, 3), "g": floats(dimension, 8), "b": floats(dimension), "shape": list(reshape)}
    return model_of(nodes, constants, shape=(batch, 3, side, side))


def written(model, path):
    path.write_bytes(model.SerializeToString())
    return path


def batch_of(count, side=16):
    return floats(count, 3, side, side, seed=3)


def by_onnxruntime(model, batch):
    """One image at a time, straight through onnxruntime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: image[None]})[0] for image in batch])


def test_sums_of_bytes_do_not_overflow_where_a_processor_lacks_vnni():
    assert session_options().get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize(
    "model",
    [small(), small(reshape=(-1, 8)), small(batch=1), small(batch=1, reshape=(1, -1)), small(batch=1, reshape=(1, 8))],
    ids=["any batch", "any batch, -1", "one", "one, in the reshape", "one, all said"],
)
def test_any_number_of_images_in_one_run(model, tmp_path):
    backbone = load_backbone(written(model, tmp_path / "net.onnx"))
    assert (backbone.size, backbone.dimension, backbone.preprocess) == (16, 5, None)
    assert backbone.sha256 == sha256_of_file(tmp_path / "net.onnx")
    assert backbone._chunk is None
    embeddings = backbone.embed(batch_of(7))
    assert (embeddings.shape, embeddings.dtype) == ((7, 5), np.float32)
    np.testing.assert_allclose(embeddings, by_onnxruntime(model, batch_of(7)), rtol=1e-5, atol=1e-6)
    assert backbone.embed(batch_of(0)).shape == (0, 5)


def test_a_batch_fixed_at_four(tmp_path):
    model = small(batch=4, reshape=(4, 8))
    alone = by_onnxruntime(small(), batch_of(6))
    backbone = load_backbone(written(model, tmp_path / "net.onnx"))
    assert backbone._chunk is None
    np.testing.assert_allclose(backbone.embed(batch_of(6)), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 4, "n"])
def test_a_network_that_cannot_run_in_batches_runs_as_it_was_made(batch, tmp_path):
    """Every row is multiplied by the largest of its batch, which shapes do not show: only the check at loading does."""
    count = 1 if batch == "n" else batch
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["p"]),
        helper.make_node("Reshape", ["p", "flat"], ["f"]),
        helper.make_node("ReduceMax", ["f"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["f", "m"], ["out"]),
    ]
    model = model_of(nodes, {"flat": [-1, 3]}, shape=(batch, 3, 16, 16))
    backbone = load_backbone(written(model, tmp_path / "net.onnx"))
    assert backbone._chunk == count
    images = batch_of(6)
    expected = images.mean((2, 3))
    chunks = [expected[start : start + count] for start in range(0, 6, count)]
    expected = np.concatenate([chunk * chunk.max(0) for chunk in chunks])
    np.testing.assert_allclose(backbone.embed(images), expected, rtol=1e-4, atol=1e-6)


def test_weights_in_a_file_of_their_own_are_part_of_what_a_network_is(tmp_path):
    found = []
    for number in (1, 2):
        model = small()
        for tensor in model.graph.initializer:
            if tensor.name == "w":
                tensor.CopyFrom(numpy_helper.from_array(number * numpy_helper.to_array(tensor), "w"))
        folder = tmp_path / str(number)
        folder.mkdir()
        onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="weights", size_threshold=0)
        found.append(load_backbone(folder / "net.onnx").sha256)
    assert (tmp_path / "1" / "net.onnx").read_bytes() == (tmp_path / "2" / "net.onnx").read_bytes()
    assert found[0] != found[1]
    files = [hashlib.sha256((tmp_path / "1" / name).read_bytes()).hexdigest() for name in ("net.onnx", "weights")]
    assert found[0] == hashlib.sha256(json.dumps(files, separators=(",", ":")).encode()).hexdigest()
    whole = load_backbone(written(small(), tmp_path / "whole.onnx"))
    assert whole.sha256 == hashlib.sha256((tmp_path / "whole.onnx").read_bytes()).hexdigest()


def test_a_size_left_open_is_112(tmp_path):
    model = small()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    assert load_backbone(written(model, tmp_path / "net.onnx")).size == 112


def test_of_several_outputs_the_one_that_can_be_an_embedding(tmp_path):
    model = small()
    model.graph.node.append(helper.make_node("ReduceMax", ["f"], ["quality"], axes=[1]))
    model.graph.node.append(helper.make_node("ArgMax", ["p"], ["places"]))
    model.graph.node.append(helper.make_node("Flatten", ["places"], ["integers"]))
    model.graph.output.insert(0, helper.make_tensor_value_info("p", TensorProto.FLOAT, [None] * 4))
    model.graph.output.insert(0, helper.make_tensor_value_info("quality", TensorProto.FLOAT, [None] * 2))
    model.graph.output.append(helper.make_tensor_value_info("integers", TensorProto.INT64, [None] * 2))
    path = written(model, tmp_path / "net.onnx")
    assert load_backbone(path).dimension == 5
    model.graph.output.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, [None] * 2))
    written(model, path)
    with pytest.raises(ModelError) as caught:
        load_backbone(path)
    assert str(caught.value) == (
        f"{path} has several outputs that may be the embedding, out (n, 5), f (n, 8); "
        "export the network with that one alone"
    )


def test_an_integer_network_runs(tmp_path):
    """QuantizeLinear and DequantizeLinear around the weights and the input of a Gemm."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("QuantizeLinear", ["f", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Gemm", ["d", "wd"], ["out"], transB=1),
    ]
    weight = np.array([[1, -2, 3], [127, 0, -127]], np.int8)
    scales = np.array([0.5, 0.01], np.float32)
    constants = {"s": np.float32(0.01), "z": np.uint8(128), "w": weight, "ws": scales, "wz": np.zeros(2, np.int8)}
    backbone = load_backbone(written(model_of(nodes, constants), tmp_path / "net.onnx"))
    assert backbone._chunk is None
    steps = np.clip(np.rint(batch_of(9).mean((2, 3)) / 0.01), -128, 127)
    expected = (steps * 0.01) @ (weight * scales[:, None]).T
    np.testing.assert_allclose(backbone.embed(batch_of(9)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_embed_pixels_adds_the_mirrored_image(flip, tmp_path):
    backbone = load_backbone(written(small(), tmp_path / "net.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    preprocess = Preprocess(mean=120, scale=60, bgr=True)
    expected = backbone.embed(to_input(pixels, preprocess))
    if flip:
        expected = expected + backbone.embed(to_input(pixels, preprocess)[..., ::-1])
    np.testing.assert_array_equal(embed_pixels(backbone, pixels, preprocess, flip=flip), expected)


def test_the_preprocessing_is_recorded_once_and_read_back(tmp_path):
    model = small()
    model.metadata_props.add(key="author", value="x")
    record_preprocess(model, Preprocess(mean=1, scale=2, bgr=False))
    record_preprocess(model, Preprocess(mean=127.5, scale=128, bgr=True))
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [
        ("author", "x"),
        ("facecore.preprocess", '{"bgr":true,"mean":127.5,"scale":128}'),
    ]
    backbone = load_backbone(written(model, tmp_path / "net.onnx"))
    assert backbone.preprocess == Preprocess(mean=127.5, scale=128, bgr=True)


@pytest.mark.parametrize("text", ["", "[]", '{"mean": 1}', json.dumps({"mean": 1, "scale": 0, "bgr": False})])
def test_a_damaged_record_of_the_preprocessing(text, tmp_path):
    model = small()
    model.metadata_props.add(key="facecore.preprocess", value=text)
    with pytest.raises(ModelError, match=r"net.onnx: its metadata facecore.preprocess is damaged \(.+\); quantize it"):
        load_backbone(written(model, tmp_path / "net.onnx"))


def two_inputs():
    model = small()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    model.graph.node.append(helper.make_node("Add", ["out", "more"], ["out2"]))
    return model


def ends_in(op, **attributes):
    return model_of([helper.make_node(op, ["in"], ["out"], **attributes)], {}, outputs=[("out", 4)])


REFUSED = {
    "two inputs": (two_inputs(), "takes 2 inputs, not one; export the network without its head or detector"),
    "uint8": (
        model_of([helper.make_node("Flatten", ["in"], ["out"])], {}, dtype=TensorProto.UINT8),
        "takes tensor(uint8), not tensor(float); export the network with a float32 input",
    ),
    "oblong": (
        model_of([helper.make_node("Flatten", ["in"], ["out"])], {}, shape=("n", 3, 112, 96)),
        "takes the shape (n, 3, 112, 96), not (n, 3, s, s); export it for square images",
    ),
    "channels last": (
        model_of([helper.make_node("Flatten", ["in"], ["out"])], {}, shape=("n", 112, 112, 3)),
        "takes the shape (n, 112, 112, 3), not (n, 3, s, s); export it for square images",
    ),
    "a map": (
        ends_in("Relu"),
        "gives (1, 3, 16, 16) for a batch of 1, not (n, d) with d above 1; export the network up to its embedding",
    ),
    "a quality alone": (
        small(dimension=1),
        "gives (1, 1) for a batch of 1, not (n, d) with d above 1; export the network up to its embedding",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_are_refused(name, tmp_path):
    model, problem = REFUSED[name]
    if name == "uint8":
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    path = written(model, tmp_path / "net.onnx")
    with pytest.raises(ModelError) as caught:
        load_backbone(path)
    assert str(caught.value) == f"{path} {problem}"


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0 a photograph", small().SerializeToString()[:-100]])
def test_bytes_that_are_not_a_model(data, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_backbone(path)
    line = str(caught.value)
    assert line.startswith(f"{path} is not an ONNX model (")
    assert line.endswith("); export the network again")
    assert "\n" not in line


def test_an_unknown_operator_is_one_line(tmp_path):
    path = written(ends_in("NoSuchOperator"), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"^\S+ is not an ONNX model that onnxruntime runs \(.+\); export the net.+n$"):
        load_backbone(path)


def test_the_wrong_file_name(tmp_path):
    with pytest.raises(ModelError) as caught:
        load_backbone(tmp_path / "net.onnx")
    assert (
        str(caught.value) == f"no model at {tmp_path / 'net.onnx'}; facecore downloads none, name a file that is there"
    )
    with pytest.raises(ModelError) as caught:
        load_backbone(tmp_path / "net.h5")
    assert str(caught.value) == (
        f"{tmp_path / 'net.h5'} does not end in .onnx, .safetensors, .pt2, .pt, .pth; "
        "facecore tells model formats by the suffix"
    )


def test_an_arch_in_vain(tmp_path):
    path = written(small(), tmp_path / "net.onnx")
    with pytest.raises(OptionError) as caught:
        load_backbone(path, arch="r50")
    assert str(caught.value) == f"{path} holds its own network; leave out --arch, which is for .pt and .pth"


def test_the_real_network_in_batches(real_data):
    path = real_data.parent / "models" / "mobilefacenet.onnx"
    backbone = load_backbone(path)
    assert isinstance(backbone, OnnxBackbone)
    assert (backbone.size, backbone.dimension, backbone._chunk) == (112, 128, None)
    images = batch_of(5, side=112)
    np.testing.assert_allclose(backbone.embed(images), by_onnxruntime(onnx.load(path), images), rtol=0, atol=1e-4)
