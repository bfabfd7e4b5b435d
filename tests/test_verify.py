import io
import json
import math
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from facecore.errors import DataError, OptionError
from facecore.images import Preprocess
from facecore.models import load_backbone
from facecore.verify import VerifyOptions, open_protocol, verify
from facecore.verify import run as stage

PLAIN = Preprocess(mean=0, scale=1)  # the network sees the grey values themselves


@dataclass
class Circle:
    """A network for even grey images: the grey value is the angle in degrees; it counts what it embeds."""

    size: int = 4
    dimension: int = 2
    sha256: str = "0" * 64
    preprocess: Preprocess | None = None
    seen: int = 0

    def embed(self, batch):
        self.seen += len(batch)
        angle = np.radians(batch.mean(axis=(1, 2, 3)))
        return 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)  # of length 5, not 1


def grey(degrees, size=4):
    stream = io.BytesIO()
    Image.new("L", (size, size), degrees).save(stream, "png")
    return stream.getvalue()


def faces_at(tmp_path, *degrees):
    root = tmp_path / "images"
    root.mkdir()
    for angle in degrees:
        (root / f"{angle}.png").write_bytes(grey(angle))
    return root


def pairs_of(tmp_path, *rows):
    """A CSV of (left, right, same, fold), where left and right are angles."""
    lines = [f"{left}.png,{right}.png,{same},{fold}" for left, right, same, fold in rows]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["left,right,same,fold", *lines]) + "\n")
    return path


# two people, at 0 and 10 and at 90 and 130 degrees; a pair 40 degrees apart is the hardest of one person
FOUR = (0, 10, 90, 130)
EIGHT_PAIRS = [
    (0, 10, 1, 1),
    (90, 130, 1, 1),
    (0, 90, 0, 1),
    (10, 130, 0, 1),
    (10, 0, 1, 2),
    (130, 90, 1, 2),
    (90, 10, 0, 2),
    (130, 0, 0, 2),
]


def test_four_faces_on_a_circle(tmp_path):
    protocol = open_protocol(pairs_of(tmp_path, *EIGHT_PAIRS), faces_at(tmp_path, *FOUR))
    network = Circle()
    found = verify(network, protocol, VerifyOptions(preprocess=PLAIN, flip=False))
    assert network.seen == 4  # sixteen mentions, four images
    assert (found.accuracy, found.standard_error, found.folds, found.fold_accuracies) == (1.0, 0.0, 2, (1.0, 1.0))
    assert found.fold_min_cosines == pytest.approx([math.cos(math.radians(40))] * 2)
    told = {"accuracy": 1.0, "standard_error": 0.0, "fold_accuracies": [1.0, 1.0], "tar": {}, "pairs": 8}
    assert found.to_json() == told


def test_one_mistake_in_four(tmp_path):
    # 90 and 130 are strangers in fold 2: held out, they pass at 40 degrees; and fold 1, judged at 10, loses its pair
    rows = [*EIGHT_PAIRS[:5], (130, 90, 0, 2), *EIGHT_PAIRS[6:]]
    protocol = open_protocol(pairs_of(tmp_path, *rows), faces_at(tmp_path, *FOUR))
    found = verify(Circle(), protocol, VerifyOptions(preprocess=PLAIN, batch_size=3, workers=1))
    told = {"accuracy": 0.75, "standard_error": 0.0, "fold_accuracies": [0.75, 0.75], "tar": {}, "pairs": 8}
    assert found.to_json() == told
    assert found.fold_min_cosines == pytest.approx([math.cos(math.radians(angle)) for angle in (10, 40)])


def test_rates_as_far_as_the_impostors_allow(tmp_path):
    # a hundred strangers 50 to 149 degrees apart, and two own pairs, one nearer than them all and one of 51 degrees
    strangers = [(0, 50 + i, 0, i % 2) for i in range(100)]
    protocol = open_protocol(
        pairs_of(tmp_path, *strangers, (0, 20, 1, 0), (0, 51, 1, 1)), faces_at(tmp_path, 0, 20, *range(50, 150))
    )
    found = verify(Circle(), protocol, VerifyOptions(preprocess=PLAIN))
    assert found.tar == {"1e-1": 1.0, "1e-2": 0.5}
    assert json.loads(json.dumps(found.to_json()))["tar"] == found.tar


def test_blocks_make_no_difference(tmp_path, monkeypatch):
    protocol = open_protocol(pairs_of(tmp_path, *EIGHT_PAIRS), faces_at(tmp_path, *FOUR))
    vectors = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    whole = stage.pair_cosines(vectors, protocol)
    monkeypatch.setattr(stage, "PAIRS_AT_ONCE", 3)
    assert stage.pair_cosines(vectors, protocol).tolist() == whole.tolist()
    slow = [float(vectors[i] @ vectors[j]) for i, j in zip(protocol.left, protocol.right, strict=True)]
    assert whole.tolist() == pytest.approx(slow)


