"""What the report counts and measures, and the screen that it becomes."""

import numpy as np
import pytest
import torch
from test_models_onnx import batch_of
from test_quantize_export import calibrated, integer_of

from facecore.models import OnnxNetwork, packed
from facecore.quantize.artefacts import artefact_names, artefacts, sizes
from facecore.quantize.bits import Bits
from facecore.quantize.export import to_float
from facecore.quantize.report import computation, kernels, layer_decibels
from facecore.quantize.summary import summary

FLOATING = {"Conv", "FusedConv", "Gemm", "FusedGemm", "BatchNormalization"}


def images():
    return torch.from_numpy(np.tanh(batch_of(8)))


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
def test_all_multiply_adds_are_in_integers_and_run_so(bits, tmp_path):
    student = calibrated(tmp_path, bits)
    found = computation(integer_of(student))
    assert found["integer_share"] == 1
    assert found["multiply_adds"] > 32 * 8 * 8 * 32 * 9
    assert (found["kernels"]["QLinearConv"], found["kernels"]["QGemm"]) == (5, 1)
    assert not FLOATING & set(found["kernels"])
    assert found["float_products"] == 0
    plain = computation(to_float(student.model()))
    assert plain["integer_share"] == 0
    assert plain["float_products"] >= 3  # onnxruntime may turn Mul and BatchNormalization into more
    assert list(found["kernels"]) == sorted(found["kernels"])


def test_kernels_are_those_of_a_single_run(tmp_path):
    assert sum(kernels(integer_of(calibrated(tmp_path))).values()) < 40


def test_a_layers_decibels_are_signal_over_noise(tmp_path):
    student = calibrated(tmp_path, "w4a4")
    model = OnnxNetwork(calibrated(tmp_path, "w8a8").network.model)
    signals, values = {}, {}
    computing = student.network.on_activation
    model.on_activation = lambda name, found: signals.setdefault(name, found)
    student.network.on_activation = lambda name, found: values.setdefault(name, computing(name, found))
    with torch.inference_mode():
        model(images())
        student.network(images())
    student.network.on_activation = computing
    found = layer_decibels(model.model, student, images())
    assert student.network.on_activation == computing
    assert set(found) == set(signals)
    for name, decibels in found.items():
        signal, noise = signals[name].numpy(), (signals[name] - values[name]).numpy()
        assert decibels == pytest.approx(10 * np.log10((signal**2).sum() / (noise**2).sum()), abs=1e-3), name


def test_more_bits_are_never_worse_in_any_layer(tmp_path):
    found = {}
    for bits in ("w4a4", "w6a6", "w8a8"):
        student = calibrated(tmp_path, bits)
        found[bits] = layer_decibels(student.network.model, student, images())
    for name in found["w8a8"]:
        if name != "images":  # whose pixels have 8 bits always
            assert found["w4a4"][name] < found["w6a6"][name] < found["w8a8"][name], name
    assert min(found["w8a8"].values()) > 25
    assert min(found["w6a6"].values()) > 15
    assert min(found["w4a4"].values()) > 4


def test_files_below_eight_bits_are_more(tmp_path):
    integer = integer_of(calibrated(tmp_path, "w4a8"))
    eight = artefacts(integer, b"before", Bits(8, 4))
    assert eight == {"model.onnx": integer.SerializeToString(), "calibrated.onnx": b"before"}
    four = artefacts(integer, b"before", Bits(4, 8))
    assert four == {**eight, "model.safetensors": packed(integer)}
    assert [artefact_names(Bits(8, 4)), artefact_names(Bits(4, 8))] == [list(eight), list(four)]
    assert sizes(eight) == {"quantized": len(eight["model.onnx"])}
    assert sizes(four) == {"quantized": len(four["model.onnx"]), "packed": len(four["model.safetensors"])}


def report(**others):
    return {
        "bits": "w4a4",
        "sparsity": 0.0,
        "faces_used": 7940,
        "faces_held_out": 256,
        "schedule": {"steps": 249},
        "seconds": {"calibrate": 20.0, "fine_tune": 389.0},
        "cosine_to_teacher": {
            "calibrated": {"mean": 0.91234, "p01": 0.8},
            "fine_tuned": {"mean": 0.98765, "p01": 0.9501},
        },
        "bytes": {"float": 3_970_000, "quantized": 1_150_000, "packed": 655_000},
        "latency_ms": {
            "batch_1": {"float": 5.28, "quantized": 2.27},
            "batch_64": {"float": 6.0, "quantized": 3.0},
        },
        "computation": {"multiply_adds": 221_000_000, "integer_share": 1.0, "kernels": {}, "float_products": 0},
        **others,
    }


def test_the_report_on_one_screen():
    of = {
        "float": {"accuracy": 0.9932, "standard_error": 0.001},
        "calibrated": {"accuracy": 0.98, "standard_error": 0.002},
        "fine_tuned": {"accuracy": 0.99, "standard_error": 0.0015},
    }
    assert summary(report(accuracy={"lfw": of})).splitlines() == [
        "w4a4, fine-tuned on 7,940 faces in 249 steps, 389 s (49 s per 1,000)",
        "                           full precision       calibrated       fine-tuned",
        "accuracy, lfw             99.32 +- 0.10 %  98.00 +- 0.20 %  99.00 +- 0.15 %",
        "cosine to full precision                1           0.9123           0.9877",
        "  its 1st percentile                    1           0.8000           0.9501",
        "size, model.onnx                  3.97 MB                     1.15 MB, 29 %",
        "size, model.safetensors           3.97 MB                     0.66 MB, 16 %",
        "time, one face                     5.3 ms                     2.3 ms, 2.3 x",
        "time, a face of 64                 6.0 ms                     3.0 ms, 2.0 x",
        "100.0 % of 221 million multiply-adds are of bytes",
        "model.onnx stores a byte a weight: onnxruntime is no faster below 8 bits, and runs int4 in floats",
    ]


def test_eight_bits_need_no_packed_file():
    size = {"float": 4_000_000, "quantized": 1_000_000}
    lines = summary(report(bits="w8a8", sparsity=0.5, faces_used=0, bytes=size)).splitlines()
    assert lines[0] == "50 % of the parameters pruned, w8a8, not fine-tuned"
    assert lines[-1] == "100.0 % of 221 million multiply-adds are of bytes"
    assert not any("safetensors" in line or "accuracy" in line for line in lines)


def test_a_pruned_network_in_floats():
    lines = summary(report(bits="float", sparsity=0.5)).splitlines()
    assert lines[:2] == [
        "50 % of the parameters pruned, float, fine-tuned on 7,940 faces in 249 steps, 389 s (49 s per 1,000)",
        "                          full precision  pruned     fine-tuned",
    ]
    assert lines[-1] == "221 million multiply-adds, all of floats"


def test_cosines_of_faces_that_were_trained_on_are_said_to_be():
    lines = summary(report(faces_held_out=0)).splitlines()
    assert lines[-3] == "no faces were held out: the cosines are of faces that were trained on, or calibrated with"


def test_products_that_a_runtime_does_in_floats_are_said():
    done = {"multiply_adds": 221_000_000, "integer_share": 0.98, "kernels": {"Conv": 2}, "float_products": 2}
    assert summary(report(computation=done)).splitlines()[-3:-1] == [
        "98.0 % of 221 million multiply-adds are of bytes",
        "onnxruntime runs 2 convolutions or matrix products in floats all the same",
    ]
