"""Training as a stage: it learns, repeats, goes on where it was killed, and writes what others read."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from pictures import folder_of
from records import insightface, write_records
from safetensors.torch import load_file

from facecore.cli import main
from facecore.embed import EmbedOptions, embed
from facecore.errors import DataError, ModelError, OptionError
from facecore.images import Preprocess, decode, to_input
from facecore.manifest import write_manifest
from facecore.models import ARCHITECTURES, load_backbone, load_onnx
from facecore.provenance import Provenance
from facecore.readers import open_dataset
from facecore.synthesis.drawn import person_of
from facecore.synthesis.face import a_shot
from facecore.synthesis.paint import draw_face
from facecore.synthesis.picture import encode
from facecore.train import Measure, TrainOptions, train
from facecore.train.log import Log
from facecore.train.networks import new_network

PEOPLE, FACES = 6, 4
BRIEF = {"arch": "tiny", "steps": 20, "batch_size": 12, "learning_rate": 0.1, "scale": 24.0, "margin": 0.2}
BRIEF |= {"warm_up": 0.1, "workers": 1}
FILES = ["backbone.onnx", "backbone.pt", "head.safetensors", "log.csv", "report.json"]
BYTES = FILES[:4]  # a report has seconds


def options(**changed):
    return TrainOptions(**{**BRIEF, **changed})


@pytest.fixture(scope="module")
def drawings():
    """The images of six identities, four each."""
    return [
        [encode(draw_face(person_of(0, who), a_shot(np.random.default_rng([who, n])))) for n in range(FACES)]
        for who in range(PEOPLE)
    ]


@pytest.fixture(scope="module")
def folder(drawings, tmp_path_factory):
    files = {f"p{who}/{n}.jpg": image for who, images in enumerate(drawings) for n, image in enumerate(images)}
    return folder_of(tmp_path_factory.mktemp("faces"), files)


@pytest.fixture(scope="module")
def dataset(folder):
    return open_dataset(folder)


@pytest.fixture(scope="module")
def written(dataset, tmp_path_factory):
    """A finished training and its report."""
    out = tmp_path_factory.mktemp("network") / "proxy"
    return out, train(dataset, out, options())


@pytest.fixture(scope="module")
def pixels(dataset):
    return np.stack([decode(dataset.read(source), 112) for source in dataset.faces["source"].to_pylist()])


@pytest.fixture
def quick(written, monkeypatch):
    """Exporting to ONNX takes as long as a hundred steps: where it is not the point, an older graph is written."""
    model = onnx.load(written[0] / "backbone.onnx")
    del model.metadata_props[:]
    monkeypatch.setattr(
        "facecore.train.artefacts.to_onnx", lambda network, size: onnx.ModelProto.FromString(model.SerializeToString())
    )


def contents(out, names=BYTES):
    return {name: (out / name).read_bytes() for name in names}


def losses_of(out):
    return [float(line.split(",")[3]) for line in (out / "log.csv").read_text().splitlines()[1:]]


def line_of(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_loss_falls_and_is_logged(written):
    out, report = written
    losses = losses_of(out)
    assert len(losses) == report["steps"] == 20
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert report["loss"] == {"first": losses[0], "last": pytest.approx(np.mean(losses))}
    head, first = (out / "log.csv").read_text().splitlines()[:2]
    assert head == "step,epoch,learning_rate,loss,gradient_norm"
    assert first.startswith("1,0.5000,0.0333333333333333")


def test_the_faces_it_saw_are_told_apart(pixels, written):
    backbone = load_backbone(written[0] / "backbone.onnx")
    vectors = backbone.embed(to_input(pixels, Preprocess()))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, labels = vectors @ vectors.T, np.repeat(np.arange(PEOPLE), FACES)
    same = labels[:, None] == labels[None, :]
    assert cosine[same & ~np.eye(len(labels), dtype=bool)].mean() > cosine[~same].mean() + 0.3


def test_nothing_but_the_network_its_head_a_log_and_a_report_is_left(written):
    assert sorted(path.name for path in written[0].iterdir()) == FILES


def test_the_report_says_what_was_done(dataset, written):
    out, report = written
    assert json.loads((out / "report.json").read_text()) == report
    assert (report["faces"], report["faces_in_data_set"], report["identities"]) == (24, 24, 6)
    assert report["parameters"] == sum(p.numel() for p in ARCHITECTURES["tiny"]().parameters())
    assert report["inputs"] == {"dataset": dataset.sha256}
    assert (report["options"]["arch"], report["precision"], report["processes"]) == ("tiny", "float32", 1)
    assert (report["steps"], report["epochs"], report["kept_step"]) == (20, 10.0, 20)
    assert (report["accuracy"], report["checks"], report["rejected"]) == (None, [], [])
    assert 0 <= report["waiting_share"] <= 1
    assert str(Path.cwd()) not in json.dumps(report)


def test_the_onnx_file_agrees_with_the_checkpoint_at_any_batch(pixels, written):
    network = new_network("tiny", seed=1, init=written[0] / "backbone.pt").eval()
    session = onnxruntime.InferenceSession(written[0] / "backbone.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3, 24):
        images = to_input(pixels[:count], Preprocess())
        with torch.no_grad():
            expected = network(torch.from_numpy(images)).numpy()
        (found,) = session.run(["embeddings"], {"images": images})
        assert found.shape == (count, 128)
        assert np.abs(found - expected).max() < 1e-3


def test_the_onnx_file_holds_only_what_a_quantizer_knows(written):
    model = onnx.load(written[0] / "backbone.onnx")
    known = {"Conv", "BatchNormalization", "PRelu", "Add", "Gemm", "MatMul", "Reshape", "Flatten"}
    assert {node.op_type for node in model.graph.node} <= known


def test_the_onnx_file_says_how_it_was_made_and_nothing_of_this_machine(dataset, written):
    path = written[0] / "backbone.onnx"
    made = Provenance.from_json({e.key: e.value for e in onnx.load(path).metadata_props}["facecore"])
    assert (made.stage, made.options["steps"], made.options["seed"]) == ("train", 20, 0)
    assert (made.inputs, made.facts) == ({"dataset": dataset.sha256}, {"faces": 24, "identities": 6, "kept_step": 20})
    backbone = load_backbone(path)
    assert (backbone.size, backbone.dimension, backbone.preprocess) == (112, 128, Preprocess())
    for name in BYTES:
        assert str(Path.cwd()).encode() not in (written[0] / name).read_bytes()


def test_the_head_holds_the_classes_by_name_and_embed_reads_it(dataset, written, tmp_path):
    path = written[0] / "head.safetensors"
    held = load_file(path)
    assert held["weight"].shape == (PEOPLE, 128)
    assert json.loads(held["identities"].numpy().tobytes()) == [f"p{who}" for who in range(PEOPLE)]
    sure = EmbedOptions(head=path, head_scale=24.0, head_margin=0.0)
    done = embed(dataset, written[0] / "backbone.onnx", tmp_path / "store", sure, overwrite=False)
    assert done.probability > 2 / PEOPLE


def test_equal_inputs_give_equal_bytes_whatever_the_threads(dataset, written, tmp_path):
    train(dataset, tmp_path / "again", options(workers=3))
    assert contents(tmp_path / "again") == contents(written[0])


def test_another_seed_gives_other_weights_and_draws(dataset, quick, tmp_path):
    before = torch.random.get_rng_state()
    for seed in (0, 1):
        train(dataset, tmp_path / str(seed), options(steps=1, seed=seed))
    first, other = (contents(tmp_path / str(seed)) for seed in (0, 1))
    assert all(first[name] != other[name] for name in BYTES)  # the ONNX file has another record of options
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(overwrite, dataset, tmp_path):
    folder_of(tmp_path, {"00000/00000000.png": b"", "manifest.parquet": b"", "report.json": b"theirs"})
    with pytest.raises(DataError) as error:
        train(dataset, tmp_path, options(), overwrite=overwrite)
    assert line_of(error) == f"{tmp_path} holds 00000, which is not of a training; choose another --out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000", "manifest.parquet", "report.json"]
    assert (tmp_path / "report.json").read_bytes() == b"theirs"


def test_what_lies_beside_a_network_of_ours_stays(dataset, quick, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(killed_at(1, patch)):
        train(dataset, tmp_path, options(steps=2))
    folder_of(tmp_path, {"notes.txt": b"mine", "checkpoint.pt.part": b"of a kill"})
    assert train(dataset, tmp_path, options(steps=2))["steps"] == 2
    assert train(dataset, tmp_path, options(steps=1), overwrite=True)["steps"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "notes.txt"])
    assert (tmp_path / "notes.txt").read_bytes() == b"mine"


def test_a_network_in_the_way_is_told_before_anything_is_read(written, monkeypatch):
    monkeypatch.setattr("facecore.readers.open_dataset", None)
    line = f"Error: {written[0]}/backbone.pt exists; choose another --out, or add --overwrite to replace it\n"
    assert facecore("train", "nowhere", "--out", written[0]) == (1, line)


def test_the_tiny_network_is_read_like_the_others(pixels, written):
    images = to_input(pixels[:3], Preprocess())
    kept = load_backbone(written[0] / "backbone.onnx").embed(images)
    found = load_backbone(written[0] / "backbone.pt", arch="tiny").embed(images)
    assert np.abs(found - kept).max() < 1e-3
    graph = load_onnx(written[0] / "backbone.pt", arch="tiny").SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (quantizable,) = session.run(None, {session.get_inputs()[0].name: images})
    assert np.abs(quantizable - kept).max() < 1e-3


def killed_at(step, monkeypatch):
    """Make the next training end as if killed, once that step is in the log."""

    class KilledError(Exception):
        pass

    write = Log.write

    def die(self, number, *rest):
        write(self, number, *rest)
        if number == step:
            raise KilledError

    monkeypatch.setattr(Log, "write", die)
    return KilledError


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sampling": "balanced", "sample_classes": 0.5, "loss": "arcface", "augment": "crop,jpeg", "decay": "step"},
    ],
    ids=["plain", "all else"],
)
def test_a_killed_run_goes_on_to_the_same_losses(changed, dataset, quick, tmp_path, monkeypatch):
    how = options(**{"steps": 7, "checkpoint_every": 3, "workers": 2, **changed})
    train(dataset, tmp_path / "whole", how)
    out = tmp_path / "killed"
    for step in (2, 5, 6):  # before the first checkpoint but the very first, after one, and at one
        with monkeypatch.context() as patch, pytest.raises(killed_at(step, patch)):
            train(dataset, out, how)
        assert sorted(path.name for path in out.iterdir()) == ["checkpoint.pt", "log.csv"]
        assert len(losses_of(out)) == step
    report = train(dataset, out, how)
    assert contents(out) == contents(tmp_path / "whole")
    assert report["loss"] == json.loads((tmp_path / "whole" / "report.json").read_text())["loss"]


def test_a_checkpoint_of_other_options_is_in_the_way(dataset, quick, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(killed_at(1, patch)):
        train(dataset, tmp_path, options())
    with pytest.raises(DataError) as error:
        train(dataset, tmp_path, options(seed=5))
    assert line_of(error) == (
        f"{tmp_path}/checkpoint.pt is of a run with other options or inputs; run that again to finish it, "
        "choose another --out, or add --overwrite to start again"
    )
    assert train(dataset, tmp_path, options(seed=5, steps=1), overwrite=True)["steps"] == 1


def test_accuracies_on_other_pairs_are_not_compared(dataset, quick, tmp_path, monkeypatch):
    measures = {name: {"lfw": Measure(lambda _: {"accuracy": 0.5}, name * 64)} for name in "12"}
    with monkeypatch.context() as patch, pytest.raises(killed_at(3, patch)):
        train(dataset, tmp_path, options(checkpoint_every=2), measures=measures["1"])
    with pytest.raises(DataError) as error:
        train(dataset, tmp_path, options(checkpoint_every=2), measures=measures["2"])
    assert line_of(error) == (
        f"{tmp_path}/checkpoint.pt is of a run with other options or inputs; run that again to finish it, "
        "choose another --out, or add --overwrite to start again"
    )


def test_a_log_that_is_not_of_the_checkpoint(dataset, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(killed_at(2, patch)):
        train(dataset, tmp_path, options(checkpoint_every=1))
    (tmp_path / "log.csv").write_text("step\n")
    with pytest.raises(DataError) as error:
        train(dataset, tmp_path, options(checkpoint_every=1))
    assert line_of(error) == f"{tmp_path}/log.csv lacks lines of the 1 steps of the checkpoint beside it; delete both"


def measure_of(accuracies, seen):
    """A measure that finds these accuracies, one after the other, and notes the embedding of a grey image."""
    left = iter(accuracies)

    def measure(backbone):
        seen.append(backbone.embed(np.zeros((1, 3, 112, 112), np.float32))[0])
        return {"accuracy": next(left), "standard_error": 0.01}

    return Measure(measure, "5" * 64)


def test_the_best_network_is_kept(dataset, quick, tmp_path, monkeypatch):
    seen, how = [], options(steps=8, checkpoint_every=2)
    measures = {"first": measure_of([0.5, 0.8], seen), "other": Measure(lambda _: {"accuracy": 0.1}, "6" * 64)}
    with monkeypatch.context() as patch, pytest.raises(killed_at(5, patch)):
        train(dataset, tmp_path, how, measures=measures)
    measures["first"] = measure_of([0.8, 0.7], seen)
    report = train(dataset, tmp_path, how, measures=measures)
    assert [check["step"] for check in report["checks"]] == [2, 4, 6, 8]
    assert (report["kept_step"], len(seen)) == (4, 4)  # of equals, the first
    assert [report["accuracy"][which]["first"]["accuracy"] for which in ("kept", "final")] == [0.8, 0.7]
    kept = new_network("tiny", seed=0, init=tmp_path / "backbone.pt").eval()
    with torch.inference_mode():
        found = kept(torch.zeros(1, 3, 112, 112)).numpy()[0]
    assert [np.abs(found - one).max() < 1e-3 for one in seen] == [False, True, False, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize("rate", [1e30, 1e15])
def test_a_loss_that_leaves_the_numbers(rate, dataset, tmp_path):
    with pytest.raises(ModelError) as error:
        train(dataset, tmp_path, options(learning_rate=rate, checkpoint_every=1, warm_up=0))
    text = line_of(error)
    assert text.startswith("training diverged in step ")
    assert text.endswith(
        f"; lower --learning-rate (now {rate:g}) or --scale, and start anew or with "
        f"--init {tmp_path}/checkpoint.pt in another --out"
    )
    network = new_network("tiny", seed=0, init=tmp_path / "checkpoint.pt")
    assert all(torch.isfinite(values).all() for values in network.state_dict().values())


def test_to_start_from_a_checkpoint(dataset, written, quick, tmp_path):
    report = train(dataset, tmp_path, options(steps=1), init=written[0] / "backbone.pt")
    assert set(report["inputs"]) == {"dataset", "init"}
    first = torch.load(written[0] / "backbone.pt", weights_only=True)
    started = new_network("tiny", seed=3, init=written[0] / "backbone.pt").state_dict()
    assert all(torch.equal(started[name], values) for name, values in first.items())
    with pytest.raises(ModelError) as error:
        train(dataset, tmp_path / "other", options(arch="mbf"), init=written[0] / "backbone.pt")
    start, _, end = line_of(error).partition(": ")
    assert start == f"{written[0]}/backbone.pt has parameters that do not fit mbf"
    assert end.endswith("; start from a checkpoint of the same --arch")
    with pytest.raises(ModelError) as error:
        train(dataset, tmp_path / "other", options(), init=tmp_path / "none.pt")
    assert line_of(error) == f"no checkpoint at {tmp_path}/none.pt; name a file that is there"
    with pytest.raises(ModelError) as error:
        train(dataset, tmp_path / "other", options(), init=written[0] / "backbone.onnx")
    assert line_of(error) == (
        f"{written[0]}/backbone.onnx is no checkpoint; name one of --arch tiny, such as train's backbone.pt"
    )


def test_a_network_of_arcface_torch(dataset, pixels, quick, tmp_path):
    images, seen = to_input(pixels[:2], Preprocess()), []

    def measure(backbone):
        seen.append(backbone.embed(images))
        return {"accuracy": 0.5, "standard_error": 0.0}

    how = options(arch="mbf", steps=1, batch_size=2)
    report = train(dataset, tmp_path, how, measures={"own": Measure(measure, "5" * 64)})
    assert report["parameters"] == sum(p.numel() for p in ARCHITECTURES["mbf"]().parameters())
    found = load_backbone(tmp_path / "backbone.pt", arch="mbf").embed(images)
    assert found.shape == (2, 512)
    assert np.abs(found - seen[0]).max() < 1e-4 * np.abs(found).max()


@pytest.mark.parametrize("arch", ["mbf", "r18"])
def test_parameters_are_named_as_in_arcface_torch(arch, real_data):
    keys = json.loads((real_data.parent / "models" / "arcface_torch" / f"{arch}.keys.json").read_text())
    ours = {
        name: [list(values.shape), str(values.dtype)] for name, values in ARCHITECTURES[arch]().state_dict().items()
    }
    assert ours == {name: [shape, kind] for name, shape, kind in keys}


def test_recordio_and_manifests_are_read_too(drawings, folder, dataset, quick, tmp_path):
    packed = open_dataset(write_records(tmp_path / "packed", insightface(drawings)))
    report = train(packed, tmp_path / "a", options(steps=1))
    names = json.loads(load_file(tmp_path / "a" / "head.safetensors")["identities"].numpy().tobytes())
    assert (names, report["faces"]) == ([str(who) for who in range(PEOPLE)], PEOPLE * FACES)
    manifest = tmp_path / "some.parquet"
    write_manifest(dataset.faces.slice(0, 3 * FACES), manifest, Provenance("a test"))
    words = ["--out", tmp_path / "b", "--images", folder, "--arch", "tiny", "--steps", 1, "--batch-size", 4]
    code, output = facecore("train", "--manifest", manifest, *words)
    assert (code, output.splitlines()[0]) == (
        0,
        f"{tmp_path}/b: tiny, 166,448 parameters, on 12 faces of 3 identities",
    )


@pytest.mark.parametrize(("share", "faces", "identities"), [({"identities": 0.5}, 12, 3), ({"faces": 0.25}, 6, 5)])
def test_a_share_of_the_data_set(share, faces, identities, dataset, quick, tmp_path):
    report = train(dataset, tmp_path, options(steps=1, **share))
    assert (report["faces"], report["identities"], report["faces_in_data_set"]) == (faces, identities, 24)


def test_bfloat16(dataset, written, quick, tmp_path):
    report = train(dataset, tmp_path, options(precision="bfloat16"))
    assert report["precision"] == "bfloat16"
    assert losses_of(tmp_path)[0] == pytest.approx(losses_of(written[0])[0], rel=0.01)
    assert report["loss"]["last"] < 0.8 * report["loss"]["first"]


def test_a_face_that_cannot_be_read(quick, tmp_path):
    people = folder_of(tmp_path / "faces", {"a/1.jpg": 1, "a/2.jpg": b"no picture", "b/1.jpg": 2, "b/2.jpg": 3})
    with pytest.raises(DataError) as error:
        train(open_dataset(people), tmp_path / "proxy", options(steps=2))
    assert line_of(error) == (
        "1 face so far of 4 cannot be read, first a/2.jpg: not an image: unknown image format; "
        "mend or leave out such faces, or allow more with --max-rejected"
    )
    report = train(open_dataset(people), tmp_path / "proxy", options(steps=2, max_rejected=0.5, workers=2))  # goes on
    assert report["rejected"] == [{"source": "a/2.jpg", "reason": "not an image: unknown image format"}]


def test_a_batch_of_which_hardly_a_face_can_be_read(tmp_path):
    people = folder_of(tmp_path / "faces", {"a/1.jpg": b"no", "a/2.jpg": b"no", "b/1.jpg": b"no", "b/2.jpg": b"no"})
    for allowed, advice in ((0.25, "allow more with --max-rejected"), (1, "take a larger --batch-size")):
        with pytest.raises(DataError) as error:
            train(open_dataset(people), tmp_path / "proxy", options(max_rejected=allowed, batch_size=2, seed=1))
        assert line_of(error) == (
            "2 faces so far of 4 cannot be read, first b/1.jpg: not an image: unknown image format; "
            f"mend or leave out such faces, or {advice}"
        )


def facecore(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_command(folder, quick, tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "left,right,same,fold\n"
        + "".join(
            f"p0/{n}.jpg,p0/{n + 1}.jpg,1,{fold}\np0/{n}.jpg,p1/0.jpg,0,{fold}\n" for fold in (1, 2) for n in (0, 1)
        )
    )
    out = tmp_path / "proxy"
    words = ["train", folder, "--out", out, "--verify", f"own={tmp_path}/pairs.csv,{folder}"]
    for name, value in {**BRIEF, "steps": 2, "checkpoint_every": 1}.items():
        words += ["--" + name.replace("_", "-"), value]
    code, output = facecore(*words)
    report = json.loads((out / "report.json").read_text())
    seconds, (kept, final) = report["seconds"], (report["accuracy"][of]["own"]["accuracy"] for of in ("kept", "final"))
    error = report["accuracy"]["kept"]["own"]["standard_error"]
    assert (code, output) == (
        0,
        f"{out}: tiny, 166,448 parameters, on 24 faces of 6 identities\n"
        f"2 steps in {seconds['work'] + seconds['wait']:.0f} s, {report['waiting_share']:.1%} of them waiting for "
        "faces; "
        f"loss {report['loss']['first']:.3f} at first, {report['loss']['last']:.3f} at last\n"
        f"own: accuracy {100 * kept:.2f} % +- {100 * error:.2f} after step {report['kept_step']}, which is kept; "
        f"{100 * final:.2f} % at last\n",
    )
    assert facecore(*words) == (
        1,
        f"Error: {out}/backbone.pt exists; choose another --out, or add --overwrite to replace it\n",
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["faces", "--manifest", "m.parquet"], "DATASET and --manifest are two ways to name the faces; give one"),
        ([], "nothing to train on; give DATASET, or --manifest"),
        (["faces", "--arch", "r17"], f"--arch must be one of {', '.join(ARCHITECTURES)}; got r17"),
        (["faces", "--augment", "flip,warp"], "no augmentation flip; there are crop, colour, blur, jpeg"),
        (["faces", "--verify", "lfw"], "a protocol is written as NAME=PAIRS or NAME=PAIRS,IMAGES; got 'lfw'"),
    ],
    ids=str,
)
def test_words_that_make_no_sense(words, line, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    words = [folder if word == "faces" else word for word in words]
    assert facecore("train", *words) == (1, f"Error: {line}\n")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, batches are normalised; got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0"),
        ({"scale": float("inf")}, "scale must be finite, got inf"),
        ({"margin": 1.0}, "margin is a cosine, in [0, 1); got 1"),
        ({"margin": 3.2, "loss": "arcface"}, "margin is an angle in radians, in [0, 3.142); got 3.2"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"seed": 1 << 64}, "seed must be below 2**64, got 18446744073709551616"),
        ({"epochs": 0.0}, "epochs must be above 0, got 0"),
        ({"epochs": float("inf")}, "epochs must be finite, got inf"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more, got -1"),
        ({"weight_decay": float("nan")}, "weight_decay must be finite, got nan"),
        (
            {"identities": 0.1, "faces": 0.1},
            "identities and faces are two ways to take a share of the data set; give one",
        ),
        ({"identities": 1.5}, "identities is the share to train on, in (0, 1]; got 1.5"),
        (
            {"sample_classes": 1.5},
            "sample_classes is a share of the classes, in (0, 1], or a whole number of them; got 1.5",
        ),
        ({"loss": "triplet"}, "loss must be one of cosface, arcface; got triplet"),
        ({"sampling": "even"}, "sampling must be one of plain, balanced; got even"),
        ({"decay": "cosine"}, "decay must be one of polynomial, step; got cosine"),
        ({"precision": "int8"}, "precision must be one of auto, float32, bfloat16; got int8"),
        ({"warm_up": 2.0}, "warm_up is a fraction, in [0, 1]; got 2"),
        ({"augment_share": 0.5}, "augment_share is of what --augment does, and that is nothing; leave it out"),
    ],
    ids=str,
)
def test_options_out_of_range(wrong, line):
    with pytest.raises(OptionError) as error:
        TrainOptions(**wrong)
    assert line_of(error) == line
