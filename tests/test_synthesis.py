"""Synthetic faces: a folder that grows, whatever makes them; what a teacher drops; generators of every format."""

import warnings
from shutil import rmtree

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from test_models_onnx import floats, model_of, written
from torch import nn

from facecore.cli import main
from facecore.errors import DataError, ModelError, OptionError
from facecore.images import Preprocess, to_input
from facecore.manifest import provenance_of
from facecore.quantize import QuantizeOptions, quantize
from facecore.readers import open_dataset
from facecore.synthesis import Origin, SynthesisOptions, synthesize
from facecore.synthesis.generator import Generator
from facecore.synthesis.paint import _Pen
from facecore.synthesis.screen import Kept, Screen
from facecore.synthesis.source import Parametric

PARAMETRIC = Origin(parametric=True)
FEW = SynthesisOptions(batch_size=4, size=32)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def run(*words):
    result = CliRunner().invoke(main, ["synthesize", *map(str, words)])
    return result.exit_code, result.output


def pixels_in(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))])


# The folder


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    out = tmp_path_factory.mktemp("parametric") / "ten"
    synthesize(PARAMETRIC, out, FEW, count=10)
    return out


def test_the_manifest_lists_the_images_and_nobody_twice(ten):
    faces = pq.read_table(ten / "manifest.parquet")
    assert faces.column_names == ["face_id", "identity", "source"]
    assert faces["source"].to_pylist() == faces["face_id"].to_pylist() == sorted(files_of(ten))
    assert len(set(faces["identity"].to_pylist())) == 10
    assert pixels_in(ten).shape == (10, 32, 32, 3)
    assert len({picture.tobytes() for picture in pixels_in(ten)}) == 10
    made = provenance_of(ten / "manifest.parquet")
    assert made.options == {
        "source": "parametric", "size": 32, "seed": 0, "batch_size": 4, "min_norm": None, "max_cosine": None,
        "preprocess": None,
    }  # fmt: skip
    assert made.facts == {"root": ten.as_posix(), "format": "folder", "faces": 10}
    assert sorted(path.name for path in ten.iterdir()) == [".records", "00000", "manifest.parquet"]


def test_the_folder_and_the_manifest_are_the_same_data_set(ten):
    assert open_dataset(ten).faces["source"] == open_dataset(ten / "manifest.parquet").faces["source"]


def test_more_faces_begin_with_fewer_and_leave_them_untouched(ten, tmp_path):
    out = tmp_path / "out"
    assert synthesize(PARAMETRIC, out, FEW, count=3).resumed == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert synthesize(PARAMETRIC, out, FEW, count=10).resumed == 3
    assert files_of(out) == files_of(ten)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    faces = [pq.read_table(folder / "manifest.parquet") for folder in (out, ten)]
    assert faces[0].equals(faces[1])


