"""The same integer file in OpenVINO, where it is installed: every convolution and matrix product in int8."""

import numpy as np
import pytest
import torch
from test_quantize_export import integer_of

from facecore.models import ARCHITECTURES, load_onnx, to_onnx
from facecore.quantize import Bits
from facecore.quantize.student import Student

openvino = pytest.importorskip("openvino")
PRODUCTS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")


def test_an_iresnet_is_in_int8_throughout(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "r18.onnx").write_bytes(to_onnx(ARCHITECTURES["r18"]().eval(), 112).SerializeToString())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 112, 112)).astype(np.float32)
    student = Student(load_onnx(tmp_path / "r18.onnx"), Bits())
    student.calibrate([torch.from_numpy(images)])
    model = openvino.Core().read_model(integer_of(student).SerializeToString())
    request = openvino.compile_model(model, "CPU", {"PERF_COUNT": True}).create_infer_request()
    request.infer([images])
    run = [kernel for kernel in request.get_profiling_info() if kernel.node_type in PRODUCTS]
    assert len(run) >= 21 + 1
    assert {kernel.exec_type.split("_")[-1] for kernel in run} == {"I8"}
