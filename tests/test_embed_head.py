"""How sure a classifier is of every face: against the softmax written down, for every file it may come in."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import folder_of, jpeg
from records import insightface, write_records
from test_embed import FOUR, Odd, Tiny, bytes_of, flat, refusal, run
from test_models_onnx import small, written

from facecore.cli import main
from facecore.embed import EmbedOptions, head
from facecore.embed.head import Classifier, class_numbers, named_numbers, read_class_names, read_weights
from facecore.embeddings import Embeddings, metadata_path
from facecore.errors import DataError, ModelError, OptionError
from facecore.images import Preprocess, decode, to_input
from facecore.manifest import provenance_of, write_manifest
from facecore.provenance import Provenance, sha256_of_file
from facecore.readers import open_dataset

PEOPLE = {"al": 3, "bo": 5, "cy": 1, "di": 9, "ed": 2, "fa": 2}
WEIGHTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def dataset(tmp_path):
    files = {f"{person}/{i}.jpg": 10 * n + i for n, (person, count) in enumerate(PEOPLE.items()) for i in range(count)}
    return open_dataset(folder_of(tmp_path / "images", files))


@pytest.fixture
def weights(tmp_path):
    return saved(tmp_path / "head.npy")


def saved(path, array=WEIGHTS):
    np.save(path, array)
    return path


def with_head(path, **more):
    return dataclasses.replace(FOUR, head=path, **more)


def softmax_at(embeddings, weights, classes, scale, margin=0.0):
    """The definition, in doubles; the margin as ArcFace's authors train with it."""
    wide = embeddings.astype(float), weights.astype(float)
    units, rows = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in wide)
    angles = np.arccos(np.clip(units @ rows.T, -1, 1))
    angles[np.arange(len(classes)), classes] += margin
    logits = scale * np.cos(angles)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers[np.arange(len(classes)), classes] / powers.sum(axis=1)


def raw_of(dataset):
    pixels = [decode(dataset.read(source), 16) for source in dataset.faces["source"].to_pylist()]
    return Tiny().embed(to_input(np.stack(pixels), Preprocess()))


def column_of(path, name="probability"):
    store = Embeddings.open(path)
    return np.concatenate([store.faces(number)[name].to_numpy() for number in range(len(store))])


def head_over(path, names, weights, **more):
    saved(path, weights)
    return Classifier(path, pa.chunked_array([pa.array(names, pa.string())]), weights.shape[1], **more)


# values


@pytest.mark.parametrize(
    ("scale", "margin", "flip"), [(64.0, 0, False), (64, 0.5, False), (5, 0.0, False), (20, 1, True)]
)
def test_the_column_against_the_softmax(dataset, weights, tmp_path, scale, margin, flip):
    options = with_head(weights, head_scale=scale, head_margin=margin, flip=flip)
    done = run(dataset, tmp_path / "out", options=options)
    classes = np.repeat(np.arange(6), list(PEOPLE.values()))
    embeddings = raw_of(dataset)
    if flip:  # the mirror image changes the last number only, the brightness of the left half
        embeddings = embeddings * 2
        embeddings[:, 3] = embeddings[:, :3].sum(axis=1) / 3
    expected = softmax_at(embeddings, WEIGHTS, classes, scale, margin)
    found = column_of(tmp_path / "out")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)
    assert done.probability == pytest.approx(found.mean(), rel=1e-6)
    assert Embeddings.open(tmp_path / "out").faces(0).column_names == [
        "face_id", "identity", "source", "norm", "probability"
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 7), st.integers(1, 12), st.floats(0.1, 300), st.floats(0, 3.1), st.integers(0, 99)
)
def test_every_block_size_gives_the_softmax(tmp_path_factory, classes, faces, block, scale, margin, seed):
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(classes, 3)) * 10.0 ** rng.integers(-6, 7, (classes, 1))).astype(np.float32)
    embeddings = (rng.normal(size=(faces, 3)) * 10.0 ** rng.integers(-6, 7, (faces, 1))).astype(np.float32)
    own = rng.integers(0, classes, faces)
    path = tmp_path_factory.mktemp("head") / "head.npy"
    judge = head_over(path, list(map(str, range(classes))), weights, scale=scale, margin=margin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "BLOCK", block)
        found = judge.probabilities(embeddings, own)
    expected = softmax_at(embeddings, weights, own, scale, margin)
    # a cosine errs by 2e-7, and its angle by 6e-4 where it is 1; both are multiplied by the scale
    rtol = scale * (1e-6 + 1e-3 * math.sin(margin))
    np.testing.assert_allclose(found, expected, rtol=rtol + 1e-6, atol=1e-30)