def test_a_killed_run_goes_on(ten, tmp_path, monkeypatch):
    from facecore.synthesis.records import Records

    add, added = Records.add, []

    def dying(self, number, pixels, verdicts):
        if number == 1:
            raise KeyboardInterrupt
        added.append(number)
        add(self, number, pixels, verdicts)

    monkeypatch.setattr(Records, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        synthesize(PARAMETRIC, tmp_path / "out", FEW, count=10)
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    monkeypatch.setattr(Records, "add", add)
    assert synthesize(PARAMETRIC, tmp_path / "out", FEW, count=10).resumed == 4
    assert files_of(tmp_path / "out") == files_of(ten)


def test_images_that_are_lost_are_made_again(ten, tmp_path):
    out = tmp_path / "out"
    words = ("--parametric", "--size", 32, "--batch-size", 4, "--out", out)
    assert run("--count", 9, *words) == (0, f"{out}/manifest.parquet: 9 faces\n")
    images = [out / "00000" / f"{face:08d}.png" for face in range(9)]
    untouched = {path: path.stat().st_mtime_ns for path in (*images[:1], *images[3:8])}
    images[1].write_bytes(images[1].read_bytes()[:50])
    images[2].unlink()
    images[8].unlink()  # of another batch, which is not full yet
    line = f"{out}/manifest.parquet: 10 faces, 6 of them were there already, "
    assert run("--count", 10, *words) == (0, f"{line}3 made again, whose images were missing or cut short\n")
    assert files_of(out) == files_of(ten)
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    records = [sorted((folder / ".records").glob("*.parquet")) for folder in (out, ten)]
    for ours, whole in zip(*records, strict=True):
        assert pq.read_table(ours).equals(pq.read_table(whole))
    assert run("--count", 10, *words) == (0, f"{out}/manifest.parquet: 10 faces, 10 of them were there already\n")
    rmtree(out / "00000")
    line = f"{out}/manifest.parquet: 10 faces, 10 made again, whose images were missing or cut short\n"
    assert run("--count", 10, *words) == (0, line)
    assert files_of(out) == files_of(ten)


def test_eyes_and_mouth_lie_where_aligned_crops_have_them(monkeypatch):
    found = []
    monkeypatch.setattr("facecore.synthesis.source.draw_face", lambda *face: found.append(_Pen(*face)) or at((0, 0))[0])
    Parametric(SynthesisOptions(batch_size=200)).faces(0)
    eyes, mouth = (
        np.mean([_placed(pen, *place(pen.person)) for pen in found], axis=0)
        for place in (lambda p: (p.eye_apart, p.eye_y), lambda p: (0.0, p.mouth_y))
    )
    np.testing.assert_allclose(
        eyes, (73.5, 51.7), atol=4
    )  # of ArcFace's template: the right eye, the middle of the mouth
    np.testing.assert_allclose(mouth, (56, 92.3), atol=4)


def _placed(pen, x, y):
    return np.array(pen.place(np.array([[x, y]]), depth=0.0)[0]) / 3


def test_another_seed_makes_other_faces(ten, tmp_path):
    synthesize(PARAMETRIC, tmp_path / "out", SynthesisOptions(batch_size=4, size=32, seed=1), count=10)
    assert not set(files_of(tmp_path / "out").values()) & set(files_of(ten).values())


def test_what_is_there_is_kept_or_replaced_as_told(tmp_path):
    out = tmp_path / "out"
    small = ("--parametric", "--size", 16, "--batch-size", 2, "--out", out)
    assert run("--count", 3, *small) == (0, f"{out}/manifest.parquet: 3 faces\n")
    assert run("--count", 4, *small) == (0, f"{out}/manifest.parquet: 4 faces, 3 of them were there already\n")
    assert run("--count", 2, *small) == (
        1, f"Error: {out} holds 4 faces, more than --count 2; choose another --out\n"
    )  # fmt: skip
    assert run("--count", 4, *small, "--seed", 1) == (
        1,
        f"Error: {out} holds faces made with another seed (0, not 1); choose another --out, or add --overwrite "
        "to replace them\n",
    )
    assert run("--count", 2, *small, "--seed", 1, "--overwrite") == (0, f"{out}/manifest.parquet: 2 faces\n")
    assert len(files_of(out)) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").write_text("mine")
    assert run("--count", 2, "--parametric", "--out", tmp_path / "mine", "--overwrite") == (
        1, f"Error: {tmp_path}/mine holds what is not synthetic faces; choose another --out\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--count", 2], "give one of --generator, --from-model and --parametric"),
        (["--count", 2, "--parametric", "--generator", "g"], "give one of --generator, --from-model and --parametric"),
        (["--count", 0, "--parametric"], "--count must be at least 1, got 0"),
        (
            ["--count", 2, "--parametric", "--crop", "0.5"],
            "--crop is of --generator, not of --parametric; leave it out",
        ),
        (
            ["--count", 2, "--parametric", "--steps", "9"],
            "--steps is of --from-model, not of --parametric; leave it out",
        ),
        (
            ["--count", 2, "--parametric", "--bgr"],
            "--arch, --mean, --scale and --bgr are of --from-model or --teacher; leave them out",
        ),
        (
            ["--count", 2, "--parametric", "--min-norm", "9"],
            "--min-norm and --max-cosine are about embeddings; name the network with --teacher",
        ),
        (
            ["--count", 2, "--generator", "g.onnx"],
            "no generator at g.onnx; facecore downloads none, name a file that is there",
        ),
        (
            ["--count", 2, "--generator", "g.pkl"],
            "g.pkl does not end in .onnx, .pt2, .pt, .pth, .ts; export the generator to ONNX, torch.export or "
            "TorchScript",
        ),
        (
            ["--count", 2, "--from-model", "m.onnx"],
            "no model at m.onnx; facecore downloads none, name a file that is there",
        ),
        (
            ["--count", 2, "--from-model", "m.pt2"],
            "m.pt2 does not end in .onnx, .pt, .pth; statistics are read from these formats only",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_asked_for(words, line, tmp_path):
    assert run(*words, "--out", tmp_path / "out") == (1, f"Error: {line}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"size": 7}, "size must be at least 8, got 7"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"classes": 0}, "classes must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"seed": 1 << 64}, "seed must be below 2**64, got 18446744073709551616"),
        ({"crop": 0.0}, "crop is the fraction of an image to keep, in (0, 1]; got 0"),
        ({"range": "0,2"}, "range must be auto or one of -1,1 and 0,1 and 0,255; got 0,2"),
        ({"latent": "512,1"}, "latent is a shape without the batch, as 512 or 512x1x1; got '512,1'"),
        ({"truncation": float("nan")}, "truncation must be 0 or more, got nan"),
        ({"min_norm": 0.0}, "min_norm is the length of an embedding, above 0; got 0"),
        ({"max_cosine": 1.0}, "max_cosine is a cosine, in [-1, 1); got 1"),
    ],
    ids=str,
)
def test_options_out_of_range(wrong, line):
    with pytest.raises(OptionError) as error:
        SynthesisOptions(**wrong)
    assert str(error.value) == line


