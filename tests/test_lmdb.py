"""LMDB databases in the layouts that face code bases, Caffe and OCR write, made by the lmdb package itself."""

import logging
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from archives import datum_of, lmdb_of
from click.testing import CliRunner
from pictures import folder_of, jpeg
from test_readers import refusal
from test_readers_archives import rows

from facecore.cli import main
from facecore.readers import READERS, open_dataset

IMAGES = [jpeg(seed, 16) for seed in range(4)]
SOUGHT = (
    "a face is at a key IDENTITY/image, at image-N with its label at label-N, or a Datum with a label; "
    "where a list says whose they are, open that list, with --images the database"
)
NOT_TAKEN = "facecore reads encoded images, and Datums of them: write those, or a folder, with the code that made it"


def test_keys_that_are_paths(tmp_path):
    values = {"bob/a/2.jpg": IMAGES[1], "ann/1.jpg": IMAGES[0], "__len__": b"2", "num-samples": b"2"}
    wanted = [("ann/1.jpg", "ann", IMAGES[0]), ("bob/a/2.jpg", "bob", IMAGES[1])]
    assert rows(open_dataset(lmdb_of(tmp_path / "set", values))) == wanted
    assert rows(open_dataset(lmdb_of(tmp_path / "set.lmdb", values, subdir=False))) == wanted


def test_numbers_with_labels_beside(tmp_path, caplog):
    values = {"image-01": IMAGES[0], "label-01": "Zoë\n".encode(), "image-02": IMAGES[1], "image-03": IMAGES[2]}
    values |= {"label-03": b"\n", "num-samples": b"3"}
    root = lmdb_of(tmp_path / "set", values)
    with caplog.at_level(logging.WARNING, "facecore"):
        assert rows(open_dataset(root)) == [("image-01", "Zoë", IMAGES[0])]
    assert caplog.messages == [f"{root}: left out: 2 do not say whose they are, first 'image-02'"]


def test_datums_with_labels(tmp_path):
    # the label, not the folder: Caffe's convert_imageset writes 00000007_folder/name.jpg
    values = {"00000000_x/1.jpg": datum_of(IMAGES[0], 300), "00000001_x/1.jpg": datum_of(IMAGES[1], -1)}
    assert rows(open_dataset(lmdb_of(tmp_path / "set", values))) == [
        ("00000001_x/1.jpg", "-1", IMAGES[1]),
        ("00000000_x/1.jpg", "300", IMAGES[0]),
    ]


def test_a_list_says_whose_the_keys_are(tmp_path):
    root = lmdb_of(tmp_path / "set", {f"train_0_{i}": datum_of(IMAGES[i]) for i in range(3)})
    assert refusal(open_dataset, root) == (
        f"no images in {root} (left out: 3 do not say whose they are, first 'train_0_0'); {SOUGHT}"
    )
    wanted = [("train_0_0", "5", IMAGES[0]), ("train_0_2", "6", IMAGES[2])]
    for place, images in ((root, None), (tmp_path, root)):  # DCP's make_lmdb puts it into the database's folder
        (place / "train_kv.txt").write_text("train_0_0 5\ntrain_0_2 6\n")
        listed = open_dataset(place / "train_kv.txt", images=images)
        assert (listed.format, listed.root, rows(listed)) == ("lmdb", root, wanted)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (pickle.dumps((b"image", 1)), "pickled, which could run anything and was not loaded"),
        (b"\x92\xc4\x05image\x01", "packed by msgpack, it seems"),
        (b"image", "no image, but bytes that begin with 69 6d 61 67 65"),
        (datum_of(bytes(48), 3), "a Datum of something else than an encoded image"),
        (b"", "empty"),
    ],
)
def test_values_that_are_not_taken(tmp_path, value, what):
    root = lmdb_of(tmp_path / "set", {"0": value, "__keys__": pickle.dumps([b"0"])})
    assert refusal(open_dataset, root) == f"{root}: the value at key '0' is {what}; {NOT_TAKEN}"


