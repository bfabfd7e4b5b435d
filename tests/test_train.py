"""The proxy: the loss against the formula, training that learns and repeats, and the file it writes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pictures import folder_of

from facecore.errors import DataError, OptionError
from facecore.images import Preprocess, decode, to_input
from facecore.models import load_backbone
from facecore.provenance import Provenance
from facecore.readers import open_dataset
from facecore.synthesis.drawn import person_of
from facecore.synthesis.face import a_shot
from facecore.synthesis.paint import draw_face
from facecore.synthesis.picture import encode
from facecore.train import TinyFaceNet, TrainOptions, train, train_proxy
from facecore.train.proxy import margin_loss

BRIEF = TrainOptions(steps=20, batch_size=12, dimension=16, learning_rate=0.05)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six identities of four faces."""
    files = {
        f"p{who}/{number}.jpg": encode(draw_face(person_of(0, who), a_shot(np.random.default_rng([who, number]))))
        for who in range(6)
        for number in range(4)
    }
    return open_dataset(folder_of(tmp_path_factory.mktemp("faces"), files))


@pytest.fixture(scope="module")
def faces(dataset):
    """Their pixels and labels."""
    pixels = np.stack([decode(dataset.read(source), 112) for source in dataset.faces["source"].to_pylist()])
    return pixels, np.repeat(np.arange(6), 4)


@pytest.fixture(scope="module")
def trained(faces):
    return train_proxy(*faces, BRIEF)


@pytest.fixture(scope="module")
def written(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "proxy.onnx"
    return path, train(dataset, path, BRIEF)


def test_the_loss_is_that_of_the_formula():
    embeddings, centres = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    cosine = np.array([[1.0, 0.6], [0.0, 0.8]])
    expected = []
    for row, own in enumerate((0, 1)):
        logits = 8 * cosine[row]
        logits[own] = 8 * (cosine[row][own] - 0.25)
        expected.append(-np.log(np.exp(logits[own]) / np.exp(logits).sum()))
    loss = margin_loss(embeddings, centres, torch.tensor([0, 1]), scale=8.0, margin=0.25)
    assert loss.item() == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_loss_falls(trained):
    _, losses = trained
    assert losses.shape == (20,)
    assert losses[-5:].mean() < 0.5 * losses[:5].mean()


def test_the_faces_it_saw_are_told_apart(faces, trained):
    pixels, labels = faces
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(trained[0](torch.from_numpy(to_input(pixels, Preprocess())))).numpy()
    cosine = vectors @ vectors.T
    same = labels[:, None] == labels[None, :]
    assert cosine[same & ~np.eye(len(labels), dtype=bool)].mean() > cosine[~same].mean() + 0.3


def test_equal_seeds_give_equal_weights_and_leave_the_generator_alone(faces, trained):
    before = torch.random.get_rng_state()
    again, losses = train_proxy(*faces, BRIEF)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(losses, trained[1])
    for name, value in again.state_dict().items():
        assert torch.equal(value, trained[0].state_dict()[name]), name


def test_another_seed_gives_other_weights(faces):
    first, other = (train_proxy(*faces, TrainOptions(steps=1, batch_size=4, seed=s))[0] for s in (0, 1))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_the_pixels_are_left_as_they_were(faces):
    pixels, labels = faces
    before = pixels.copy()
    train_proxy(pixels, labels, TrainOptions(steps=2, batch_size=24))
    assert np.array_equal(pixels, before)


def test_fewer_faces_than_a_batch(faces):
    pixels, labels = faces
    _, losses = train_proxy(pixels[:6], labels[:6], TrainOptions(steps=2, batch_size=64))
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(("count", "classes"), [(0, 0), (4, 1)])
def test_nothing_to_tell_apart(faces, count, classes):
    pixels, labels = faces
    with pytest.raises(DataError) as error:
        train_proxy(pixels[:count], labels[:count], BRIEF)
    assert str(error.value) == f"{classes} identities cannot be told apart; training needs at least 2"


def test_a_loss_that_leaves_the_numbers(faces):
    with pytest.raises(OptionError) as error:
        train_proxy(*faces, TrainOptions(steps=9, batch_size=4, learning_rate=1e30))
    what, then = str(error.value).split(" after ")
    assert what in ("the loss is nan", "the loss is inf")
    assert then.split("; ")[1] == "lower --learning-rate (now 1e+30) or --scale (now 24.0)"


def test_the_file_agrees_with_the_network_at_any_batch(faces, trained, written):
    session = onnxruntime.InferenceSession(written[0], providers=["CPUExecutionProvider"])
    for count in (1, 3, 24):
        images = to_input(faces[0][:count], Preprocess())
        with torch.no_grad():
            expected = trained[0](torch.from_numpy(images)).numpy()
        (found,) = session.run(["embeddings"], {"images": images})
        assert found.shape == (count, 16)
        assert np.abs(found - expected).max() < 1e-4


def test_the_file_holds_only_what_a_quantizer_knows(written):
    model = onnx.load(written[0])
    known = {"Conv", "BatchNormalization", "PRelu", "Add", "Gemm", "MatMul", "Reshape", "Flatten"}
    assert {node.op_type for node in model.graph.node} <= known
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]