def test_synthetic_faces_calibrate_a_network(ten, tmp_path):
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["c"], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "b"], ["out"], transB=1),
    ]
    constants = {"w": floats(8, 3, 4, 4), "g": floats(5, 8), "b": floats(5)}
    model = written(model_of(nodes, constants, shape=("n", 3, 32, 32)), tmp_path / "net.onnx")
    faces = open_dataset(ten / "manifest.parquet")
    report = quantize(faces, model, tmp_path / "quantized", QuantizeOptions(steps=1, batch_size=2), overwrite=False)
    assert (report["faces"], report["rejected"]) == (10, [])
    assert report["cosine_to_teacher"]["fine_tuned"]["mean"] > 0.99


# What a teacher drops


class Compass:
    """Embeds an image as its first pixel says: red is the angle in degrees, green the length."""

    size, dimension, sha256, preprocess = 8, 2, "0" * 64, None

    def embed(self, batch):
        red, green = np.rint(batch[:, :2, 0, 0] * 127.5 + 127.5).T
        return np.stack([np.cos(np.radians(red)), np.sin(np.radians(red))], 1).astype(np.float32) * green[:, None]


def at(*places):
    """Images of (angle, length)."""
    pixels = np.zeros((len(places), 8, 8, 3), np.uint8)
    pixels[:, :, :, :2] = np.array(places, np.uint8)[:, None, None]
    return pixels


def judged(pixels, first=0, **bounds):
    screen, kept, start = Screen(Compass(), SynthesisOptions(**bounds)), Kept(2), 100
    verdicts = []
    for begin in range(0, len(pixels), 4):
        faces = range(start + begin, start + begin + 4)
        verdicts += (found := screen.judge(pixels[begin : begin + 4], faces, 0, kept))
        for face, verdict in zip(faces, found, strict=True):
            if verdict.reason is None:
                kept.add(face, verdict.unit)
    return verdicts


