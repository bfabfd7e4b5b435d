"""Accuracy in the report is that of the files, each verified as `facecore verify` would."""

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import folder_of
from test_models_onnx import small, written

from facecore import accuracy
from facecore.accuracy import Check, quantize_and_verify
from facecore.errors import DataError, OptionError
from facecore.images import Preprocess
from facecore.models import load_backbone
from facecore.quantize import QuantizeOptions
from facecore.verify import VerifyOptions, open_protocol, verify


def biased(amount):
    """A network whose embeddings are the further from the float one's, the larger the amount."""
    model = small()
    for tensor in model.graph.initializer:
        if tensor.name == "b":
            tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) + np.float32(amount)).tobytes()
    return model


@pytest.fixture
def quantized(tmp_path, monkeypatch):
    """`quantize` put aside: it writes three networks that are easy to tell apart."""
    written(small(), tmp_path / "net.onnx")

    def quantize(dataset, model, out, options, *, arch, overwrite, measure):
        assert (dataset, model, arch, overwrite) == ("faces", tmp_path / "net.onnx", None, True)
        out.mkdir()
        written(biased(3), out / "calibrated.onnx")
        written(biased(1), out / "model.onnx")
        report = {"bits": str(options.bits), "preprocess": {"mean": 120.0, "scale": 90.0, "bgr": True}}
        return report | measure(report)

    monkeypatch.setattr(accuracy, "quantize", quantize)
    return tmp_path


def protocol(folder, name="pairs.csv"):
    folder_of(folder / "images", {f"{n}.jpg": n for n in range(8)})
    lines = [f"{n}.jpg,{(n * 3 + 1) % 8}.jpg,{n % 3 % 2},{n % 2}" for n in range(8)]
    (folder / name).write_text("\n".join(["left,right,same,fold", *lines]) + "\n")
    return folder / name


def run(folder, *checks):
    return quantize_and_verify(
        "faces",
        folder / "net.onnx",
        folder / "out",
        QuantizeOptions(),
        [Check.parse(c) for c in checks],
        overwrite=True,
    )


def test_every_file_on_every_protocol(quantized):
    pairs = protocol(quantized)
    report = run(quantized, f"one={pairs},{quantized / 'images'}", f"two={pairs},{quantized / 'images'}")
    how = VerifyOptions(preprocess=Preprocess(mean=120, scale=90, bgr=True))
    files = {"float": "net.onnx", "calibrated": "out/calibrated.onnx", "fine_tuned": "out/model.onnx"}
    expected = {
        stage: verify(load_backbone(quantized / name), open_protocol(pairs, quantized / "images"), how).to_json()
        for stage, name in files.items()
    }
    assert report["accuracy"] == {"one": expected, "two": expected}
    assert len({json.dumps(found) for found in expected.values()}) > 1


def test_without_protocols_it_is_quantize(quantized):
    assert "accuracy" not in run(quantized)


def test_a_protocol_that_is_not_there_is_said_before_the_work(quantized):
    with pytest.raises(DataError) as error:
        run(quantized, f"lfw={quantized / 'nothing.csv'}")
    assert str(error.value) == f"no pairs file at {quantized / 'nothing.csv'}; check the path"
    assert not (quantized / "out").exists()


def test_two_protocols_of_one_name(quantized):
    with pytest.raises(OptionError) as error:
        run(quantized, "lfw=a.csv,b", "lfw=c.csv,d")
    assert str(error.value) == "protocols need names of their own; got lfw, lfw"


def test_a_check_as_it_is_written():
    check = Check.parse("cfp-fp=data/pairs_fp.csv,data/images")
    assert (check.name, str(check.pairs), str(check.images)) == ("cfp-fp", "data/pairs_fp.csv", "data/images")
    assert Check.parse("agedb=agedb_30.bin").images is None


@pytest.mark.parametrize(
    ("text", "pairs", "images"),
    [
        ("lfw=a,b/pairs.csv,c", "a,b/pairs.csv", "c"),
        ("lfw=a,b/pairs.csv,c,d", "a,b/pairs.csv", "c,d"),
        ("lfw=a,b/pairs.csv", "a,b/pairs.csv", None),
        ("lfw=a,b/others.csv", "a", "b/others.csv"),
    ],
)
def test_paths_with_commas(tmp_path, monkeypatch, text, pairs, images):
    monkeypatch.chdir(folder_of(tmp_path, {"a,b/pairs.csv": b""}))
    assert Check.parse(text) == Check("lfw", Path(pairs), Path(images) if images else None)


@pytest.mark.parametrize("text", ["pairs.csv", "=pairs.csv", "lfw=", "lfw=,images", ""])
def test_a_check_that_is_none(text):
    with pytest.raises(OptionError) as error:
        Check.parse(text)
    assert str(error.value) == f"a protocol is written as NAME=PAIRS or NAME=PAIRS,IMAGES; got {text!r}"
