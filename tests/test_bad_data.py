"""Names, labels and tables as the world has them: each gives a defined result, the same through every command."""

import os
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from geometry import random_faces, split, write_store
from pictures import folder_of, jpeg
from records import framed, packed, write_records
from test_cli import facecore
from test_models_onnx import written
from test_quantize import network

from facecore.embeddings import Embeddings
from facecore.errors import DataError
from facecore.readers import open_dataset

PEOPLE = (
    "two words", "quo\"te's", "new\nline", "smile \N{SLIGHTLY SMILING FACE}", "-dash", "\x1b[31mred", "a&b;c", "<i>",
)  # fmt: skip
LONGEST = 255  # bytes of a name on the file systems there are


def refusal(function, *args, **options):
    with pytest.raises(DataError) as caught:
        function(*args, **options)
    return str(caught.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of three faces each of people with unusual names, and a network."""
    monkeypatch.chdir(tmp_path)
    files = {f"{who}/{n}.jpg": jpeg(7 * n + i, 16) for i, who in enumerate(PEOPLE) for n in range(3)}
    long = {f"{'p' * LONGEST}/{'n' * (LONGEST - 4)}.jpg": 5}
    folder_of(Path("faces"), {**files, **long})
    written(network(), Path("net.onnx"))
    return tmp_path


def test_names_go_through_every_command(here):
    def runs(*words):
        code, output = facecore(*words)
        assert code == 0, output
        assert "\x1b" not in output
        return output

    runs("embed", "faces", "--model", "net.onnx")
    runs("nms", "--keep", "0.6")
    runs("audit", "subset.parquet", "--embeddings", "embeddings")
    told = runs("explain", "--", "new\nline/0.jpg")
    assert told.startswith("new\\nline/0.jpg was ")
    assert "new\nline" not in told
    runs("conflicts")
    runs("report", ".")
    runs("quantize", "--manifest", "subset.parquet", "--model", "net.onnx", "--steps", "1", "--batch-size", "2")
    for to in ("recordio", "webdataset", "parquet"):
        runs("export", "faces", "--to", to, "--out", to)
        runs("embed", to, "--model", "net.onnx", "--out", f"{to}-embeddings")
        again = Embeddings.open(Path(f"{to}-embeddings"))
        assert again.rows == 25
        runs("embed", f"{to}/export.parquet", "--model", "net.onnx", "--out", f"{to}-named")
        named = Embeddings.open(Path(f"{to}-named"))
        assert set(named.faces(0)["identity"].to_pylist()) == {*PEOPLE, "p" * LONGEST}
    runs("forget", "--embeddings", "embeddings", "--manifest", "subset.parquet", "--", "new\nline", "-dash/1.jpg")
    left = Embeddings.open(Path("embeddings")).faces(0)["face_id"].to_pylist()
    assert len(left) == 25 - 4


def test_names_that_a_format_cannot_hold_are_told_on_one_line(here):
    assert facecore("export", "faces", "--to", "list", "--out", "list") == (
        1,
        "Error: 3 of 25 faces rejected so far, more than --max-rejected 0.01 allows; first new\\nline/0.jpg: its path "
        "has a line break, or begins or ends with a space; see list.part/whole/rejected.parquet, then run again with a "
        "larger --max-rejected, it goes on where it was\n",
    )
    assert facecore("explain", "--subset", "faces", "--", "no\nbody")[1].count("\n") == 1
    folder_of(Path("loose"), {"new\nline.jpg": 1, "a/1.jpg": 1})
    assert facecore("embed", "loose", "--model", "net.onnx") == (
        1,
        "Error: 1 image directly in loose, first new\\nline.jpg, and nothing says whose; "
        "move each into a folder of its identity\n",
    )


def test_a_name_that_is_no_text_is_told_with_its_bytes(here):
    try:
        os.mkdir(b"faces/caf\xe9")
        open(b"faces/caf\xe9/1.jpg", "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert facecore("embed", "faces", "--model", "net.onnx") == (
        1,
        "Error: faces holds a name that is not UTF-8, b'caf\\xe9/1.jpg'; rename it\n",
    )


# Links and other things that are no folders of images


def test_circles_of_links_end(tmp_path):
    folder_of(tmp_path, {"a/x/1.png": 1, "b/2.png": 2})
    (tmp_path / "a" / "x" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    line = f"{tmp_path}/a/x/up is a link to a folder that its identity already holds; remove it"
    assert refusal(open_dataset, tmp_path) == line
    (tmp_path / "a" / "x" / "up").unlink()
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b", target_is_directory=True)
    assert open_dataset(tmp_path).faces["face_id"].to_pylist() == ["a/to_b/2.png", "a/x/1.png", "b/2.png"]
    for name in ("to_a", "also_to_a"):  # 2 ** 40 paths, if each were followed as far as the system lets
        (tmp_path / "b" / name).symlink_to(tmp_path / "a", target_is_directory=True)
    assert refusal(open_dataset, tmp_path).endswith(" is a link to a folder that its identity already holds; remove it")


def test_folders_deeper_than_python_recurses(tmp_path):
    deep = tmp_path / "a"
    deep.mkdir()
    os.chdir(deep)
    try:
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        Path("1.png").write_bytes(jpeg(0, 16))
        faces = open_dataset(tmp_path).faces
        Path("1.png").unlink()
    finally:  # pytest, too, would recurse when it removes the folders of old runs, and fail the run that does
        while Path.cwd() != deep:
            os.chdir("..")
            os.rmdir("d")
        os.chdir(tmp_path)
    assert faces["identity"].to_pylist() == ["a"]


def test_what_is_no_file_is_not_waited_for(tmp_path):
    folder_of(tmp_path, {"a/1.png": 1})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    dataset = open_dataset(tmp_path)
    assert dataset.faces["face_id"].to_pylist() == ["a/1.png", "a/endless.png", "a/gone.png", "a/pipe.png"]
    assert refusal(dataset.read, "a/pipe.png") == "not an ordinary file"
    assert refusal(dataset.read, "a/endless.png") == "not an ordinary file"
    with pytest.raises(FileNotFoundError):
        dataset.read("a/gone.png")


# Labels of RecordIO


def test_labels_with_gaps_and_below_zero_are_names(tmp_path):
    write_records(tmp_path, {key: packed(label, b"image", key) for key, label in enumerate((7, -1, 1000, 7), 1)})
    assert open_dataset(tmp_path).faces["identity"].to_pylist() == ["-1", "1000", "7", "7"]


@pytest.mark.parametrize("label", [0.5, -2.25, 1e30, float("inf"), float("-inf"), float("nan")])
def test_a_label_between_two_people_is_nobodys(tmp_path, label):
    write_records(tmp_path, {1: packed(label, b"image", 1)})
    assert refusal(open_dataset, tmp_path) == (
        f"record 1 of {tmp_path / 'train.rec'} has the label {label:g}, not a whole number; pack the data set again"
    )


@pytest.mark.parametrize("first", [float("nan"), float("inf"), -5.0, 1e30])
def test_a_first_record_that_leads_nowhere_is_not_believed(tmp_path, first):
    write_records(tmp_path, {0: packed([first, 3.0]), 1: packed(4, b"image", 1)})
    # then every record is taken for an image, and the first has its own first label
    if np.isfinite(first) and abs(first) < 2**63:
        assert open_dataset(tmp_path).faces["identity"].to_pylist() == ["-5", "4"]
    else:
        assert "record 0 of" in refusal(open_dataset, tmp_path)


def test_a_record_cut_in_the_middle_and_an_index_that_disagrees(tmp_path):
    one = framed(packed(1, bytes(100), 1))
    (tmp_path / "train.rec").write_bytes(one + one[:50])
    (tmp_path / "train.idx").write_text(f"1\t0\n2\t{len(one)}\n")
    assert refusal(open_dataset, tmp_path) == (
        f"{tmp_path / 'train.rec'} has 182 bytes, but a record goes on to byte 264; "
        "it was cut short or is damaged, copy it again"
    )
    (tmp_path / "train.idx").write_text("1\t0\n2\t60\n")
    assert refusal(open_dataset, tmp_path) == (
        f"{tmp_path / 'train.rec'} has no record at byte 60; it is damaged, or train.idx is of another file"
    )


def test_a_record_that_claims_half_a_gigabyte_is_not_given_it(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"\x0a\x23\xd7\xce" + struct.pack("<I", (1 << 29) - 1) + bytes(100))
    (tmp_path / "train.idx").write_text("1\t0\n")
    assert refusal(open_dataset, tmp_path).startswith(
        f"{tmp_path / 'train.rec'} has 108 bytes, but a record goes on to "
    )


# Tables


def manifest(path, **columns):
    names = ["ann/0.jpg", "ann/1.jpg"]
    table = {"face_id": names, "identity": ["ann", "ann"], "source": names, **columns}
    pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), path)
    return path


BAD_TABLES = {
    "a column is missing": (
        {"source": None},
        "has no column source; a manifest has the string columns face_id, identity, source",
    ),
    "numbers": ({"identity": [1, 2]}, ": column identity is int64, not string; cast it and write the file again"),
    "no identity": ({"identity": ["ann", ""]}, ": column identity is empty for 1 faces; every face needs one"),
    "a null": ({"source": ["x", None]}, ": column source has 1 nulls; every face needs one"),
    "a name twice": ({"face_id": ["x", "x"]}, ": 1 faces repeat the face_id of another; each face needs its own"),
    "no rows": (
        {name: pa.array([], pa.string()) for name in ("face_id", "identity", "source")},
        " lists no faces; choose another manifest",
    ),
    "bytes that are no text": (
        {"identity": pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"], pa.binary()).buffers())},
        " is not a whole Parquet file; copy it again, or run again what wrote it",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_table_that_is_no_manifest_is_one_line_in_every_command(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(network(), Path("net.onnx"))
    columns, line = BAD_TABLES[name]
    manifest(Path("bad.parquet"), **columns)
    line = f"Error: bad.parquet{line if line.startswith((':', ' ')) else ' ' + line}\n"
    for words in (
        "embed bad.parquet --model net.onnx --images .",
        "quantize --manifest bad.parquet --model net.onnx --images .",
        "train --manifest bad.parquet --images . --arch tiny --steps 1",
        "export bad.parquet --to recordio --out out --images .",
    ):
        assert facecore(*words.split()) == (1, line), words


def test_large_strings_are_strings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(Path("faces"), {"ann/0.jpg": 0, "ann/1.jpg": 1})
    large = {name: pa.array(["ann/0.jpg", "ann/1.jpg"], pa.large_string()) for name in ("face_id", "source")}
    dataset = open_dataset(manifest(Path("large.parquet"), **large), images=Path("faces"))
    assert dataset.faces["face_id"].to_pylist() == ["ann/0.jpg", "ann/1.jpg"]


# Vectors, and identities of any size


def test_views_ride_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = pa.array(["bo", "ann", "bo", "ann"])
    columns = {name: names.cast(kind) for name, kind in (("note", "string_view"), ("raw", "binary_view"))}
    pq.write_table(
        pa.table({"vector": np.eye(4, dtype=np.float32).tolist(), "identity": names, **columns}), "v.parquet"
    )
    code, output = facecore("import", "v.parquet")
    assert code == 0, output
    faces = Embeddings.open(Path("embeddings")).faces(0)
    assert faces["note"].to_pylist() == faces["identity"].to_pylist() == ["ann", "ann", "bo", "bo"]
    assert faces["raw"].to_pylist() == [b"ann", b"ann", b"bo", b"bo"]


def test_vectors_without_a_direction_and_beyond_halves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.array([[3e38, 3e38], [np.nan, 1], [0, 0], [np.inf, 1], [1e-40, 0], [70000, 0]], np.float32)
    np.save("v.npy", values)
    Path("names.csv").write_text("identity\n" + "ann\n" * 6)
    assert facecore("import", "v.npy", "--labels", "names.csv", "--max-rejected", "0.5")[0] == 0
    store = Embeddings.open(Path("embeddings"))
    assert store.faces(0)["face_id"].to_pylist() == ["000000000", "000000004", "000000005"]
    (shard,) = store
    np.testing.assert_allclose(shard.vectors, [[2**-0.5, 2**-0.5], [1, 0], [1, 0]], atol=1e-3)
    rejected = {row["face_id"]: row["reason"] for row in pq.read_table("embeddings/rejected.parquet").to_pylist()}
    assert list(rejected) == ["000000001", "000000002", "000000003"]


def test_labels_that_leave_every_face_alone_are_pointed_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.eye(3, dtype=np.float32))
    Path("names.txt").write_text("a.jpg ann\nb.jpg ann\nc.jpg bo\n")  # the identity is the whole line
    line = (
        "every face is of an identity of its own: if it should not be, see whether the labels "
        "hold more than the identity"
    )
    code, output = facecore("import", "v.npy", "--labels", "names.txt")
    assert (code, output.splitlines()[-1]) == (0, line)
    Path("names.txt").write_text("ann\nann\nbo\n")
    code, output = facecore("import", "v.npy", "--labels", "names.txt", "--overwrite")
    assert (code, line in output) == (0, False)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_store_whose_vectors_were_changed_is_one_line_in_every_command(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(Path("embeddings"), [random_faces(0, [4, 4, 4])])
    path = Path("embeddings/img_emb/img_emb_00000.npy")
    vectors = np.load(path)
    vectors[5] = value
    np.save(path, vectors)
    length = "nan" if np.isnan(value) else "inf" if np.isinf(value) else "0.0000"
    again = "delete it and run facecore embed again, it redoes only that shard"
    line = f"Error: {path}: row 5 has length {length}, not 1; {again}\n"
    other = f"Error: {path} is not the file that meta.json describes; put that back, or {again}\n"
    for words, said in (("nms --keep 0.5", line), ("nms --order", other), ("conflicts", line)):
        assert facecore(*words.split()) == (1, said), words


def exchanged(store, files):
    """Exchange the files of the first two shards, which are of one size."""
    first, second = (store / files.format(number) for number in (0, 1))
    first.rename(store / "third")
    second.rename(first)
    (store / "third").rename(second)
    return first


@pytest.mark.parametrize("files", ["img_emb/img_emb_{:05d}.npy", "metadata/metadata_{:05d}.parquet"])
def test_shards_that_were_exchanged_are_one_line_in_every_command(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("embeddings", "whole"):
        write_store(Path(name), split(random_faces(0, [4, 4, 4, 4]), [2]))
    first = exchanged(Path("embeddings"), files)
    again = "put that back, or delete it and run facecore embed again, it redoes only that shard"
    line = f"Error: {first} is not the file that meta.json describes; {again}\n"
    for words in (
        "nms --keep 0.5",
        "nms --max-cosine 0.5",
        "nms --order",
        "select random --keep 0.5",
        "select kcenter --keep 0.5",
        "conflicts",
        "overlap --against whole",
        "forget p000 --embeddings embeddings",
    ):
        assert facecore(*words.split()) == (1, line), words
    assert facecore("overlap", "--embeddings", "whole", "--against", "embeddings") == (1, line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embeddings", "whole"]


def circle_of(many):
    """An identity of one face, and one of all the others, as the vectors and names of an import."""
    angle = np.linspace(0, 2 * np.pi, many, endpoint=False)
    np.save("v.npy", np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32))
    np.save("names.npy", np.array([1] + [2] * (many - 1)))
    assert facecore("import", "v.npy", "--labels", "names.npy")[0] == 0


def test_an_identity_of_a_hundred_thousand_faces_beside_one_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    circle_of(100_000)
    store = Embeddings.open(Path("embeddings"))
    assert [len(piece) for piece in store.pieces()] == [1, 99_999]


def test_an_identity_of_more_faces_than_one_block_of_cosines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    circle_of(9_000)
    assert facecore("nms", "--max-cosine", "0.99", "--rank", "random")[0] == 0
    kept = pq.read_table("subset.parquet")
    assert kept["identity"].to_pylist().count("1") == 1
    assert 20 < len(kept) < 50  # of a circle, at 8 degrees from each other or more