def test_what_lies_on_top_of_a_kept_face_goes_and_names_it():
    found = judged(at((0, 9), (90, 9), (5, 9), (12, 9), (95, 9), (17, 9), (4, 9), (200, 9)), max_cosine=0.99)
    # cos 8 degrees = 0.9903: 5 goes because of 0, so that 12 stays, and 17 goes because of it
    assert [verdict.reason for verdict in found] == [
        None, None, "near-duplicate", None, "near-duplicate", "near-duplicate", "near-duplicate", None
    ]  # fmt: skip
    assert [verdict.rival for verdict in found if verdict.reason] == [100, 101, 103, 100]
    expected = [np.cos(np.radians(away)) for away in (5, 5, 5, 4)]
    np.testing.assert_allclose([verdict.cosine for verdict in found if verdict.reason], expected, atol=1e-3)


def test_a_short_embedding_goes_and_is_nobodys_rival():
    found = judged(at((0, 3), (0, 9), (90, 9), (200, 8)), max_cosine=0.99, min_norm=8.5)
    assert [verdict.reason for verdict in found] == ["small-norm", None, None, "small-norm"]
    assert [verdict.norm for verdict in found] == pytest.approx([3, 9, 9, 8], rel=1e-5)


def test_equal_faces_stay_where_only_short_ones_are_to_go():
    pixels = at(*((angle, 9) for angle in range(0, 180, 7) for _ in range(2)))  # some have a cosine above 1 by rounding
    assert [verdict.reason for verdict in judged(pixels[:52], min_norm=1.0)] == [None] * 52


def test_a_teacher_whose_embeddings_are_no_numbers_is_refused():
    class Lost(Compass):
        def embed(self, batch):
            return super().embed(batch) * np.float32("nan")

    screen = Screen(Lost(), SynthesisOptions(max_cosine=0.9))
    with pytest.raises(ModelError) as error:
        screen.judge(at((0, 9), (9, 9)), range(2), 0, Kept(2))
    assert str(error.value) == "the teacher's embeddings are not finite; check --teacher, and --mean and --scale"


def test_a_verdict_does_not_depend_on_where_a_run_was_stopped():
    pixels = at((0, 9), (2, 9), (90, 9), (1, 9))
    screen, kept = Screen(Compass(), SynthesisOptions(max_cosine=0.99)), Kept(2)
    whole = screen.judge(pixels, range(4), 0, kept)
    for face in range(2):
        if whole[face].reason is None:
            kept.add(face, whole[face].unit)
    rest = screen.judge(pixels, range(4), 2, kept)
    assert [(v.reason, v.rival, v.cosine) for v in rest] == [(v.reason, v.rival, v.cosine) for v in whole[2:]]