def test_values_by_eye(tmp_path):
    weights = np.float32([[2, 0], [0, 3], [0, 0]])
    judge = head_over(tmp_path / "head.npy", ["a", "b", "c"], weights, scale=math.log(4), margin=0)
    faces = np.float32([[5, 0], [5, 0], [5, 0], [0, 1e-30], [-1, 0]])  # the cosine to weights of zero is zero
    found = judge.probabilities(faces, np.array([0, 1, 2, 1, 0]))
    np.testing.assert_allclose(found, [4 / 6, 1 / 6, 1 / 6, 4 / 6, (1 / 4) / (9 / 4)], rtol=1e-6)


def test_a_margin_by_eye(tmp_path):
    turned = math.pi / 2  # a face on its class is as far from it as from the other; one beyond it, farther
    judge = head_over(tmp_path / "head.npy", ["a", "b"], np.eye(2, dtype=np.float32), scale=math.log(3), margin=turned)
    found = judge.probabilities(np.float32([[1, 0], [0, 1], [0, -1]]), np.array([0, 0, 0]))
    np.testing.assert_allclose(found, [1 / 2, (1 / 3) / (1 / 3 + 3), (1 / 3) / (1 / 3 + 1 / 3)], rtol=1e-6)


def test_certainty_is_one_and_no_more(tmp_path):
    judge = head_over(tmp_path / "head.npy", ["a", "b"], np.float32([[1, 0], [-1, 0]]), scale=1e6, margin=0)
    found = judge.probabilities(np.float32([[1, 0], [1, 1e-3], [1, 0], [0, 1]]), np.array([0, 0, 1, 0]))
    assert found.tolist() == [1, 1, 0, 0.5]
    alone = head_over(tmp_path / "alone.npy", ["a"], np.float32([[-1, 0]]))
    assert alone.probabilities(np.float32([[1, 0]]), np.array([0])).tolist() == [1]


def test_an_embedding_that_is_none_has_no_probability(tmp_path):
    judge = head_over(tmp_path / "head.npy", ["a", "b"], np.eye(2, dtype=np.float32), scale=math.log(3), margin=0)
    faces = np.float32([[0, 0], [1, 0], [np.nan, 1], [np.inf, 1], [3e38, 3e38], [1e-40, 0]])
    found = judge.probabilities(faces, np.zeros(6, np.int64))
    np.testing.assert_allclose(found, [np.nan, 0.75, np.nan, np.nan, 0.5, 0.75], rtol=1e-4)


def test_rejected_faces_leave_no_trace(tmp_path, weights):
    files = {"al/0.jpg": 1, "bo/0.png": flat(0), "bo/1.png": flat(255), "cy/0.jpg": 2}
    data = open_dataset(folder_of(tmp_path / "images", files))
    saved(weights, WEIGHTS[:3])
    done = run(data, tmp_path / "out", Odd(), with_head(weights, max_rejected=0.6, head_margin=0))
    found = column_of(tmp_path / "out")
    assert (done.faces, done.rejected, len(found)) == (2, 2, 2)
    np.testing.assert_allclose(found, softmax_at(raw_of(data)[[0, 3]], WEIGHTS[:3], [0, 2], 64), rtol=1e-4)


def test_a_store_without_faces(tmp_path, weights):
    data = open_dataset(folder_of(tmp_path / "images", {"al/0.jpg": b"x"}))
    saved(weights, WEIGHTS[:1])
    assert run(data, tmp_path / "out", options=with_head(weights, max_rejected=1)).probability is None
    assert column_of(tmp_path / "out").dtype == np.float32


# which class is whose


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (["al", "bo", "cy"], 3, [0, 1, 2]),
        (["0", "1", "10", "2"], 11, [0, 1, 10, 2]),  # RecordIO's labels, sorted as text
        (["3", "5"], 85742, [3, 5]),  # a part of the data set
        (["007", "012"], 13, [7, 12]),
        (["1", "2", "3"], 3, [0, 1, 2]),  # 3 is no class
        (["01", "1"], 2, [0, 1]),  # two people, not class 1 twice
        (["-1", "0"], 2, [0, 1]),
        (["\u0661", "\u0662"], 2, [0, 1]),  # digits, but not of a label
        (["12345678901234567890"], 1, [0]),
    ],
)
def test_class_i_is_named_i_or_the_ith(names, classes, expected):
    assert class_numbers(pa.array(names), classes, Path("head.npy")).tolist() == expected


