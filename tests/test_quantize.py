"""Quantizers against their check values, the integer graph against the student, and the stage as a whole."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from pictures import encoded, folder_of, jpeg, pixels
from test_models_onnx import CPU, batch_of, by_onnxruntime, floats, model_of, written

from facecore.errors import DataError, ModelError, OptionError
from facecore.images import Preprocess
from facecore.manifest import write_manifest
from facecore.models import load_backbone, load_onnx, session_options
from facecore.provenance import Provenance
from facecore.quantize import Bits, QuantizeOptions, quantize
from facecore.quantize.bits import FLOAT
from facecore.quantize.export import to_float, to_integer
from facecore.quantize.primitives import Affine, fake_weight, weight_scales
from facecore.quantize.ranges import RANGES
from facecore.quantize.student import OFF_TIES, Student
from facecore.quantize.widths import activation_bits
from facecore.readers import open_dataset


def network(*, slope=0.25):
    """Conv, PReLU, a residual sum of Conv and Clip, pooling, Gemm: every way in which tensors meet quantizers."""
    nodes = [
        helper.make_node("Conv", ["in", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("PRelu", ["c0", "slope"], ["p0"]),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], group=8),
        helper.make_node("Clip", ["c1", "low", "high"], ["k1"]),
        helper.make_node("Add", ["k1", "p0"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["g2"]),
        helper.make_node("Flatten", ["g2"], ["f2"]),
        helper.make_node("Gemm", ["f2", "w3", "b3"], ["out"], transB=1),
    ]
    constants = {
        "w0": floats(8, 3, 3, 3, seed=1) * 0.3,
        "b0": floats(8, seed=2) * 0.1,
        "slope": np.linspace(0, slope, 8, dtype=np.float32).reshape(8, 1, 1),
        "w1": floats(8, 1, 3, 3, seed=3) * 0.3,
        "b1": floats(8, seed=4) * 0.1,
        "low": np.float32(0),
        "high": np.float32(6),
        "w2": floats(16, 8, 1, 1, seed=5) * 0.3,
        "b2": floats(16, seed=6) * 0.1,
        "w3": floats(6, 16, seed=7),
        "b3": floats(6, seed=8) * 0.1,
    }
    return model_of(nodes, constants)


def normalised(tmp_path, **options):
    return load_onnx(written(network(**options), tmp_path / "net.onnx"))


def calibrated(model, bits="w8a8"):
    student = Student(model, Bits.parse(bits))
    student.calibrate([torch.from_numpy(np.tanh(batch_of(64)))])
    return student


def integer_of(student):
    return to_integer(student.model(), student.quantizers, student.weight_quantizers)


def decibels(signal, approximation):
    return float(10 * np.log10((signal**2).sum() / ((signal - approximation) ** 2).sum()))


# Primitives


@pytest.mark.parametrize(
    ("bits", "value", "integer", "back"),
    # QuantFace's formulas on the range [-1.1, 1.65]; its integers start at -2^(k-1), ours at 0
    [(8, 0.3, 2 + 128, 0.30196), (8, 2.0, 255, 1.65), (6, 0.3, 0 + 32, 0.30556), (6, -1.2, 0, -1.09127)],
)
def test_the_check_values_of_quantface(bits, value, integer, back):
    quantizer = Affine.over(-1.1, 1.65, bits)
    assert float(quantizer.fake(torch.tensor([value]))) == pytest.approx(back, abs=5e-6)
    assert round(back / quantizer.scale) + quantizer.zero_point == integer


def test_zero_is_always_exact():
    for low, high in ((0.5, 2.0), (-3.0, -1.0), (-1.0, 2.0), (0.0, 0.0)):
        assert float(Affine.over(low, high, 4).fake(torch.zeros(1))) == 0


def test_the_zero_point_is_the_nearest_integer():
    # 15 / 3.2 = 4.69 and 15 / 2.9 = 5.17
    assert [Affine.over(-1, high, 4).zero_point for high in (2.2, 1.9)] == [5, 5]


def test_the_gradient_passes_where_nothing_is_clipped():
    values = torch.tensor([-2.0, -0.5, 0.5, 3.0], requires_grad=True)
    Affine.over(-1, 2, 8).fake(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 0]


def rounded(weight, bits):
    scales = weight_scales(weight, bits)
    return fake_weight(weight / scales[:, None], scales, bits)


def test_weights_are_rounded_by_output_channel():
    weight = torch.tensor([[1.27, -0.634, 0.0], [0.0254, 0.01, -0.0001], [0.0, 0.0, 0.0]])
    scales = torch.tensor([0.01, 0.0002, 1.0])
    expected = [[1.27, -0.63, 0], [0.0254, 0.01, 0], [0, 0, 0]]
    assert fake_weight(weight / scales[:, None], scales, 8).numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_the_scale_of_a_channel_is_the_one_that_loses_least():
    rows = torch.from_numpy(floats(3, 200, seed=1)) * torch.tensor([[1.0], [0.01], [0.0]])
    rows[1, 0] = 0.1  # an outlier, worth clipping
    found = weight_scales(rows, 4)
    for row, scale in zip(rows, found, strict=True):
        largest = max(float(row.abs().max()), 1e-8) / 7

        def lost(share, row=row, largest=largest):
            step = largest * share
            return float((torch.clamp(torch.round(row / step), -7, 7) * step - row).square().sum())

        shares = np.arange(20, 7, -1) / 20
        assert float(scale) == pytest.approx(largest * min(shares, key=lost), rel=1e-5)
    assert float(found[1]) < 0.1 / 7 * 0.99


@pytest.mark.parametrize(("bits", "floor"), [(8, 38), (6, 26), (4, 13)])
def test_each_width_is_as_good_as_it_should_be(bits, floor):
    values = torch.from_numpy(floats(4096, seed=1))
    quantizer = Affine.over(float(values.min()), float(values.max()), bits)
    assert decibels(values.numpy(), quantizer.fake(values).numpy()) > floor
    weight = torch.from_numpy(floats(16, 256, seed=2))
    assert floor < decibels(weight.numpy(), rounded(weight, bits).numpy()) < floor + 12  # more, and it has more bits


@pytest.mark.parametrize("text", ["w9a9", "w1a8", "w8a9"])
def test_widths_outside_their_range(text):
    with pytest.raises(OptionError, match=r"^bits per (weight|activation) go from 2 to 8, as in w8a8 or w4a8; got \d$"):
        Bits.parse(text)


@pytest.mark.parametrize("text", ["8", "a8w8", "w8", "w8a8 ", ""])
def test_widths_that_are_none(text):
    with pytest.raises(OptionError) as error:
        Bits.parse(text)
    assert str(error.value) == f"bits are written as w8a8 or w4a8, or float; got {text!r}"


def test_widths_are_read_as_they_are_written():
    assert (Bits.parse("w4a8"), Bits.parse("W4A8"), str(Bits(4, 8))) == (Bits(4, 8), Bits(4, 8), "w4a8")


# The integer graph


def test_which_tensors_are_quantized(tmp_path):
    found = activation_bits(normalised(tmp_path).graph, 4)
    # what ReLU and Clip alone read is not; what a Conv or Gemm reads has 4 bits, through Flatten too; the rest has 8
    assert sorted(found.items()) == [
        ("add_0", 4),
        ("clip_0", 8),
        ("conv_0", 8),
        ("embeddings", 8),
        ("globalaveragepool_0", 4),
        ("images", 8),
        ("prelu_0", 4),
        ("relu_0", 8),
    ]


def all_tensors(integer, images):
    """What onnxruntime computes for every quantized tensor, by its name in the float graph."""
    shown = {node.output[0]: node.output[0].removesuffix("/dequantized") for node in integer.graph.node}
    quantized = [node.output[0] for node in integer.graph.node if node.op_type == "DequantizeLinear"]
    names = [name for name in quantized if "/weight/" not in name and "/bias/" not in name]
    known = {value.name for value in integer.graph.output}
    model = onnx.ModelProto()
    model.CopyFrom(integer)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
    return {shown[name]: values for name, values in zip(names, session.run(names, {"images": images}), strict=True)}


@pytest.mark.parametrize("bits", ["w8a8", "w6a6", "w4a8", "w3a2"])
def test_the_integer_model_is_the_student_layer_by_layer_to_one_step(bits, tmp_path):
    student = calibrated(normalised(tmp_path), bits)
    images = np.tanh(batch_of(64))
    found = all_tensors(integer_of(student), images)
    compute = student.network.on_activation

    def compare(name, values):
        values = compute(name, values)
        if name in student.quantizers:
            steps = np.abs(found[name] - values.numpy()) / student.quantizers[name].scale
            assert steps.max() < 1.01, name
            assert (steps > 0.01).mean() < 0.001, name
            values = torch.from_numpy(found[name])  # so that a difference does not spread to the next layer
        return values

    student.network.on_activation = compare
    with torch.inference_mode():
        student.network(torch.from_numpy(images))
    assert student.quantizers.keys() <= found.keys()


def test_the_integer_model_as_a_whole_is_the_student(tmp_path):
    student = calibrated(normalised(tmp_path))
    images = np.tanh(batch_of(64))
    with torch.inference_mode():
        expected = student.network(torch.from_numpy(images)).numpy()
    found = by_onnxruntime(integer_of(student), images)
    assert np.abs(found - expected).max() < 1.01 * student.quantizers["embeddings"].scale


def test_every_matrix_product_is_an_integer_one(tmp_path):
    integer = integer_of(calibrated(normalised(tmp_path, slope=0)))
    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(integer.SerializeToString(), options, providers=[CPU])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert operators.count("QLinearConv") == 4  # and one that scales PReLU's input
    assert operators.count("QGemm") == 1
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm"} & set(operators)


def test_weights_are_stored_as_bytes_within_their_width(tmp_path):
    integer = integer_of(calibrated(normalised(tmp_path), "w4a8"))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in integer.graph.initializer}
    weights = [stored[f"{name}/weight/integer"] for name in ("conv_0", "conv_1", "conv_2", "embeddings")]
    for values in weights:
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() == 7
    assert not any(values.dtype == np.float32 and values.ndim > 3 for values in stored.values())


def test_a_dead_channel_keeps_its_bias(tmp_path):
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name == "w3":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((6, 16), np.float32), "w3"))
    student = calibrated(load_onnx(written(model, tmp_path / "net.onnx")))
    found = by_onnxruntime(integer_of(student), np.tanh(batch_of(2)))
    assert found == pytest.approx(np.tile(floats(6, seed=8) * 0.1, (2, 1)), abs=student.quantizers["embeddings"].scale)


@pytest.mark.parametrize("slope", [0.5, 3.0])
def test_prelu_is_written_without_its_operator(slope, tmp_path):
    model = normalised(tmp_path, slope=slope)
    plain = to_float(model)
    assert "PRelu" in {node.op_type for node in model.graph.node}
    assert "PRelu" not in {node.op_type for node in plain.graph.node}
    np.testing.assert_allclose(by_onnxruntime(plain, batch_of(4)), by_onnxruntime(model, batch_of(4)), atol=1e-5)


def test_pixels_do_not_fall_between_two_integers(tmp_path):
    student = Student(normalised(tmp_path), Bits())
    every = torch.arange(256, dtype=torch.float32)
    pixels = ((every - 127.5) / 127.5).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    student.calibrate([pixels])
    quantizer = student.quantizers["images"]
    between = (pixels.double() / quantizer.scale).remainder(1)
    assert float((between - 0.5).abs().min()) > 1e-3


@pytest.mark.parametrize("ranges", RANGES)
def test_the_range_of_the_input_is_that_of_all_pixels_whatever_calibration_shows(ranges, tmp_path):
    student = Student(normalised(tmp_path), Bits())
    dull = torch.arange(64, 192, dtype=torch.float32).reshape(1, 1, 8, 16).repeat(2, 3, 2, 1)
    student.calibrate([(dull - 100) / 50], ends=(-100 / 50, 155 / 50), ranges=ranges)
    expected = Affine.over(-100 / 50 * OFF_TIES, 155 / 50 * OFF_TIES, 8)
    found = student.quantizers["images"]
    assert (found.scale, found.zero_point) == (pytest.approx(expected.scale), expected.zero_point)


# The stage


@pytest.fixture
def faces(tmp_path):
    return folder_of(tmp_path / "faces", {f"p{i % 3}/{i:02d}.jpg": jpeg(i, size=16) for i in range(24)})


def run(tmp_path, faces, out="quantized", model=None, overwrite=False, **options):
    path = tmp_path / "net.onnx"
    if not path.exists():
        written(model or network(), path)
    options = {"batch_size": 8, "steps": 3, "workers": 1, **options}
    return quantize(open_dataset(faces), path, tmp_path / out, QuantizeOptions(**options), overwrite=overwrite)


def test_the_report_says_what_the_files_are(tmp_path, faces):
    report = run(tmp_path, faces)
    assert json.loads((tmp_path / "quantized" / "report.json").read_text()) == report
    assert (report["bits"], report["faces"], report["faces_used"], report["rejected"]) == ("w8a8", 24, 22, [])
    assert report["faces_held_out"] == 2
    assert report["bytes"]["quantized"] == (tmp_path / "quantized" / "model.onnx").stat().st_size
    assert report["schedule"] == {
        "steps": 3,
        "batch_size": 8,
        "learning_rate": 0.002,
        "warm_up": 0.05,
        "seed": 0,
    }
    assert report["parameters"] == sum(
        np.prod(t.dims, dtype=int) for t in network().graph.initializer if t.name not in ("low", "high")
    )
    assert 0.99 < report["cosine_to_teacher"]["fine_tuned"]["p01"] <= report["cosine_to_teacher"]["fine_tuned"]["mean"]
    assert set(report["latency_ms"]) == {"batch_1", "batch_64"}
    assert report["computation"]["integer_share"] == 1
    assert min(report["decibels"].values()) > 20
    assert {p.name for p in (tmp_path / "quantized").iterdir()} == {"calibrated.onnx", "model.onnx", "report.json"}


def test_below_eight_bits_there_is_a_packed_file_which_runs_alike(tmp_path, faces):
    report = run(tmp_path, faces, bits=Bits(4, 4))
    folder = tmp_path / "quantized"
    names = ["calibrated.onnx", "model.onnx", "model.safetensors", "report.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert report["bytes"]["packed"] == (folder / "model.safetensors").stat().st_size
    packed, plain = (load_backbone(folder / name).embed(batch_of(3)) for name in ("model.safetensors", "model.onnx"))
    assert (packed == plain).all()
    run(tmp_path, faces, overwrite=True)
    assert sorted(p.name for p in folder.iterdir()) == ["calibrated.onnx", "model.onnx", "report.json"]


def test_pruned_first_then_quantized(tmp_path, faces):
    plain, narrow = (run(tmp_path, faces, out=f"{s}", sparsity=s, steps=20) for s in (0.0, 0.5))
    assert narrow["parameters"] <= 0.5 * plain["parameters"]
    assert narrow["bytes"]["float"] == plain["bytes"]["float"]
    assert load_backbone(tmp_path / "0.5" / "model.onnx").dimension == 6
    with pytest.raises(OptionError) as error:
        QuantizeOptions(sparsity=1.0)
    assert str(error.value) == "sparsity is the fraction of the parameters to prune, in [0, 1); got 1"


def test_pruned_and_left_in_floats(tmp_path, faces):
    report = run(tmp_path, faces, bits=Bits.parse("float"), sparsity=0.5, steps=20)
    assert (report["bits"], report["decibels"], report["computation"]["integer_share"]) == ("float", {}, 0)
    assert report["bytes"]["quantized"] == (tmp_path / "quantized" / "model.onnx").stat().st_size
    assert report["cosine_to_teacher"]["fine_tuned"]["mean"] > report["cosine_to_teacher"]["calibrated"]["mean"]
    before, after = (load_onnx(tmp_path / name).graph.initializer for name in ("net.onnx", "quantized/model.onnx"))
    assert sum(np.prod(t.dims) for t in after) < 0.6 * sum(np.prod(t.dims) for t in before)


def test_the_integer_model_is_a_model_like_any_other(tmp_path, faces):
    run(tmp_path, faces, preprocess=Preprocess(mean=100, scale=50, bgr=True))
    backbone = load_backbone(tmp_path / "quantized" / "model.onnx")
    assert backbone.preprocess == Preprocess(mean=100, scale=50, bgr=True)
    assert (backbone.size, backbone.dimension) == (16, 6)
    with pytest.raises(ModelError, match="quantized already"):
        load_onnx(tmp_path / "quantized" / "model.onnx")


def test_no_pixel_is_clipped_after_calibration_on_dull_faces(tmp_path):
    dull = {f"p{i % 3}/{i:02d}.png": encoded(pixels(i, 16) // 2 + 64, "PNG") for i in range(24)}  # from 64 to 191
    run(tmp_path, folder_of(tmp_path / "dull", dull), steps=0, preprocess=Preprocess(mean=100, scale=50))
    graph = onnx.load(tmp_path / "quantized" / "model.onnx").graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    steps = (np.arange(256) - 100) / 50 / stored["images/scale"] + stored["images/zero_point"]
    assert (round(steps[0]), round(steps[255])) == (0, 254)


def test_same_seed_same_bytes(tmp_path, faces):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path, faces, out=name, seed=seed, bits=Bits(4, 4))
    a, b, c = ((tmp_path / name / "model.onnx").read_bytes() for name in "abc")
    assert a == b != c


def test_epochs_may_be_a_fraction():
    assert QuantizeOptions(epochs=0.5, batch_size=8).schedule(24).steps == 2
    assert QuantizeOptions(epochs=1.0, batch_size=8).schedule(25).steps == 4
    assert QuantizeOptions(epochs=0.0).schedule(25).steps == 0
    assert QuantizeOptions(epochs=9.0, steps=1).schedule(25).steps == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"epochs": float("nan")}, "epochs must be 0 or more, got nan"),
        ({"steps": -1}, "steps must be 0 or more, got -1"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0 and below 10, got 0"),
        ({"calibration_faces": 0}, "calibration_faces must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"bits": FLOAT}, "bits float quantizes nothing and sparsity 0 prunes nothing; ask for one of them"),
        (
            {"bits": FLOAT, "sparsity": 0.5, "edges_8_bit": True},
            "edges_8_bit is of integer networks, but bits are float; leave it out",
        ),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"held_out": -1}, "held_out must be 0 or more, got -1"),
        ({"ekd_weight": -1.0}, "ekd_weight must be 0 or more, got -1"),
        ({"ekd_weight": 2.0}, "ekd_weight is of --loss ekd, not of cosine; leave it out"),
        ({"warm_up": 1.5}, "warm_up is the fraction of the steps, in [0, 1]; got 1.5"),
        ({"loss": "arcface"}, "no loss arcface; there are cosine, ekd"),
        ({"ranges": "mean"}, "no ranges mean; there are minmax, moving-average, percentile, mse"),
        (
            {"max_rejected": 2.0},
            "max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got 2.0",
        ),
    ],
)
def test_options_outside_their_range(options, line):
    with pytest.raises(OptionError) as error:
        QuantizeOptions(**options)
    assert str(error.value) == line


def test_the_preprocessing_of_the_manifest_is_used_for_its_network(tmp_path, faces):
    path = written(network(), tmp_path / "net.onnx")
    listed = open_dataset(faces).faces
    recorded = {"mean": 10.0, "scale": 200.0, "bgr": True}
    for sha256, expected in (
        (load_backbone(path).sha256, Preprocess(**recorded)),
        ("of another network", Preprocess()),
    ):
        facts = {"root": str(faces), "format": "folder", "preprocess": recorded, "model": {"sha256": sha256}}
        write_manifest(listed, tmp_path / "subset.parquet", Provenance("nms", facts=facts))
        report = run(tmp_path, tmp_path / "subset.parquet", overwrite=True)
        assert Preprocess(**report["preprocess"]) == expected


def test_an_unreadable_face_is_left_out_and_listed(tmp_path, faces):
    (faces / "p0" / "00.jpg").write_bytes(b"nothing")
    report = run(tmp_path, faces, max_rejected=0.1)
    assert report["rejected"] == [{"source": "p0/00.jpg", "reason": "not an image: unknown image format"}]
    assert report["faces_used"] + report["faces_held_out"] == 23


def test_too_many_unreadable_faces_stop_it_with_nothing_written(tmp_path, faces):
    (faces / "p0" / "00.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError) as error:
        run(tmp_path, faces)
    assert str(error.value) == (
        "1 of 24 faces cannot be read, first p0/00.jpg: not an image: unknown image format; "
        "mend or leave out these, or allow more with --max-rejected"
    )
    assert not (tmp_path / "quantized").exists()


def test_the_network_that_is_read_is_never_replaced(tmp_path, faces):
    (tmp_path / "nets").mkdir()
    path = written(network(), tmp_path / "nets" / "model.onnx")
    before, options = path.read_bytes(), QuantizeOptions(batch_size=8, steps=1, workers=1)
    with pytest.raises(DataError) as error:
        quantize(open_dataset(faces), path, path.parent, options, overwrite=True)
    assert str(error.value) == f"{path} is {path}, from which it would be made; choose another --out"
    assert path.read_bytes() == before
    path = path.rename(path.with_name("float.onnx"))
    quantize(open_dataset(faces), path, path.parent, options, overwrite=True)  # beside it there is room
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ['{"arch": "tiny"}', "[1]", "nothing"])
def test_a_report_of_something_else_is_never_replaced(text, tmp_path, faces):
    path = tmp_path / "quantized" / "report.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(DataError) as error:
        run(tmp_path, faces, overwrite=True)
    assert str(error.value) == f"{path} is not of a quantized network; choose another --out"
    assert path.read_text() == text


def test_an_output_that_exists_is_not_touched(tmp_path, faces):
    run(tmp_path, faces)
    before = (tmp_path / "quantized" / "model.onnx").read_bytes()
    with pytest.raises(DataError) as error:
        run(tmp_path, faces, bits=Bits(4, 4))
    assert str(error.value) == (
        f"{tmp_path / 'quantized' / 'model.onnx'} exists; choose another --out, or add --overwrite to replace it"
    )
    assert (tmp_path / "quantized" / "model.onnx").read_bytes() == before


def test_the_real_network_in_eight_bits(tmp_path, real_data):
    root = real_data / "cfp" / "images"
    for person in ("001", "002", "003", "004"):
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / "faces" / person).symlink_to(root / person)
    report = quantize(
        open_dataset(tmp_path / "faces"),
        real_data.parent / "models" / "mobilefacenet.onnx",
        tmp_path / "quantized",
        QuantizeOptions(steps=2, batch_size=8, calibration_faces=32),
        overwrite=False,
    )
    assert report["cosine_to_teacher"]["calibrated"]["mean"] > 0.985
    assert report["cosine_to_teacher"]["fine_tuned"]["mean"] > 0.985
    assert report["bytes"]["quantized"] < 0.29 * report["bytes"]["float"]


def test_calibration_tells_of_every_batch_of_both_passes(tmp_path):
    student, told = Student(normalised(tmp_path), Bits()), []
    student.calibrate([torch.from_numpy(batch_of(2))] * 6, on_batch=lambda: told.append(1))
    assert len(told) == 6 + 4