def mean_colour_network(path):
    """A network that embeds an image as its mean colour."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "b"], ["out"], transB=1),
    ]
    return written(model_of(nodes, {"g": np.eye(3, dtype=np.float32), "b": np.zeros(3, np.float32)}), path)


def test_dropped_faces_are_listed_and_made_up_for(tmp_path):
    teacher, out = mean_colour_network(tmp_path / "net.onnx"), tmp_path / "out"
    words = ("--parametric", "--size", 16, "--batch-size", 4, "--teacher", teacher, "--max-cosine", 0.98)
    code, line = run("--count", 8, *words, "--out", out)
    kept, dropped = (pq.read_table(out / name) for name in ("manifest.parquet", "dropped.parquet"))
    assert (code, line) == (
        0,
        f"{out}/manifest.parquet: 8 faces\n{out}/dropped.parquet: {len(dropped)} near-duplicate\n",
    )
    assert len(dropped) > 0
    assert kept["face_id"].to_pylist() == sorted(files_of(out))
    assert len(kept) == 8
    numbers = sorted(int(name[6:14]) for name in kept["face_id"].to_pylist() + dropped["face_id"].to_pylist())
    assert numbers == list(range(len(numbers)))
    assert set(dropped["rival"].to_pylist()) <= set(kept["face_id"].to_pylist())
    assert min(dropped["cosine"].to_pylist()) > 0.98
    vectors = to_input(pixels_in(out), Preprocess()).mean((2, 3))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.triu(units @ units.T, 1).max() < 0.98 + 1e-3

    assert run("--count", 3, *words, "--out", tmp_path / "grown")[0] == 0
    assert run("--count", 8, *words, "--out", tmp_path / "grown")[0] == 0
    for name in ("manifest.parquet", "dropped.parquet"):
        assert pq.read_table(tmp_path / "grown" / name).equals(pq.read_table(out / name))
    assert files_of(tmp_path / "grown") == files_of(out)

    before = files_of(out)
    for source in kept["source"].to_pylist()[::3]:
        (out / source).unlink()
    code, line = run("--count", 8, *words, "--out", out)
    mended = "8 faces, 5 of them were there already, 3 made again, whose images were missing or cut short"
    assert (code, line.splitlines()[0]) == (0, f"{out}/manifest.parquet: {mended}")
    assert files_of(out) == before
    assert pq.read_table(out / "dropped.parquet").equals(dropped)


def test_a_screen_that_lets_nothing_through_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.synthesis.run.FEWEST_MADE", 8)
    teacher, out = mean_colour_network(tmp_path / "net.onnx"), tmp_path / "out"
    words = ("--count", 4, "--parametric", "--size", 16, "--batch-size", 4, "--teacher", teacher, "--out", out)
    assert run(*words, "--min-norm", 99) == (
        1,
        f"Error: {out}: 8 of 8 faces were dropped (8 small-norm); see {out}/dropped.parquet, then lower --min-norm or "
        "raise --max-cosine, and add --overwrite\n",
    )
    assert len(pq.read_table(out / "dropped.parquet")) == 8
    assert run(*words) == (
        1, "Error: a teacher drops faces by --min-norm or --max-cosine; give one, or leave out --teacher\n"
    )  # fmt: skip


# Generators


class Network(nn.Module):
    """A small generator of 16 x 20 images, from black to white as given."""

    def __init__(self, latent=24, black=-1.0, white=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(latent, 8 * 4 * 5)
        self.up = nn.ConvTranspose2d(8, 3, 4, 4)
        self.black, self.white = black, white

    def forward(self, z):
        x = torch.tanh(3 * self.up(torch.relu(self.linear(z)).reshape(-1, 8, 4, 5)))
        return (x + 1) / 2 * (self.white - self.black) + self.black


class Conditional(Network):
    """The same, with a class as one-hot of 3 and a truncation, neither of which it may ignore."""

    def forward(self, z, c, truncation_psi):
        return super().forward(z * truncation_psi) * 0.1 + (c @ torch.tensor([[-0.5], [0.0], [0.5]]))[:, :, None, None]


class Labelled(Network):
    """The same, with an integer label."""

    def forward(self, z, y):
        return super().forward(z) * 0.1 + (y.float() - 1)[:, None, None, None] * 0.5


class Convolutional(nn.Module):
    """A generator as DCGAN's: the latent is (n, z, 1, 1)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.ConvTranspose2d(10, 6, 4), nn.ConvTranspose2d(6, 3, 4, 4)

    def forward(self, z):
        return torch.tanh(self.last(torch.relu(self.first(z))))


def scripted(network, path, *inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network.eval(), inputs), str(path))
    return path


def program(network, path, *inputs):
    free = tuple({0: torch.export.Dim("n", min=1, max=64)} if value.ndim else None for value in inputs)
    torch.export.save(torch.export.export(network.eval(), inputs, dynamic_shapes=free), path)
    return path