@pytest.mark.parametrize(("names", "classes"), [(["al", "bo"], 3), (["1", "3"], 3), (["0", "x"], 3), (["1", "01"], 3)])
def test_classes_of_other_identities(names, classes):
    with pytest.raises(DataError) as error:
        class_numbers(pa.array(names), classes, Path("head.npy"))
    assert str(error.value) == (
        "head.npy has 3 classes, but the data set 2 identities, whose names are not all different numbers below that; "
        "give the head that was trained on just these identities"
    )


def test_labels_of_recordio_are_the_classes(tmp_path, weights):
    people = [[jpeg(1, 16), jpeg(2, 16)], [jpeg(3, 16)], [jpeg(4, 16)]]
    data = open_dataset(write_records(tmp_path / "records", insightface(people, labels=[2, 10, 0])))
    assert data.faces["identity"].to_pylist() == ["0", "10", "2", "2"]
    table = np.random.default_rng(1).normal(size=(12, 4)).astype(np.float32)
    run(data, tmp_path / "out", options=with_head(saved(weights, table), head_scale=10, head_margin=0))
    expected = softmax_at(raw_of(data), table, [0, 10, 2, 2], 10)
    np.testing.assert_allclose(column_of(tmp_path / "out"), expected, rtol=1e-5)


def test_every_face_finds_its_class(tmp_path):
    judge = head_over(tmp_path / "head.npy", ["0", "10", "10", "2"], np.ones((11, 2), np.float32))
    some = pa.chunked_array([pa.array(["2", "0"]), pa.array([], pa.string()), pa.array(["10"])])
    assert judge.classes(some).tolist() == [2, 0, 10]


# files


def as_torch(array):
    return torch.from_numpy(array.copy())


FILES = {
    "halves.npy": lambda path: np.save(path, WEIGHTS.astype(np.float16)),
    "doubles.npy": lambda path: np.save(path, WEIGHTS.astype(np.float64)),
    "big_endian.npy": lambda path: np.save(path, WEIGHTS.astype(">f4")),
    "columns_first.npy": lambda path: np.save(path, np.asfortranarray(WEIGHTS)),
    "turned.npy": lambda path: np.save(path, WEIGHTS.T),
    "one.npz": lambda path: np.savez(path, kernel=WEIGHTS, step=3, names=np.array([["a", "b"]])),
    "packed.npz": lambda path: np.savez_compressed(path, WEIGHTS),
    "bare.pt": lambda path: torch.save(as_torch(WEIGHTS), path),
    "parameter.pth": lambda path: torch.save(torch.nn.Parameter(as_torch(WEIGHTS)), path),
    "rank_0_softmax_weight.pt": lambda path: torch.save(as_torch(WEIGHTS), path, _use_new_zipfile_serialization=False),
    "softmax_fc_gpu_0.pt": lambda path: torch.save({"weight": as_torch(WEIGHTS), "weight_mom": torch.ones(6, 4)}, path),
    "checkpoint_gpu_0.pt": lambda path: torch.save(
        {
            "epoch": 20,
            "state_dict_backbone": {"fc.weight": torch.ones(4, 9)},
            "state_dict_softmax_fc": {"weight": as_torch(WEIGHTS)},
        },
        path,
    ),
    "header.pth": lambda path: torch.save({"kernel": as_torch(WEIGHTS.T), "t": torch.zeros(1)}, path),
    "brain.PT": lambda path: torch.save(as_torch(WEIGHTS).bfloat16(), path),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_weights(name, tmp_path):
    FILES[name](tmp_path / name)
    found = read_weights(tmp_path / name, 4).float().numpy()
    atol = {"halves.npy": 2e-3, "brain.PT": 2e-2}.get(name, 0)
    np.testing.assert_allclose(found, WEIGHTS, rtol=0, atol=atol)


def test_safetensors(tmp_path):
    pytest.importorskip("safetensors.torch").save_file({"weight": as_torch(WEIGHTS)}, tmp_path / "head.safetensors")
    np.testing.assert_array_equal(read_weights(tmp_path / "head.safetensors", 4).numpy(), WEIGHTS)


def named(path, names):
    values = torch.tensor(np.frombuffer(json.dumps(names).encode(), np.uint8))
    safetensors.torch.save_file({"weight": as_torch(WEIGHTS), "identities": values}, path)
    return path


def test_classes_are_found_by_the_names_in_the_head(tmp_path):
    path = named(tmp_path / "head.safetensors", ["zoe", "fa", "al", "7", "bo", "0"])
    assert named_numbers(pa.array(["0", "al", "zoe"]), read_class_names(path), path).tolist() == [5, 2, 0]
    with pytest.raises(DataError) as error:
        named_numbers(pa.array(["al", "cy", "di"]), read_class_names(path), path)
    assert str(error.value) == (
        f"{path} has no class for 2 of 3 identities, first cy; embed those that it was trained on"
    )


def test_a_share_of_the_identities_has_the_same_probabilities(tmp_path):
    share, every = pa.chunked_array([["cy", "al"]]), pa.chunked_array([list(PEOPLE)])
    by_name = Classifier(named(tmp_path / "head.safetensors", list(PEOPLE)), share, dimension=4)
    by_place = Classifier(saved(tmp_path / "head.npy"), every, dimension=4)
    vectors = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    ours, plain = (head.probabilities(vectors, head.classes(share)) for head in (by_name, by_place))
    np.testing.assert_array_equal(ours, plain)


def test_safetensors_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "head.safetensors").write_bytes(b"x")
    assert mistake(tmp_path / "head.safetensors") == (
        f"{tmp_path / 'head.safetensors'} needs the package safetensors, which is not installed; "
        "install it, or save the weights as .npy"
    )