def test_a_pickle_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    assert "was not loaded" in refusal(open_dataset, lmdb_of(tmp_path / "set", {"0": pickle.dumps(Trap())}))
    assert not (tmp_path / "sprung").exists()


def test_one_value_among_datums_that_is_none(tmp_path):
    data = open_dataset(lmdb_of(tmp_path / "set", {"a/1": datum_of(IMAGES[0]), "a/2": b"\x22\xff", "a/3": b"\x08\x01"}))
    assert len(data) == 3
    assert data.read("a/1") == IMAGES[0]
    for source in ("a/2", "a/3"):
        assert refusal(data.read, source) == "no Datum with an image"


def test_keys_that_are_no_text(tmp_path, caplog):
    root = lmdb_of(tmp_path / "set", {b"ann/\xff": IMAGES[0], "ann/1": IMAGES[1]})
    with caplog.at_level(logging.WARNING, "facecore"):
        assert rows(open_dataset(root)) == [("ann/1", "ann", IMAGES[1])]
    assert caplog.messages == [f"{root}: left out: 1 have keys that are not UTF-8, first 'ann/\\udcff'"]


@pytest.mark.parametrize("source", ["ann/2.jpg", "", "x" * 10_000])
def test_no_such_key(tmp_path, source):
    root = lmdb_of(tmp_path / "set", {"ann/1.jpg": IMAGES[0]})
    reader = READERS["lmdb"](root)
    assert not reader.exists(source)
    assert refusal(reader.read, source) == f"no key {source} in {root}"


def test_an_empty_database(tmp_path):
    root = lmdb_of(tmp_path / "set", {})
    assert refusal(open_dataset, root) == f"{root} is an empty LMDB; write it again with the code that made it"


def test_files_that_are_no_database(tmp_path):
    root = lmdb_of(tmp_path / "set", {f"ann/{i}": IMAGES[0] for i in range(40)})
    file = root / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert refusal(open_dataset, root) == (
        f"{file} has {len(whole) // 2:,} bytes of {len(whole):,}; it was cut short, copy it again"
    )
    file.write_bytes(b"")
    assert refusal(open_dataset, root) == f"{file} is empty; copy it again"
    file.write_bytes(b"nonsense" * 1000)
    assert refusal(open_dataset, root) == (f"{file} is no LMDB: MDB_INVALID: File is not an LMDB file; copy it again")


def test_threads_and_readers_at_once(tmp_path):
    """The lmdb package refuses to open a database twice in a process."""
    root = lmdb_of(tmp_path / "set", {f"ann/{i}": image for i, image in enumerate(IMAGES)})
    one, other = READERS["lmdb"](root), READERS["lmdb"](root)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: (one if i % 2 else other).read(f"ann/{i % 4}"), range(200))) == IMAGES * 50


def test_a_zip_and_its_list(tmp_path):
    """Whatever has names may be listed, not only a folder."""
    from archives import zip_of

    root = zip_of(tmp_path / "set.zip", {"x/1.jpg": IMAGES[0], "x/2.jpg": IMAGES[1]})
    (tmp_path / "two.txt").write_text("x/2.jpg 9\n")
    assert rows(open_dataset(tmp_path / "two.txt", images=root)) == [("x/2.jpg", "9", IMAGES[1])]


def test_without_the_extra(tmp_path, monkeypatch):
    root = lmdb_of(tmp_path / "set", {"ann/1.jpg": IMAGES[0]})
    monkeypatch.setitem(sys.modules, "lmdb", None)
    done = CliRunner().invoke(main, ["embed", str(root), "--model", "net.onnx"])
    assert (done.exit_code, done.output) == (1, f"Error: {root} is an LMDB; to read it, pip install 'facecore[lmdb]'\n")


def test_a_database_on_object_storage():
    from facecore.storage import located

    root = located("memory://lmdb/set")
    folder_of(root, {"data.mdb": b"database"})
    assert refusal(open_dataset, root) == (
        "memory://lmdb/set: an LMDB is mapped into memory, so only a local one can be read; copy it here"
    )