def as_onnx(path, *, batch="n", scale=1.0, offset=0.0, extra=(), dtype=TensorProto.FLOAT, outputs=4):
    """`Network` written by hand: what the exporter would make, but at once."""
    network = Network()
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    constants = {
        **{name.replace(".", "_"): value for name, value in weights.items()},
        "shape": np.array([-1, 8, 4, 5]), "three": np.float32(3), "scale": np.float32(scale),
        "offset": np.float32(offset),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["z", "linear_weight", "linear_bias"], ["l"], transB=1),
        helper.make_node("Relu", ["l"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["m"]),
        helper.make_node("ConvTranspose", ["m", "up_weight", "up_bias"], ["u"], strides=[4, 4]),
        helper.make_node("Mul", ["u", "three"], ["u3"]),
        helper.make_node("Tanh", ["u3"], ["t"]),
        helper.make_node("Mul", ["t", "scale"], ["s"]),
        helper.make_node("Add", ["s", "offset"], ["images"]),
    ]
    inputs = [helper.make_tensor_value_info("z", dtype, (batch, 24)), *extra]
    given = "images" if outputs == 4 else "l"
    graph = helper.make_graph(
        nodes, "made by hand", inputs, [helper.make_tensor_value_info(given, TensorProto.FLOAT, [None] * outputs)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generators")
    return {
        "onnx": as_onnx(folder / "g.onnx"),
        "onnx, one at a time": as_onnx(folder / "one.onnx", batch=1),
        "onnx, three at a time": as_onnx(folder / "three.onnx", batch=3),
        "pt2": program(Network(), folder / "g.pt2", torch.zeros(2, 24)),
        "ts": scripted(Network(), folder / "g.pt", torch.zeros(2, 24)),
    }


def test_every_format_gives_the_same_faces(formats, tmp_path):
    made = {}
    for name, path in formats.items():
        synthesize(Origin(generator=path), tmp_path / name, SynthesisOptions(size=16, batch_size=4), count=6)
        made[name] = pixels_in(tmp_path / name).astype(int)
        facts = provenance_of(tmp_path / name / "manifest.parquet").facts
        assert (facts["latent"], facts["range"]) == ([24], [-1.0, 1.0])
    for pictures in made.values():
        assert np.abs(pictures - made["onnx"]).max() <= 1  # runtimes differ in the last bits of a float
    assert len({picture.tobytes() for picture in made["onnx"]}) == 6


def test_pixels_are_what_the_generator_makes_cut_square(formats, tmp_path):
    faces = Generator(formats["onnx"], SynthesisOptions(batch_size=4)).faces(0)
    latents = [np.random.Generator(np.random.Philox(np.random.SeedSequence(0, spawn_key=(9, i)))) for i in range(4)]
    z = torch.tensor(np.stack([random.standard_normal(24) for random in latents])).float()
    with torch.inference_mode():
        expected = (Network()(z).numpy()[:, :, :, 2:18] + 1) * 127.5
    assert faces.shape == (4, 16, 16, 3)
    assert np.abs(faces - expected.transpose(0, 2, 3, 1)).max() < 0.51
    middle = Generator(formats["onnx"], SynthesisOptions(batch_size=4, crop=0.5)).faces(0)
    assert np.array_equal(middle, faces[:, 4:12, 4:12])


@pytest.mark.parametrize(
    ("scale", "offset", "name"), [(1.2, 0, "-1,1"), (0.5, 0.5, "0,1"), (0.55, 0.5, "0,1"), (127.5, 127.5, "0,255")]
)
def test_the_range_of_the_values_is_found(scale, offset, name, tmp_path):
    path = as_onnx(tmp_path / "g.onnx", scale=scale, offset=offset)
    found = Generator(path, SynthesisOptions(batch_size=16))
    told = Generator(path, SynthesisOptions(batch_size=16, range=name))
    assert found.facts["range"] == told.facts["range"] == [float(side) for side in name.split(",")]
    assert np.array_equal(found.faces(1), told.faces(1))


def test_a_range_that_cannot_be_found_is_asked_for(tmp_path):
    path = as_onnx(tmp_path / "g.onnx", scale=127.5)
    with pytest.raises(ModelError) as error:
        Generator(path, SynthesisOptions(batch_size=16))
    assert str(error.value) == (
        f"{path} makes values from -122 to 112, which is none of [-1,1], [0,1], [0,255]; say which by --range"
    )
    assert Generator(path, SynthesisOptions(range="0,255")).facts["range"] == [0.0, 255.0]


@pytest.mark.parametrize("kind", ["pt2", "ts"])
def test_class_and_truncation_are_given(kind, tmp_path):
    write = program if kind == "pt2" else scripted
    path = write(Conditional(), tmp_path / f"g.{kind}", torch.zeros(2, 24), torch.zeros(2, 3), torch.tensor(1.0))
    options = {"classes": None if kind == "pt2" else 3, "batch_size": 32, "range": "-1,1"}
    still = Generator(path, SynthesisOptions(truncation=0.0, **options)).faces(0)
    brightness = np.rint(still.mean((1, 2, 3)) / 64)
    assert len({face.tobytes() for face in still}) == 3  # one of each class, for without a latent all are alike
    assert set(np.diff(sorted(set(brightness)))) == {1.0}
    assert len({face.tobytes() for face in Generator(path, SynthesisOptions(**options)).faces(0)}) == 32


def test_an_integer_label_needs_the_number_of_classes(tmp_path):
    path = program(Labelled(), tmp_path / "g.pt2", torch.zeros(2, 24), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(OptionError) as error:
        Generator(path, SynthesisOptions())
    assert str(error.value) == (f"{path} takes y int64 (n), a class, and does not say of how many; name --classes")
    faces = Generator(path, SynthesisOptions(classes=3, range="-1,1")).faces(0)
    assert len(set(np.rint(faces.mean((1, 2, 3)) / 64))) == 3


def test_torchscript_is_tried_until_a_latent_fits(tmp_path):
    path = scripted(Convolutional(), tmp_path / "g.pt", torch.zeros(2, 10, 1, 1))
    assert Generator(path, SynthesisOptions(range="-1,1")).facts["latent"] == [10, 1, 1]

    class Anything(nn.Module):
        def forward(self, z):
            return z[:, :1, None, None].expand(-1, 3, 8, 8)

    path = scripted(Anything(), tmp_path / "any.pt", torch.zeros(2, 5))
    with pytest.raises(OptionError) as error:
        Generator(path, SynthesisOptions())
    assert str(error.value) == f"{path} takes z tensor, a latent, and does not say how large; name it: --latent 512"
    assert Generator(path, SynthesisOptions(latent="5", range="-1,1")).facts["latent"] == [5]


def test_what_is_no_generator_is_described(tmp_path):
    def refused(path):
        with pytest.raises(ModelError) as error:
            Generator(path, SynthesisOptions())
        return str(error.value)

    image = helper.make_tensor_value_info("mask", TensorProto.FLOAT, ("n", 3, 8, 8))
    path = as_onnx(tmp_path / "g.onnx", extra=[image])
    assert refused(path) == (
        f"{path} takes z float32 (n, 24), mask float32 (n, 3, 8, 8); a generator takes a latent and perhaps a class "
        "(one-hot or a label) and a truncation (psi); export it so"
    )
    path = as_onnx(tmp_path / "flat.onnx", outputs=2)
    assert refused(path) == (
        f"{path} takes z float32 (n, 24) and gives (2, 160) for a batch of 2, not images (n, 3, h, w); "
        "export the generator so"
    )
    (path := tmp_path / "g.pt").write_bytes(b"no zip")
    assert refused(path).startswith(f"{path} is not TorchScript (")
    assert refused(path).endswith("); export the generator with torch.jit.trace, torch.export or torch.onnx")
    (path := tmp_path / "g.pt2").write_bytes(b"no zip")
    assert refused(path).startswith(f"{path} is not a torch.export program (")


@pytest.mark.parametrize(("given", "what"), [({"truncation": 0.7}, "truncation"), ({"classes": 3}, "class")])
def test_what_a_generator_does_not_take_is_not_given_in_vain(given, what, formats):
    with pytest.raises(OptionError) as error:
        Generator(formats["onnx"], SynthesisOptions(**given))
    option = next(iter(given))
    assert str(error.value) == f"{formats['onnx']} takes z float32 (n, 24), no {what}; leave out --{option}"


def test_a_generator_made_anew_is_another(formats, tmp_path):
    words = ("--count", 2, "--size", 16, "--batch-size", 2, "--range", "-1,1", "--out", tmp_path / "out")
    assert run(*words, "--generator", formats["onnx"])[0] == 0
    assert run(*words, "--generator", formats["ts"]) == (
        1,
        f"Error: {tmp_path}/out holds faces made with another generator; choose another --out, or add --overwrite "
        "to replace them\n",
    )
    with pytest.raises(DataError):
        synthesize(PARAMETRIC, tmp_path / "out", FEW, count=2)