def test_the_file_of_an_array_stays_as_it_is(weights):
    found = read_weights(weights, 4)
    found[0] = 7  # what is mapped may be written to, or torch would warn
    np.testing.assert_array_equal(np.load(weights), WEIGHTS)


# mistakes


def mistake(path, dimension=4):
    with pytest.raises(ModelError) as error:
        read_weights(path, dimension)
    return str(error.value)


def test_a_file_that_is_none(tmp_path):
    path = damaged(tmp_path / "head.bin", b"x")
    assert mistake(path) == (
        f"{path} does not end in .npy, .npz, .safetensors, .pt, .pth; facecore tells formats of heads by the suffix"
    )
    assert mistake(tmp_path / "no.npy") == f"no head at {tmp_path / 'no.npy'}; name a file that is there"


class Foreign:
    pass


def damaged(path, content):
    if content == "pickle":
        torch.save({"weight": Foreign()}, path)
    elif content == "objects":
        np.save(path, np.array([{}]), allow_pickle=True)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("head.npy", b""),
        ("head.npy", b"nothing"),
        ("head.npy", "objects"),
        ("head.npz", b"PK nothing"),
        ("head.pt", b""),
        ("head.pt", b"nothing" * 9),
        ("head.pth", "pickle"),
    ],
)
def test_a_damaged_file(name, content, tmp_path):
    path = damaged(tmp_path / name, content)
    assert mistake(path) == (
        f"{path} is not a whole file of arrays alone, and nothing else is read; save the weights again"
    )


@pytest.mark.parametrize(
    ("save", "count"),
    [
        (lambda path: np.savez(path, a=WEIGHTS, b=WEIGHTS), 2),
        (lambda path: np.savez(path, weight=WEIGHTS[0], bias=WEIGHTS[:, 0]), 0),
        (lambda path: np.savez(path, WEIGHTS.astype(np.int32)), 0),
    ],
)
def test_not_one_array(save, count, tmp_path):
    save(tmp_path / "head.npz")
    assert mistake(tmp_path / "head.npz") == (
        f"{tmp_path / 'head.npz'} holds {count} float arrays of two dimensions, not one; "
        "save the classifier's weights (classes, d) alone"
    )


def test_weights_of_another_network(dataset, weights, tmp_path):
    saved(weights, np.ones((6, 5), np.float32))
    with pytest.raises(ModelError) as error:
        run(dataset, tmp_path / "out", options=with_head(weights))
    assert str(error.value) == (
        f"{weights} is of shape (6, 5), but the network gives 4 numbers a face; "
        "give the head that was trained with this network"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("value", "row"), [(np.nan, 0), (np.inf, 5), (-np.inf, 3)])
