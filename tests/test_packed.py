"""Packed files: every integer comes back, the size is the honest one, and the network runs as it did."""

import hypothesis.extra.numpy as arrays
import numpy as np
import onnx
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from test_models_onnx import batch_of, small, written
from test_quantize_export import calibrated, integer_of

from facecore.errors import ModelError
from facecore.images import Preprocess
from facecore.models import load_backbone, load_onnx, packed, record_preprocess
from facecore.models.packed import bits_of, from_planes, to_planes, unpacked


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_width_comes_back(bits):
    highest = (1 << (bits - 1)) - 1
    values = np.random.default_rng(bits).integers(-highest, highest + 1, 1001).astype(np.int8)
    values[0] = highest
    planes = to_planes(values)
    assert (planes.dtype, planes.shape) == (np.uint8, (bits, 126))  # 1,001 integers in bits x 126 bytes
    assert from_planes(planes, 1001).tolist() == values.tolist()


@given(arrays.arrays(np.int32, arrays.array_shapes(max_dims=3)))
def test_any_integers_come_back(values):
    assert from_planes(to_planes(values), values.size).tolist() == values.reshape(-1).tolist()


@given(st.integers(-(2**31), 2**31 - 1))
def test_the_fewest_bits_that_hold_an_integer(value):
    bits = bits_of(np.array([value]))
    assert -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    assert bits == 1 or not -(2 ** (bits - 2)) <= value < 2 ** (bits - 2)


def test_the_planes_as_they_are_written_down():
    planes = to_planes(np.array([1, -1, 0, -2, 1, 0, 0, 0, -1], np.int8))  # 01 11 00 10 01 00 00 00 | 11
    assert [[f"{byte:08b}" for byte in plane] for plane in planes] == [
        ["11001000", "10000000"],
        ["01010000", "10000000"],
    ]


def stored(path, bits):
    model = integer_of(calibrated(path, bits))
    record_preprocess(model, Preprocess(mean=100, scale=50, bgr=True))
    (path / "model.safetensors").write_bytes(packed(model))
    written(model, path / "model.onnx")
    return model


@pytest.mark.parametrize("bits", ["w2a8", "w3a3", "w4a4", "w5a8", "w6a6", "w7a8", "w8a8"])
def test_the_file_is_the_model_bit_for_bit(bits, tmp_path):
    stored(tmp_path, bits)
    found = unpacked(tmp_path / "model.safetensors")
    assert found.SerializeToString() == (tmp_path / "model.onnx").read_bytes()


def test_a_packed_network_runs_as_the_onnx_file_does(tmp_path):
    stored(tmp_path, "w4a4")
    a, b = (load_backbone(tmp_path / f"model.{suffix}") for suffix in ("onnx", "safetensors"))
    assert (a.embed(batch_of(9)) == b.embed(batch_of(9))).all()
    assert (b.size, b.dimension, b.preprocess) == (16, 6, Preprocess(mean=100, scale=50, bgr=True))
    assert a.sha256 != b.sha256


def test_weights_take_the_bits_they_have(tmp_path):
    model = stored(tmp_path, "w4a8")
    held = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for tensor in model.graph.initializer:
        if tensor.name in ("conv_0/weight/integer", "conv_1/weight/integer", "gemm_0/weight/integer"):
            count = int(np.prod(tensor.dims))
            assert held[tensor.name].shape == (4, -(-count // 8))
        elif tensor.name.endswith("/scales") and len(tensor.raw_data) > 16:
            assert (held[tensor.name] == numpy_helper.to_array(tensor)).all()
    inside = sum(values.nbytes for values in held.values())
    size = (tmp_path / "model.safetensors").stat().st_size
    assert inside < size < inside + 120 * len(held)  # the rest is a line of the header for each


def test_equal_models_are_equal_bytes(tmp_path):
    model = stored(tmp_path, "w3a4")
    assert packed(model) == packed(onnx.ModelProto.FromString(model.SerializeToString()))


def test_a_packed_network_is_quantized_already(tmp_path):
    stored(tmp_path, "w4a4")
    with pytest.raises(ModelError, match="quantized already"):
        load_onnx(tmp_path / "model.safetensors")


def test_a_float_network_comes_back_too(tmp_path):
    model = small()
    (tmp_path / "net.safetensors").write_bytes(packed(model))
    assert unpacked(tmp_path / "net.safetensors") == model


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"nothing", "Error while deserializing header: header too small"),
        (safetensors.numpy.save({"weight": np.zeros(3, np.float32)}), "'graph'"),
        (safetensors.numpy.save({"graph": np.zeros(3, np.uint8)}), "Error -3 while decompressing data: "),
    ],
    ids=["no safetensors", "another's", "a damaged graph"],
)
def test_what_is_no_packed_network(content, reason, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as error:
        load_backbone(tmp_path / "net.safetensors")
    assert str(error.value).startswith(
        f"{tmp_path / 'net.safetensors'} is not a network that facecore packed ({reason}"
    )
    assert str(error.value).endswith("); name the model.safetensors that facecore quantize wrote")
    assert "\n" not in str(error.value)
