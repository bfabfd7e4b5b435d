"""Learned steps against their formulas, equal functions, losses by hand, and a run that is killed and goes on."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import helper
from pictures import encoded, folder_of, jpeg
from test_models_onnx import batch_of, by_onnxruntime, floats, model_of, written
from test_quantize import calibrated, integer_of, normalised
from test_quantize import network as small_network

from facecore.errors import DataError, ModelError
from facecore.images import Preprocess
from facecore.models import load_backbone, load_onnx
from facecore.quantize import Bits, QuantizeOptions, quantize
from facecore.quantize.batches import balanced, orders
from facecore.quantize.bits import FLOAT
from facecore.quantize.distill import Distillation, Schedule
from facecore.quantize.equalise import MARGIN, equalise
from facecore.quantize.faces import Faces, evenly
from facecore.quantize.losses import LOSSES, Cosine, Ekd
from facecore.quantize.primitives import Affine, fake_activation, fake_weight
from facecore.quantize.ranges import RANGES, Extremes, MovingRange, PercentileRange, RangeSearch
from facecore.quantize.report import cosine_summary
from facecore.quantize.run import _Run
from facecore.quantize.student import Student
from facecore.quantize.widths import activation_bits, apart, weight_bits
from facecore.readers import open_dataset

# Ranges


def test_a_range_is_a_mean_over_batches():
    moving = MovingRange()
    moving.observe(torch.tensor([-1.0, 2.0]))
    assert (moving.low, moving.high) == (-1, 2)
    moving.observe(torch.tensor([-3.0, 8.0]))
    assert (moving.low, moving.high) == (-2, 5)
    for _ in range(18):
        moving.observe(torch.tensor([-2.0, 5.0]))
    moving.observe(torch.tensor([-2.0, 105.0]))  # one outlier after twenty batches counts for a twentieth
    assert moving.high == pytest.approx(10)


def test_a_few_large_values_are_clipped_for_the_sake_of_the_others():
    values = torch.cat([torch.linspace(0, 1, 10_000), torch.tensor([4.0])])
    search = RangeSearch(0, 4, 4)
    search.observe(values)
    errors = {
        share: float((Affine.over(0, 4 * share, 4).fake(values) - values).square().sum())
        for share in np.arange(0.25, 1.01, 0.05)
    }
    assert search.best().scale * 15 == pytest.approx(4 * min(errors, key=errors.get))
    assert search.best().scale * 15 < 2
    even = RangeSearch(-1, 1, 4)
    even.observe(torch.linspace(-1, 1, 1000))
    assert even.best() == Affine.over(-1, 1, 4)


def test_extremes_are_those_of_all_batches_and_zero():
    extremes = Extremes()
    for values in ([1.0, 2.0], [-3.0, 1.0], [0.0, 8.0]):
        extremes.observe(torch.tensor(values))
    assert (extremes.low, extremes.high) == (-3, 8)


def test_percentiles_leave_out_one_value_in_ten_thousand_on_either_side():
    values = torch.arange(20_001, dtype=torch.float32)[torch.randperm(20_001)]
    found = PercentileRange()
    found.observe(values)
    assert (found.low, found.high) == (2, 19_998)


@pytest.mark.parametrize("ranges", RANGES)
def test_every_way_of_finding_ranges_gives_a_network_that_works(ranges, tmp_path):
    model, images = normalised(tmp_path), np.tanh(batch_of(64))
    student = Student(model, Bits())
    student.calibrate([torch.from_numpy(images)], ranges=ranges)
    assert cosine(by_onnxruntime(integer_of(student), images), by_onnxruntime(model, images)) > 0.99


def cosine(a, b):
    return float((a * b).sum(1).mean() / np.sqrt((a**2).sum(1) * (b**2).sum(1)).mean())


# Learned steps


@pytest.mark.parametrize("bits", [8, 4])
def test_the_gradient_of_a_scale_is_that_of_lsq(bits):
    low, high, values = -1.0, 1.5, torch.from_numpy(floats(2, 3, 5, 5, seed=1)).requires_grad_()
    quantizer, slope = Affine.over(low, high, bits), torch.from_numpy(floats(2, 3, 5, 5, seed=2))
    scale = torch.tensor([quantizer.scale], requires_grad=True)
    done = fake_activation(values, scale, quantizer.zero_point, bits)
    assert torch.equal(done, quantizer.fake(values.detach()))
    (done * slope).sum().backward()
    steps = values.detach() / quantizer.scale
    least, most = -quantizer.zero_point, quantizer.highest - quantizer.zero_point
    # Esser et al. 2020, equation 3, but what rounds to an end of the range is inside, as in torch's own kernels
    near = torch.round(steps)
    by_value = torch.where(near < least, least, torch.where(near > most, most, near - steps))
    assert float(scale.grad) == pytest.approx(float((by_value * slope).sum()), rel=1e-4)
    inside = (torch.round(steps) >= least) & (torch.round(steps) <= most)
    assert torch.equal(values.grad, slope * inside)


def test_the_gradients_of_a_weight():
    steps = torch.tensor([[0.4, -1.6, 9.0], [2.0, 0.0, -8.0]], requires_grad=True)
    scales = torch.tensor([0.5, 2.0], requires_grad=True)
    slope = torch.tensor([[1.0, 10.0, 100.0], [1.0, 10.0, 100.0]])
    done = fake_weight(steps, scales, 4)
    assert done.tolist() == [[0, -1, 3.5], [4, 0, -14]]
    (done * slope).sum().backward()
    assert scales.grad.tolist() == [0 - 20 + 700, 2 + 0 - 700]  # the slope times the integer
    assert steps.grad.tolist() == [[0.5, 5, 0], [2, 20, 0]]  # the slope times the scale, if not clipped


def test_a_student_can_be_left_and_taken_up(tmp_path):
    model, images = normalised(tmp_path), torch.from_numpy(np.tanh(batch_of(16)))
    student = calibrated(model, "w4a4")
    before, state = integer_of(student).SerializeToString(), student.state()
    learnt(student, images, torch.from_numpy(floats(16, 6)), steps=3)
    assert integer_of(student).SerializeToString() != before
    student.restore(state)
    assert integer_of(student).SerializeToString() == before
    other = Student(model, Bits.parse("w4a4"))
    other.restore(state)
    assert integer_of(other).SerializeToString() == before


# Widths


def test_the_first_and_last_layer_in_8_bits(tmp_path):
    graph = normalised(tmp_path).graph
    weights = [node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert weight_bits(graph, 4) == dict.fromkeys(weights, 4)
    assert weight_bits(graph, 4, edges_8_bit=True) == dict(zip(weights, [8, 4, 4, 8], strict=True))
    some, edges = activation_bits(graph, 4), activation_bits(graph, 4, edges_8_bit=True)
    assert {name for name in some if some[name] != edges[name]} == {"globalaveragepool_0"}  # what the Gemm reads


def test_sums_keep_8_bits_apart_from_what_convolutions_read(tmp_path):
    model, images = normalised(tmp_path), batch_of(2)
    split = apart(model)
    found = activation_bits(split.graph, 4)
    assert (found["prelu_0"], found["prelu_0/read"], found["add_0"]) == (8, 4, 4)  # nobody adds to add_0
    assert by_onnxruntime(split, images) == pytest.approx(by_onnxruntime(model, images))
    student = calibrated(split, "w4a4")
    with torch.inference_mode():
        expected = student.network(torch.from_numpy(np.tanh(images))).numpy()
    assert cosine(by_onnxruntime(integer_of(student), np.tanh(images)), expected) > 0.99


# Equal channels


def uneven(*, bound=6.0, slope=None):
    """Conv, Clip or PReLU, depthwise Conv: channels from tiny to large, one dead."""
    middle = (
        helper.make_node("Clip", ["c0", "low", "high"], ["k0"])
        if slope is None
        else helper.make_node("PRelu", ["c0", "slope"], ["k0"])
    )
    nodes = [
        helper.make_node("Conv", ["in", "w0", "b0"], ["c0"]),
        middle,
        helper.make_node("Conv", ["k0", "w1", "b1"], ["c1"], group=5),
        helper.make_node("GlobalAveragePool", ["c1"], ["g1"]),
        helper.make_node("Flatten", ["g1"], ["f1"]),
        helper.make_node("Gemm", ["f1", "w2", "b2"], ["out"], transB=1),
    ]
    gains = np.array([0.0, 0.001, 0.03, 1, 30], np.float32)
    constants = {
        "w0": floats(5, 3, 1, 1, seed=1) * gains.reshape(5, 1, 1, 1),
        "b0": gains * 0.1,
        "low": np.float32(0),
        "high": np.float32(bound),
        "slope": np.full((5, 1, 1), slope or 0, np.float32),
        "w1": floats(5, 1, 3, 3, seed=2) / np.maximum(gains, 0.01).reshape(5, 1, 1, 1),
        "b1": floats(5, seed=3),
        "w2": floats(4, 5, seed=4),
        "b2": floats(4, seed=5),
    }
    if slope is None:
        del constants["slope"]
    else:
        del constants["low"], constants["high"]
    return model_of(nodes, constants)


def largest_of(model, name, images):
    student, found = Student(model, Bits()), {}

    def show(tensor, values):
        found[tensor] = values.abs().amax((0, 2, 3)).numpy() if values.ndim == 4 else None
        return values

    student.network.on_activation = show
    with torch.inference_mode():
        student.network(images)
    return found[name]


@pytest.mark.parametrize(("slope", "middle"), [(None, "clip_0"), (0.25, "prelu_0")])
def test_even_channels_compute_the_same(slope, middle, tmp_path):
    model, images = load_onnx(written(uneven(slope=slope), tmp_path / "net.onnx")), torch.from_numpy(batch_of(32))
    even = equalise(model, [images[:16], images[16:]])
    np.testing.assert_allclose(by_onnxruntime(even, images.numpy()), by_onnxruntime(model, images.numpy()), rtol=1e-3)
    before, after = largest_of(model, middle, images), largest_of(even, middle, images)
    top = before.max()
    assert before[0] == after[0] == 0  # dead, and left alone
    assert after[1] == pytest.approx(100 * before[1])  # almost dead: a hundred times is enough
    assert after[4] == pytest.approx(top)
    if slope is None:
        assert after[2:4] == pytest.approx([top / MARGIN] * 2, rel=1e-4)
    else:  # the tensor before PReLU must not be left with too large a channel either
        assert 0.5 * top < after[3] < 1.001 * top
    student = {name: calibrated_on(of, images) for name, of in (("before", model), ("after", even))}
    truth = by_onnxruntime(model, images.numpy())
    errors = {
        name: np.abs(by_onnxruntime(integer_of(of), images.numpy()) - truth).mean() for name, of in student.items()
    }
    assert errors["after"] < 0.5 * errors["before"]


def calibrated_on(model, images):
    student = Student(model, Bits())
    student.calibrate([images], ends=(float(images.min()), float(images.max())))
    return student


def test_a_quarter_above_calibration_no_clip_comes_earlier(tmp_path):
    model, images = load_onnx(written(uneven(), tmp_path / "net.onnx")), batch_of(32)
    even = equalise(model, [torch.from_numpy(images)])
    assert even != model
    np.testing.assert_allclose(by_onnxruntime(even, 1.24 * images), by_onnxruntime(model, 1.24 * images), rtol=1e-3)


def test_a_clip_that_does_not_start_from_zero_stays_as_it_is(tmp_path):
    model = uneven()
    for tensor in model.graph.initializer:
        if tensor.name == "low":
            tensor.CopyFrom(helper.make_tensor("low", 1, [], [-1.0]))
    model = load_onnx(written(model, tmp_path / "net.onnx"))
    assert equalise(model, [torch.from_numpy(batch_of(2))]) == model


def test_what_a_dense_convolution_reads_stays_as_it_is(tmp_path):
    model = normalised(tmp_path)
    assert [n.input[0] for n in model.graph.node if n.op_type == "Conv"] == ["images", "prelu_0", "add_0"]
    # prelu_0 is read by the sum too, so its channels cannot be scaled for the depthwise convolution alone
    assert equalise(model, [torch.from_numpy(batch_of(2))]) == model


# Losses


def unit(*degrees):
    return torch.tensor([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees], dtype=torch.float32)


def test_the_loss_is_twice_the_cosine_lost():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 1.0], [0.0, 9.0]])
    assert float(Cosine()(a, b, torch.zeros(2))) == pytest.approx((2 * (1 - 0) + 2 * (1 - 1)) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_a_student_like_its_teacher_has_nothing_to_learn(name):
    embeddings, identities = torch.from_numpy(floats(12, 6)), torch.arange(12) // 4
    assert float(LOSSES[name]()(embeddings, embeddings, identities)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("hardest", [2000, 1])  # of four negatives: all, or the last
def test_ekd_by_hand(hardest, monkeypatch):
    monkeypatch.setattr(Ekd, "HARDEST", hardest)
    angles = (121.5, 81, 40, 0), (121, 81, 41, 0)  # of pairs at the thresholds, whose soft ranks are not saturated
    student, teacher, who = unit(*angles[0]), unit(*angles[1]), [0, 1, 1, 0]

    def pairs(angles):
        return {(i, j): np.cos(np.radians(angles[j] - angles[i])) for i in range(4) for j in range(i + 1, 4)}

    cosines = [pairs(of) for of in angles]
    negatives = [(2, 3), (0, 1), (1, 3), (0, 2)]  # from the student's nearest
    ranks = []
    for of in cosines:
        threshold = max(of[pair] for pair in negatives)  # of four negatives, every rate of 1 in 10 or less is the first
        ranks.append({pair: 6 / (1 + np.exp(-(value - threshold) / 0.01)) for pair, value in of.items()})
    apart_by = {pair: (ranks[0][pair] - ranks[1][pair]) ** 2 for pair in ranks[0]}
    positive = 0.02 * np.mean([apart_by[0, 3], apart_by[1, 2]])
    expected = positive + 0.01 * np.mean([apart_by[pair] for pair in negatives[:hardest]])
    assert expected > positive + 5e-3 > 1e-2
    found = Ekd(3.0)(student, teacher, torch.tensor(who)) - Cosine()(student, teacher, torch.tensor(who))
    assert float(found) == pytest.approx(3 * expected, rel=1e-3)


def test_thresholds_are_quantiles_of_negatives_and_move_slowly():
    loss = Ekd()
    loss._follow(torch.linspace(0, 1, 101).repeat(2, 1))
    assert loss.thresholds[0].tolist() == pytest.approx([0.9, 0.99, 1, 1, 1, 1])
    loss._follow(torch.zeros(2, 101))
    assert loss.thresholds[0].tolist() == pytest.approx([0.891, 0.9801, 0.99, 0.99, 0.99, 0.99])
    above = 1 / (1 + np.exp(-5.9)) + 1 / (1 + np.exp(3.01)) + 4 / (1 + np.exp(4))
    assert loss.soft_ranks(torch.full((2, 1), 0.95)).flatten().tolist() == pytest.approx([above] * 2, rel=1e-4)


def test_without_pairs_of_one_person_ekd_is_the_cosine():
    a, b = torch.from_numpy(floats(4, 6)), torch.from_numpy(floats(4, 6, seed=1))
    assert float(Ekd()(a, b, torch.arange(4))) == float(Cosine()(a, b, torch.arange(4)))


# Batches


def test_an_epoch_uses_every_face_once():
    rows = np.arange(10) * 3
    plan = list(orders(rows, Schedule(steps=5, batch_size=4)))
    assert [len(of) for of, _ in plan] == [4] * 5
    assert sorted(np.concatenate([of for of, _ in plan])[:10].tolist()) == rows.tolist()
    again = list(orders(rows, Schedule(steps=5, batch_size=4)))
    assert all((a == b).all() and f == g for (a, f), (b, g) in zip(plan, again, strict=True))
    other = list(orders(rows, Schedule(steps=5, batch_size=4, seed=1)))
    assert any((a != b).any() for (a, _), (b, _) in zip(plan, other, strict=True))


def test_half_the_steps_are_mirrored():
    mirrored = [flag for _, flag in orders(np.arange(3), Schedule(steps=400, batch_size=2))]
    assert 150 < sum(mirrored) < 250


def test_a_data_set_smaller_than_a_batch_is_one_batch():
    found = orders(np.arange(3), Schedule(steps=2, batch_size=8))
    assert [sorted(rows.tolist()) for rows, _ in found] == [[0, 1, 2]] * 2


def test_balanced_batches_hold_four_faces_of_eight_people_beside_the_random_ones():
    identities = np.repeat(np.arange(30), np.arange(30) % 7 + 1)
    rows = np.flatnonzero(np.arange(len(identities)) % 11)
    people, counts = np.unique(identities[rows], return_counts=True)
    some = list(orders(rows, Schedule(steps=4, batch_size=6)))
    found_by_step = balanced(rows, identities, Schedule(steps=4, batch_size=6))
    for (plain, flag), (found, mirrored) in zip(some, found_by_step, strict=True):
        assert ((found[:6] == plain).all(), mirrored) == (True, flag)
        extra = found[6:].reshape(8, 4)
        assert set(extra.ravel()) <= set(rows)
        assert (identities[extra] == identities[extra[:, :1]]).all()
        assert set(identities[extra[:, 0]]) <= set(people[counts >= 4])
        assert len(set(identities[extra[:, 0]])) == 8
        assert all(len(set(of)) == 4 for of in extra)


def test_balanced_batches_need_people_with_several_faces():
    with pytest.raises(DataError) as error:
        next(balanced(np.arange(9), np.array([0, 0, 0, 0, 1, 1, 1, 2, 2]), Schedule(steps=1)))
    assert str(error.value) == (
        "the loss ekd compares faces of one person, and needs 2 identities with 4 faces each or more; "
        "the data set has 1: use --loss cosine"
    )


def test_evenly_spaced_rows():
    assert evenly(np.arange(10) * 2, 4).tolist() == [0, 6, 12, 18]
    assert evenly(np.arange(3), 9).tolist() == [0, 1, 2]


# The schedule


def test_the_rate_rises_and_falls():
    schedule = Schedule(steps=10, warm_up=0.2)
    rates = [schedule.rate(step) for step in range(11)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[6] == pytest.approx(0.5)
    assert rates[10] == pytest.approx(0)
    assert Schedule(steps=10, warm_up=0).rate(0) == 1


def learnt(student, images, target, *, steps, rate=0.05):
    distillation = Distillation(student, Cosine(), Schedule(steps, max(1, len(images)), rate))
    for _ in range(steps):
        distillation.learn(images, target, torch.zeros(len(images)))
    return distillation


def test_distillation_brings_a_coarse_student_nearer(tmp_path):
    model = normalised(tmp_path)
    images = torch.from_numpy(np.tanh(batch_of(64)))
    target = torch.from_numpy(by_onnxruntime(model, images.numpy()))
    losses = learnt(calibrated(model, "w3a4"), images, target, steps=60, rate=0.1).losses
    assert losses[-1] < 0.5 * losses[0]


def test_a_weight_moves_one_rate_in_a_step_whatever_its_size(tmp_path):
    student = calibrated(normalised(tmp_path), "w4a8")
    before = student.state()["weights"]
    learnt(student, torch.from_numpy(np.tanh(batch_of(8))), torch.from_numpy(floats(8, 6)), steps=1, rate=0.01)
    for name in student.weight_quantizers:
        moved = (student.network.weights[name].detach() - before[name]).abs()
        assert float(moved.max()) == pytest.approx(0.01, rel=0.01)


def test_a_batch_without_faces_changes_nothing(tmp_path):
    student = calibrated(normalised(tmp_path))
    before = integer_of(student).SerializeToString()
    distillation = learnt(student, torch.empty(0, 3, 16, 16), torch.empty(0, 6), steps=2)
    assert (distillation.step, distillation.losses) == (2, [])
    assert integer_of(student).SerializeToString() == before


def test_divergence_says_what_to_do(tmp_path):
    student = calibrated(normalised(tmp_path))
    with pytest.raises(ModelError) as error:
        learnt(student, torch.from_numpy(batch_of(2)), torch.full((2, 6), float("nan")), steps=5)
    assert str(error.value) == "fine-tuning diverged in step 1 of 5; use a lower --learning-rate"


# Runs that are killed, and that stop early


class Killed(BaseException):
    pass


@pytest.fixture
def faces(tmp_path):
    return folder_of(tmp_path / "faces", {f"p{i % 3}/{i:02d}.jpg": jpeg(i, size=16) for i in range(48)})


def run(tmp_path, faces, out="quantized", *, overwrite=False, **options):
    path = tmp_path / "net.onnx"
    if not path.exists():
        written(small_network(), path)
    options = {"batch_size": 8, "steps": 9, "checkpoint_every": 2, "workers": 1, "bits": Bits(4, 4), **options}
    return quantize(open_dataset(faces), path, tmp_path / out, QuantizeOptions(**options), overwrite=overwrite)


def kill_in_step(monkeypatch, number):
    learn, steps = Distillation.learn, itertools.count(1)  # of all trainings together

    def killed(self, *lesson):
        learn(self, *lesson)
        if next(steps) == number:
            raise Killed

    monkeypatch.setattr(Distillation, "learn", killed)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("number", [1, 6, 7])  # the checkpoints are of steps 0, 2, 4, 6, 8 and 9
def test_a_killed_run_goes_on_to_the_same_bytes(number, loss, tmp_path, faces, monkeypatch):
    (faces / "p0" / "00.jpg").write_bytes(b"nothing")
    whole = run(tmp_path, faces, "whole", loss=loss, max_rejected=0.1)
    with monkeypatch.context() as patch:
        kill_in_step(patch, number)
        with pytest.raises(Killed):
            run(tmp_path, faces, loss=loss, max_rejected=0.1)
    assert sorted(p.name for p in (tmp_path / "quantized").iterdir()) == ["checkpoint.pt", "teacher.npz"]
    asked = count_teaching(monkeypatch)
    resumed = run(tmp_path, faces, loss=loss, max_rejected=0.1, workers=2)
    assert sorted(p.name for p in (tmp_path / "quantized").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )
    for name in ("model.onnx", "model.safetensors"):
        if (tmp_path / "whole" / name).exists():
            assert (tmp_path / "quantized" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for of in (whole, resumed):
        del of["seconds"], of["latency_ms"]
    assert resumed == whole
    assert len(asked) < 2 * 48 - 8  # what the first part asked the teacher is not asked again


def test_a_run_goes_on_with_a_larger_max_rejected(tmp_path, faces, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_step(patch, 6)
        with pytest.raises(Killed):
            run(tmp_path, faces)
    asked = count_teaching(monkeypatch)
    run(tmp_path, faces, max_rejected=0.1)
    assert len(asked) < 2 * 48 - 8  # what the first part asked the teacher is not asked again


@pytest.mark.parametrize(
    ("bits", "number", "left"),
    [
        (Bits(8, 8), 7, ["recovery.pt", "teacher.npz"]),
        (Bits(8, 8), 16, ["checkpoint.pt", "recovery.pt", "teacher.npz"]),
        (FLOAT, 7, ["checkpoint.pt", "teacher.npz"]),
    ],
)
def test_a_pruned_network_goes_on_from_either_training(bits, number, left, tmp_path, faces, monkeypatch):
    whole = run(tmp_path, faces, "whole", bits=bits, sparsity=0.3)
    with monkeypatch.context() as patch:
        kill_in_step(patch, number)
        with pytest.raises(Killed):
            run(tmp_path, faces, bits=bits, sparsity=0.3)
    assert sorted(p.name for p in (tmp_path / "quantized").iterdir()) == left
    taken = []
    learn = Distillation.learn
    monkeypatch.setattr(Distillation, "learn", lambda self, *lesson: (taken.append(1), learn(self, *lesson)))
    resumed = run(tmp_path, faces, bits=bits, sparsity=0.3)
    assert len(taken) == (18 if bits != FLOAT else 9) - (number - 1)
    assert sorted(p.name for p in (tmp_path / "quantized").iterdir()) == [
        "calibrated.onnx",
        "model.onnx",
        "report.json",
    ]
    assert (tmp_path / "quantized" / "model.onnx").read_bytes() == (tmp_path / "whole" / "model.onnx").read_bytes()
    assert resumed["cosine_to_teacher"] == whole["cosine_to_teacher"]


def count_teaching(monkeypatch):
    from facecore.quantize.teacher import Teacher

    asked, embed = [], Teacher.embed

    def counting(self, rows, images, *, mirrored):
        asked.extend(rows[~self._known[int(mirrored), rows]].tolist())
        return embed(self, rows, images, mirrored=mirrored)

    monkeypatch.setattr(Teacher, "embed", counting)
    return asked


def test_every_face_is_asked_once_in_each_of_its_forms(tmp_path, faces, monkeypatch):
    asked = count_teaching(monkeypatch)
    run(tmp_path, faces, steps=60, checkpoint_every=60)
    assert len(asked) <= 2 * 48


def test_a_checkpoint_of_other_options_is_not_taken(tmp_path, faces, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_step(patch, 1)
        with pytest.raises(Killed):
            run(tmp_path, faces)
    with pytest.raises(DataError) as error:
        run(tmp_path, faces, seed=1)
    path = tmp_path / "quantized" / "checkpoint.pt"
    assert str(error.value) == (
        f"{path} is of a run with other options or inputs; run that again to finish it, "
        "choose another --out, or add --overwrite to start again"
    )
    run(tmp_path, faces, seed=1, overwrite=True)
    run(tmp_path, faces, "again", seed=1)
    assert (tmp_path / "quantized/model.onnx").read_bytes() == (tmp_path / "again/model.onnx").read_bytes()


def test_a_damaged_checkpoint(tmp_path, faces):
    path = tmp_path / "quantized" / "checkpoint.pt"
    path.parent.mkdir()
    path.write_bytes(b"nothing")
    with pytest.raises(DataError) as error:
        run(tmp_path, faces)
    assert str(error.value) == f"{path} cannot be read; delete it to start again"


def test_the_best_student_on_held_out_faces_is_kept(tmp_path, faces):
    report = run(tmp_path, faces, learning_rate=9.0, steps=6)
    checks = report["checkpoints"]
    assert [check["step"] for check in checks] == [0, 2, 4, 6]
    assert report["faces_held_out"] == 4
    assert max(checks, key=lambda check: check["cosine"])["step"] == 0  # such a rate spoils everything
    assert report["cosine_to_teacher"]["fine_tuned"] == report["cosine_to_teacher"]["calibrated"]


def test_patience_ends_a_run_that_gets_no_better(tmp_path, faces):
    report = run(tmp_path, faces, learning_rate=9.0, steps=40, patience=2)
    assert [check["step"] for check in report["checkpoints"]] == [0, 2, 4]


@pytest.mark.parametrize("held_out", [4, 0])
def test_the_cosines_are_of_held_out_faces_and_without_any_of_those_calibrated_with(held_out, tmp_path, faces):
    options = QuantizeOptions(held_out=held_out)
    report = run(tmp_path, faces, held_out=held_out, calibration_faces=9)
    of = Faces(open_dataset(faces), size=16, preprocess=Preprocess(), workers=1, max_rejected=0)
    training, rows = of.held_out(held_out, options.seed)
    ((_, images),) = of.batches(rows if held_out else evenly(training, 9), 64)
    target = load_backbone(tmp_path / "net.onnx").embed(images)
    for name, file in (("calibrated", "calibrated.onnx"), ("fine_tuned", "model.onnx")):
        found = load_backbone(tmp_path / "quantized" / file).embed(images)
        assert report["cosine_to_teacher"][name] == pytest.approx(cosine_summary(found, target), abs=1e-6)


def test_the_ends_of_the_input_are_what_black_and_white_become(tmp_path):
    flat = {f"ann/{level}.png": encoded(np.full((16, 16, 3), level, np.uint8), "PNG") for level in (0, 255)}
    preprocess = Preprocess(mean=40.0, scale=50.0)
    dataset = open_dataset(folder_of(tmp_path / "flat", flat))
    of = Faces(dataset, size=16, preprocess=preprocess, workers=1, max_rejected=0)
    ((_, images),) = of.batches(np.arange(2), 2)
    assert of.ends == pytest.approx((float(images.min()), float(images.max())))
    assert of.ends == (-0.8, 4.3)


def test_held_out_faces_are_neither_trained_on_nor_calibrated_with(tmp_path, faces):
    path, options = written(small_network(), tmp_path / "net.onnx"), QuantizeOptions(held_out=4, calibration_faces=44)
    begun = _Run(open_dataset(faces), path, options, None)
    training, held_out = set(begun._school.training.tolist()), set(begun._school.held_out.tolist())
    assert (len(training), len(held_out), training | held_out) == (44, 4, set(range(48)))
    assert set(begun._calibration.tolist()) == training
    few = _Run(open_dataset(faces), path, replace(options, calibration_faces=9), None)._calibration
    assert (len(few), set(few.tolist()) <= training) == (9, True)


def test_held_out_faces_are_drawn_by_the_seed_and_never_trained_on(tmp_path, faces):
    assert run(tmp_path, faces, held_out=2, steps=40)["faces_used"] == 46
    report = run(tmp_path, faces, "none", held_out=0, steps=40)
    assert (report["faces_used"], report["faces_held_out"]) == (48, 0)
    assert report["checkpoints"][-1] == {"step": 40}
    assert json.loads((tmp_path / "none" / "report.json").read_text()) == report