def test_weights_that_are_not_finite(dataset, weights, tmp_path, value, row, monkeypatch):
    monkeypatch.setattr(head, "BLOCK", 4)
    damaged = WEIGHTS.copy()
    damaged[row, 2] = value
    saved(weights, damaged)
    with pytest.raises(ModelError) as error:
        run(dataset, tmp_path / "out", options=with_head(weights))
    assert str(error.value) == f"{weights}: the weights of class {row} are not finite; give a head that is sound"


@pytest.mark.parametrize("classes", [0, 5, 1007])
def test_more_or_fewer_classes_than_identities(dataset, weights, tmp_path, classes):
    saved(weights, np.ones((classes, 4), np.float32))
    assert refusal(dataset, tmp_path / "out", options=with_head(weights)) == (
        f"{weights} has {classes:,} classes, but the data set 6 identities, whose names are not all different numbers "
        "below that; give the head that was trained on just these identities"
    )


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf])
def test_a_scale_of_nothing(scale):
    with pytest.raises(OptionError) as error:
        EmbedOptions(head_scale=scale)
    assert str(error.value) == f"head_scale multiplies cosines and must be above 0; got {scale}"


@pytest.mark.parametrize("margin", [-0.1, 3.2, math.nan])
def test_a_margin_that_is_none(margin):
    with pytest.raises(OptionError) as error:
        EmbedOptions(head_margin=margin)
    assert str(error.value) == f"head_margin is an angle in radians, from 0 to 3.14; got {margin}"


# what is recorded, and resumed


def test_what_is_recorded(dataset, weights, tmp_path):
    run(dataset, tmp_path / "out", options=with_head(weights, head_scale=30, head_margin=0.5))
    recorded = {"sha256": sha256_of_file(weights), "scale": 30.0, "margin": 0.5}
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["head"] == recorded
    assert provenance_of(metadata_path(tmp_path / "out", 2)).options["head"] == recorded
    run(dataset, tmp_path / "plain")
    assert "head" not in json.loads((tmp_path / "plain" / "meta.json").read_text())
    assert Embeddings.open(tmp_path / "plain").sha256 == Embeddings.open(tmp_path / "out").sha256


def test_stopped_and_resumed_gives_the_bytes_of_one_run(dataset, weights, tmp_path):
    whole = run(dataset, tmp_path / "whole", options=with_head(weights))
    with pytest.raises(KeyboardInterrupt):
        run(dataset, tmp_path / "out", Tiny(fail_at=10), with_head(weights))
    weights.rename(tmp_path / "moved.npy")
    done = run(dataset, tmp_path / "out", options=with_head(tmp_path / "moved.npy"))
    assert (done.resumed_shards, done.probability) == (3, whole.probability)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    again = run(dataset, tmp_path / "out", Tiny(fail_at=0), with_head(tmp_path / "moved.npy", head_scale=64))
    assert (again.resumed_shards, again.probability) == (5, whole.probability)


@pytest.mark.parametrize("stop_at", [3, math.inf])
@pytest.mark.parametrize("before", ["head", "none"])
@pytest.mark.parametrize("after", ["other", "scale", "margin", "none"])
def test_another_head_is_refused(dataset, weights, tmp_path, stop_at, before, after):
    options = {
        "head": with_head(weights),
        "other": with_head(saved(tmp_path / "other.npy", -WEIGHTS)),
        "scale": with_head(weights, head_scale=63.5),
        "margin": with_head(weights, head_margin=0.25),
        "none": FOUR,
    }
    if before == after:
        return
    out = tmp_path / "out"
    try:
        run(dataset, out, Tiny(fail_at=stop_at), options[before])
    except KeyboardInterrupt:
        pass
    kept = bytes_of(out)
    assert refusal(dataset, out, options=options[after]) == (
        f"{out} was made from other faces or options; choose another --out, or add --overwrite to replace it"
    )
    assert bytes_of(out) == kept
    run(dataset, out, options=options[after], overwrite=True)
    run(dataset, tmp_path / "fresh", options=options[after])
    assert bytes_of(out) == bytes_of(tmp_path / "fresh")