def test_the_file_says_how_it_was_made_and_nothing_of_this_machine(dataset, written):
    path, done = written
    assert (done.faces, done.identities) == (24, 6)
    assert done.parameters == sum(p.numel() for p in TinyFaceNet(16).parameters())
    assert done.last_loss < done.first_loss
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    made = Provenance.from_json(entries["facecore"])
    assert (made.stage, made.options["steps"], made.options["seed"]) == ("train", 20, 0)
    assert made.inputs == {"dataset": dataset.sha256}
    backbone = load_backbone(path)
    assert (backbone.size, backbone.dimension, backbone.preprocess) == (112, 16, Preprocess())
    assert str(Path.cwd()).encode() not in path.read_bytes()
    assert b"tiny.py" not in path.read_bytes()


def test_equal_inputs_give_equal_bytes(dataset, written, tmp_path):
    train(dataset, tmp_path / "again.onnx", BRIEF)
    assert (tmp_path / "again.onnx").read_bytes() == written[0].read_bytes()


def test_an_existing_file_stays(dataset, tmp_path):
    out = tmp_path / "proxy.onnx"
    out.write_text("mine")
    with pytest.raises(DataError) as error:
        train(dataset, out, BRIEF)
    assert str(error.value) == f"{out} exists; choose another --out, or add --overwrite to replace it"
    assert out.read_text() == "mine"


def test_another_suffix(dataset, tmp_path):
    with pytest.raises(OptionError) as error:
        train(dataset, tmp_path / "proxy.pt", BRIEF)
    assert str(error.value) == f"{tmp_path}/proxy.pt does not end in .onnx, the format that training writes; name it so"


def test_a_face_that_cannot_be_read(tmp_path):
    folder_of(tmp_path / "faces", {"a/1.jpg": 1, "a/2.jpg": b"not a picture", "b/1.jpg": 2})
    with pytest.raises(DataError) as error:
        train(open_dataset(tmp_path / "faces"), tmp_path / "proxy.onnx", BRIEF)
    assert str(error.value) == (
        f"a/2.jpg under {tmp_path}/faces cannot be read: not an image: unknown image format; mend it or leave it out"
    )
    assert not (tmp_path / "proxy.onnx").exists()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, batches are normalised; got 1"),
        ({"dimension": 0}, "dimension must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"scale": float("inf")}, "scale must be above 0, got inf"),
        ({"margin": 1.0}, "margin is a cosine, in [0, 1); got 1.0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
    ids=str,
)
def test_options_out_of_range(wrong, line):
    with pytest.raises(OptionError) as error:
        TrainOptions(**wrong)
    assert str(error.value) == line