def test_mirrored_images_are_added(tmp_path):
    class Corner(Circle):
        def embed(self, batch):
            return batch[:, 0, 0, [0, -1]]  # the two upper corners

    root = tmp_path / "images"
    root.mkdir()
    for name, corners in (("a", (200, 100)), ("b", (100, 200)), ("c", (0, 200))):
        pixels = np.zeros((4, 4), np.uint8)
        pixels[0, [0, -1]] = corners
        Image.fromarray(pixels).save(root / f"{name}.png")
    path = pairs_of(tmp_path, ("a", "b", 1, 1), ("a", "c", 0, 1), ("a", "b", 1, 2), ("a", "c", 0, 2))
    protocol = open_protocol(path, root)
    assert verify(Corner(), protocol, VerifyOptions(preprocess=PLAIN, flip=False)).fold_min_cosines == pytest.approx(
        (0.8, 0.8)
    )
    mirrored = verify(
        Corner(), protocol, VerifyOptions(preprocess=PLAIN)
    )  # each with its mirror image, the three look alike
    assert (mirrored.accuracy, mirrored.fold_min_cosines) == (0.5, pytest.approx((1.0, 1.0)))


def test_a_bin(tmp_path):
    path = tmp_path / "four.bin"
    images = [grey(angle) for row in EIGHT_PAIRS for angle in row[:2]]
    path.write_bytes(pickle.dumps((images, [bool(row[2]) for row in EIGHT_PAIRS])))
    network = Circle()
    found = verify(network, open_protocol(path), VerifyOptions(preprocess=PLAIN, flip=False))
    assert (network.seen, found.pairs, found.folds, found.accuracy) == (4, 8, 8, 1.0)


def line_of(network, protocol, **options):
    with pytest.raises((DataError, OptionError)) as error:
        verify(network, protocol, VerifyOptions(preprocess=PLAIN, **options))
    return str(error.value)


def test_no_pair_is_lost_in_silence(tmp_path):
    images = faces_at(tmp_path, *FOUR)
    protocol = open_protocol(pairs_of(tmp_path, *EIGHT_PAIRS), images)
    (images / "10.png").write_bytes(b"no image")
    (images / "130.png").unlink()
    for batch_size in (1, 64):
        network = Circle()
        assert line_of(network, protocol, batch_size=batch_size) == (
            f"2 of the 4 images of {protocol.path} cannot be read, the first is 10.png: "
            "not an image: unknown image format; replace them, a protocol cannot do without a pair"
        )
    assert network.seen == 0  # a network is slow; nothing is embedded once the answer is known


def test_a_damaged_image_in_a_bin(tmp_path):
    path = tmp_path / "four.bin"
    path.write_bytes(pickle.dumps(([grey(0), grey(10), grey(0), b"no image"], [True, False])))
    assert line_of(Circle(), open_protocol(path)) == (
        f"1 of the 3 images of {path} cannot be read, the first is four.bin[3]: "
        "not an image: unknown image format; replace them, a protocol cannot do without a pair"
    )


@pytest.mark.parametrize(("value", "what"), [(0, "zero"), (np.nan, "not finite"), (np.inf, "not finite")])
def test_an_embedding_without_a_cosine(tmp_path, value, what):
    class Broken(Circle):
        def embed(self, batch):
            vectors = super().embed(batch)
            vectors[batch[:, 0, 0, 0] == 90] = value
            return vectors

    protocol = open_protocol(pairs_of(tmp_path, *EIGHT_PAIRS), faces_at(tmp_path, *FOUR))
    assert line_of(Broken(), protocol) == (
        f"the network's embedding of 90.png is {what}, so it has no cosine to another; "
        "check that the model and its preprocessing belong together"
    )


def test_what_cannot_be_judged_is_said_before_the_work(tmp_path):
    protocol = open_protocol(pairs_of(tmp_path, *EIGHT_PAIRS), faces_at(tmp_path, *FOUR))
    one_fold = replace(protocol, fold=np.ones_like(protocol.fold))
    one_kind = replace(protocol, same=np.ones_like(protocol.same))
    network = Circle()
    assert line_of(network, one_fold) == (
        f"{protocol.path} has all 8 pairs in one fold; the cosine for a fold is chosen on the others, "
        "so at least 2 are needed"
    )
    assert line_of(network, one_kind) == (
        f"{protocol.path} has 8 pairs, none of them of different people; telling the two kinds apart takes both"
    )
    assert line_of(network, protocol, batch_size=0) == "batch_size must be at least 1, got 0"
    assert line_of(network, protocol, workers=0) == "workers must be at least 1, got 0"
    assert network.seen == 0


def test_a_real_network_on_real_faces(real_data):
    """Every sixth pair of two folds of LFW, without mirror images; all of LFW takes minutes."""
    model = real_data.parent / "models" / "mobilefacenet.onnx"
    if not model.is_file():
        pytest.skip(f"no network at {model}")
    whole = open_protocol(real_data / "lfw" / "pairs.txt", real_data / "lfw" / "images")
    some = np.flatnonzero((whole.fold <= 2) & (np.arange(len(whole)) % 6 == 0))
    rows, ends = np.unique(np.stack([whole.left[some], whole.right[some]]), return_inverse=True)
    left, right = ends.reshape(2, -1).astype(np.int32)
    images = tuple(whole.images[row] for row in rows)
    protocol = replace(whole, images=images, left=left, right=right, same=whole.same[some], fold=whole.fold[some])
    found = verify(load_backbone(model), protocol, VerifyOptions(preprocess=Preprocess(), flip=False))
    assert (found.pairs, found.folds) == (200, 2)
    assert found.accuracy >= 0.96
    assert found.tar["1e-1"] >= 0.99