def test_an_identity_elsewhere_that_changes_all_classes(tmp_path, weights):
    saved(weights, WEIGHTS[:4])
    files = {"2/0.jpg": 1, "3/0.jpg": 2, "x/0.jpg": 3, "y/0.jpg": 4}
    every = open_dataset(folder_of(tmp_path / "every", files))
    numbers = open_dataset(folder_of(tmp_path / "numbers", dict(list(files.items())[:2])))
    options = with_head(weights, shard_rows=1)
    with pytest.raises(KeyboardInterrupt):
        run(every, tmp_path / "out", Tiny(fail_at=1), options)  # where 2 is class 0, not class 2
    assert "was made from other faces" in refusal(numbers, tmp_path / "out", options=options)


def test_a_probability_that_rode_along_is_replaced(dataset, weights, tmp_path):
    faces = dataset.faces.append_column("probability", pa.array(["?"] * 22)).append_column("age", pa.array(range(22)))
    write_manifest(faces, tmp_path / "all.parquet", Provenance("test"))
    listed = open_dataset(tmp_path / "all.parquet", images=dataset.root)
    run(listed, tmp_path / "out", options=with_head(weights))
    run(dataset, tmp_path / "plain", options=with_head(weights))
    assert column_of(tmp_path / "out").tolist() == column_of(tmp_path / "plain").tolist()
    assert Embeddings.open(tmp_path / "out").faces(0).column_names == [
        "face_id", "identity", "source", "age", "norm", "probability"
    ]  # fmt: skip
    run(listed, tmp_path / "kept")
    assert column_of(tmp_path / "kept").tolist() == ["?"] * 22


# the chain


def facecore(*words):
    result = CliRunner().invoke(main, list(words), prog_name="facecore")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_embed_with_a_head_then_select_diffprob(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people = {"ann": 5, "bob": 4, "cy": 1}
    folder_of(Path("faces"), {f"{name}/{n}.jpg": 7 * n + len(name) for name, k in people.items() for n in range(k)})
    written(small(), Path("net.onnx"))
    torch.save({"weight": torch.randn(3, 5, generator=torch.Generator().manual_seed(1))}, "fc.pt")
    embed = ("embed", "faces", "--model", "net.onnx")
    chosen = ("select", "diffprob", "--keep", "0.6", "--min-per-identity", "1")

    assert facecore(*embed, "--out", "plain")[0] == 0
    assert facecore(*chosen, "--embeddings", "plain") == (
        1,
        "Error: plain/metadata/metadata_00000.parquet has no column probability; facecore embed --head writes the "
        "column probability, or name another that holds probabilities with --column\n",
    )
    code, output = facecore(*embed, "--head", "fc.pt", "--head-scale", "16")
    assert (code, output.startswith("embeddings: 10 faces of 3 identities in ")) == (0, True)
    told = output.splitlines()[-1]
    code, output = facecore(*chosen)
    assert (code, output) == (
        0,
        "subset.parquet: 6 of 10 faces, 3 of 3 identities\nsubset.dropped.parquet: 4 outranked\n",
    )
    table = pq.read_table("embeddings/metadata/metadata_00000.parquet").to_pandas()
    assert told == f"mean probability {table.probability.mean():.4f}"
    kept = pq.read_table("subset.parquet")
    most_probable = table.sort_values("probability", ascending=False).groupby("identity").face_id.first()
    assert set(most_probable) <= set(kept["face_id"].to_pylist())
    assert table.probability.between(0, 1).all()
    assert len(set(table.probability)) == 10


def test_embed_says_where_the_probabilities_say_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(Path("faces"), {f"{name}/{n}.jpg": n for name in ("ann", "bob") for n in range(2)})
    written(small(), Path("net.onnx"))
    torch.save({"weight": torch.ones(2, 5)}, "fc.pt")  # one class as good as the other, so the margin decides
    code, output = facecore("embed", "faces", "--model", "net.onnx", "--head", "fc.pt", "--head-margin", "1")
    assert (code, output.splitlines()[-1]) == (
        0,
        "mean probability 0.0000: the head is of another network, its classes are in another order, "
        "or it has learnt little",
    )


def test_a_head_by_the_command_that_does_not_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(Path("faces"), {"ann/0.jpg": 1})
    written(small(), Path("net.onnx"))
    saved(Path("head.npy"))
    assert facecore("embed", "faces", "--model", "net.onnx", "--head", "head.npy") == (
        1,
        "Error: head.npy is of shape (6, 4), but the network gives 5 numbers a face; "
        "give the head that was trained with this network\n",
    )
