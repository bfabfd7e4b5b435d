"""Exports: every format read back by our readers and, where there is one, by somebody else's."""

import csv
import hashlib
import json
import pickle
import shutil
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pictures import encoded, folder_of, jpeg, pixels
from records import MAGIC, framed, insightface, write_records

from facecore.cli import main
from facecore.errors import DataError, OptionError
from facecore.export import WRITERS, ExportOptions, export, write_bin
from facecore.export import recordio as recordio_module
from facecore.export.recordio import RecordIOWriter
from facecore.manifest import manifest_table, read_manifest, write_manifest
from facecore.provenance import Provenance
from facecore.readers import Dataset, open_dataset
from facecore.readers.bin import read_pairs
from facecore.verify import open_protocol

PNG = encoded(pixels(9, 16), "PNG")
FILES = {
    "zoé/2 x.jpg": 0,
    "zoé/1.png": PNG,
    "al/a.jpg": 1,
    "al/deep/a.jpg": 2,
    "bo/1.jpeg": 3,
    "bo/2.jpg": 4,
    "bo/3.jpg": 5,
}
SMALL = ExportOptions(shard_faces=3, workers=1)


def refusal(do, *arguments, **options):
    with pytest.raises((DataError, OptionError)) as caught:
        do(*arguments, **options)
    return str(caught.value)


@pytest.fixture
def images(tmp_path):
    return folder_of(tmp_path / "images", FILES)


@pytest.fixture
def subset(images, tmp_path):
    """A manifest of all faces but one."""
    data = open_dataset(images)
    made = Provenance("test", facts={"root": str(images), "format": "folder"})
    write_manifest(data.faces.slice(0, 6), tmp_path / "subset.parquet", made)
    return tmp_path / "subset.parquet"


def opened(out, to, images):
    """An export, as whoever got it would open it."""
    return open_dataset(out / "list.txt", images=images) if to == "list" else open_dataset(out)


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(out, to, data, images=None):
    """Every face is there, under its identity, with its bytes, and its face_id maps to where it is; returns all."""
    made = opened(out, to, images)
    where, provenance = read_manifest(out / "export.parquet")
    assert provenance.inputs == {"dataset": data.sha256}
    people = sorted(set(data.faces["identity"].to_pylist()), key=str.encode)
    with (out / "labels.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [["identity", "label"], *([name, str(i)] for i, name in enumerate(people))]
    sources = {face["face_id"]: face for face in where.to_pylist()}
    assert sorted(sources) == sorted(data.faces["face_id"].to_pylist())
    identities = {face["source"]: face["identity"] for face in made.faces.to_pylist()}
    for face in data.faces.to_pylist():
        there = sources[face["face_id"]]
        assert (there["identity"], there["label"]) == (face["identity"], people.index(face["identity"]))
        wanted = str(there["label"]) if to in ("recordio", "list") else face["identity"]
        assert identities.pop(there["source"]) == wanted
        assert made.read(there["source"]) == data.read(face["source"])
        assert there["sha256"] == hashlib.sha256(data.read(face["source"])).digest()
    assert identities == {}
    assert not out.with_name(out.name + ".part").exists()
    return where.to_pylist()


# every format


@pytest.mark.parametrize("to", WRITERS)
def test_a_subset_goes_out_and_comes_back(to, subset, images, tmp_path):
    data, out = open_dataset(subset), tmp_path / "out"
    done = export(data, to, out, SMALL)
    assert (done.faces, done.identities, done.empty, done.rejected, done.resumed) == (6, 3, 0, 0, 0)
    rows = check(out, to, data, images)
    assert [row["face_id"] for row in rows] == data.faces["face_id"].to_pylist()
    again = open_dataset(out / "export.parquet")  # a manifest, with the names that the faces had
    assert again.faces.select(["face_id", "identity"]).equals(data.faces.select(["face_id", "identity"]))


@pytest.mark.parametrize("to", WRITERS)
def test_equal_bytes(to, subset, tmp_path, monkeypatch):
    made = []
    for name, workers in (("one", 1), ("two", 3)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        export(open_dataset(subset), to, Path("out"), ExportOptions(shard_faces=4, workers=workers))
        made.append(bytes_of(tmp_path / name / "out"))
    assert made[0] == made[1]


@pytest.mark.parametrize("to", WRITERS)
@pytest.mark.parametrize("batches", [1, 2])
def test_killed_and_run_again(to, batches, images, tmp_path, monkeypatch):
    data = open_dataset(images)
    export(data, to, tmp_path / "whole" / "out", SMALL)

    class Killed(BaseException):
        pass

    write = WRITERS[to].write

    def dies(self, number, written, faces):
        places = write(self, number, written, faces)  # its bytes are there, its record is not
        if number == batches:
            raise Killed
        return places

    with monkeypatch.context() as patch:
        patch.setattr(WRITERS[to], "write", dies)
        with pytest.raises(Killed):
            export(data, to, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()
    assert export(data, to, tmp_path / "out", SMALL).resumed == 3 * batches
    ours, whole = bytes_of(tmp_path / "out"), bytes_of(tmp_path / "whole" / "out")
    assert ours.pop("export.parquet") != whole.pop("export.parquet") or to == "list"  # its root is another
    assert ours == whole


@pytest.mark.parametrize("to", WRITERS)
def test_what_was_written_is_read_back(to, images, tmp_path, monkeypatch):
    write = WRITERS[to].write
    swapped = lambda self, number, written, faces: write(self, number, written, faces)[::-1]  # noqa: E731
    monkeypatch.setattr(WRITERS[to], "write", swapped)
    line = refusal(export, open_dataset(images), to, tmp_path / "out", SMALL)
    whole = tmp_path / "out.part" / "whole"
    assert line.startswith(f"{whole} was read back, and has ")
    assert not (tmp_path / "out").exists()


def test_another_byte_is_found(images, tmp_path, monkeypatch):
    data = open_dataset(images)
    finish = RecordIOWriter.finish

    def damaged(self, written):
        finish(self, written)
        rec = self._part / "train.rec"
        rec.write_bytes(rec.read_bytes().replace(PNG, PNG[:-1] + b"?"))

    monkeypatch.setattr(RecordIOWriter, "finish", damaged)
    assert refusal(export, data, "recordio", tmp_path / "out", SMALL) == (
        f"{tmp_path / 'out.part' / 'whole'} was read back, and has other bytes at 6; "
        "the disk may be failing, export again to another"
    )


@pytest.mark.parametrize("to", [name for name in WRITERS if name != "folder"])
def test_shuffled(to, images, tmp_path):
    data = open_dataset(images)
    orders = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(number)
        export(data, to, out, ExportOptions(shuffle=seed, shard_faces=3))
        orders.append([row["face_id"] for row in check(out, to, data, images)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != data.faces["face_id"].to_pylist()


@pytest.mark.parametrize("to", WRITERS)
def test_unreadable_faces_are_listed(to, images, tmp_path):
    folder_of(images, {"bo/2.jpg": b"no image", "cy/1.jpg": jpeg(0, 16)[:-200]})
    data, out = open_dataset(images), tmp_path / "out"
    line = refusal(export, data, to, out, SMALL)
    path = tmp_path / "out.part" / "whole" / "rejected.parquet"
    assert line == (
        f"2 of 8 faces rejected so far, more than --max-rejected 0.01 allows; first bo/2.jpg: not an image: "
        f"unknown image format; see {path}, then run again with a larger --max-rejected, it goes on where it was"
    )
    done = export(data, to, out, ExportOptions(shard_faces=3, max_rejected=0.5))
    assert (done.faces, done.identities, done.empty, done.rejected) == (6, 4, 1, 2)
    rejected, made = read_manifest(out / "rejected.parquet")
    assert rejected["face_id"].to_pylist() == ["bo/2.jpg", "cy/1.jpg"]
    assert made.stage == "export"
    there = [face["face_id"] not in ("bo/2.jpg", "cy/1.jpg") for face in data.faces.to_pylist()]
    made = opened(out, to, images)
    where, _ = read_manifest(out / "export.parquet")
    assert where["face_id"].to_pylist() == data.faces.filter(pa.array(there))["face_id"].to_pylist()
    assert set(where["source"].to_pylist()) == set(made.faces["source"].to_pylist())
    assert where["label"].to_pylist() == [0, 0, 1, 1, 3, 3]  # cy keeps the number 2, though nobody has it


def test_nobody_can_be_read(tmp_path):
    data = open_dataset(folder_of(tmp_path / "images", {"a/1.jpg": b"x"}))
    assert refusal(export, data, "recordio", tmp_path / "out", ExportOptions(max_rejected=1)) == (
        "none of the 1 faces can be read, first a/1.jpg: not an image: unknown image format; mend them"
    )


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0/"), min_size=1, max_size=12)


class InMemory:
    """Faces with any names."""

    def __init__(self, names):
        self.images = {str(i): jpeg(i % 5, 16) + str(i).encode() for i in range(len(names))}
        columns = zip(*((face_id, identity, str(i)) for i, (face_id, identity) in enumerate(names)), strict=True)
        faces = manifest_table(dict(zip(("face_id", "identity", "source"), columns, strict=True)))
        self.dataset = Dataset(Path("nowhere"), "bin", faces, self.images.__getitem__)


@pytest.mark.parametrize("to", ["recordio", "webdataset", "parquet", "folder"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
@example(names=[("a\nb", 'c"d, \r\n'), ("\u2028", "\x85"), ("../x", "..")])
@example(names=[("1", "a"), ("1.jpg", "a")])
@example(names=[("1", "labels.csv"), (".", "con")])
def test_any_names(to, names, tmp_path_factory):
    data, out = InMemory(names).dataset, tmp_path_factory.mktemp("any") / "out"
    refused = None
    try:
        export(data, to, out, SMALL)
    except DataError as error:
        refused = str(error)
    if refused is None:
        check(out, to, data)
        return
    assert to == "folder"  # every other format takes every name
    assert refused.endswith("; export to another format")
    assert "\n" not in refused
    assert list(out.parent.iterdir()) == []


# RecordIO


class MXIndexedRecordIO:
    """Reads as MXNet's does: each record by its offset, a header of flag, label, id and id2, `flag` labels after it."""

    def __init__(self, folder):
        lines = (folder / "train.idx").read_text().splitlines()
        self.at = {int(key): int(at) for key, at in (line.split("\t") for line in lines)}
        self.rec = (folder / "train.rec").read_bytes()
        self.keys = list(self.at)

    def read_idx(self, key):
        payload, at, flag = b"", self.at[key], 1
        while flag in (1, 2):
            magic, mark = struct.unpack_from("<4sI", self.rec, at)
            flag, length = mark >> 29, mark & 0x1FFFFFFF
            assert magic == MAGIC
            payload += (MAGIC if flag in (2, 3) else b"") + self.rec[at + 8 : at + 8 + length]
            at += 8 + (length + 3) // 4 * 4
        count, label, identifier, _ = struct.unpack_from("<IfQQ", payload)
        labels = struct.unpack_from(f"<{count}f", payload, 24)
        return count, labels or label, identifier, payload[24 + 4 * count :]


def mx_face_dataset(folder):
    """The images and labels that MXFaceDataset of arcface_torch trains on, in its order."""
    records = MXIndexedRecordIO(folder)
    flag, label, _, _ = records.read_idx(0)
    keys = range(1, int(label[0])) if flag > 0 else records.keys
    for key in keys:
        _, label, identifier, image = records.read_idx(key)
        assert identifier == key
        yield image, int(label)


@pytest.mark.parametrize("shuffle", [None, 3])
def test_arcface_torch_would_train_on_it(images, tmp_path, shuffle):
    data, out = open_dataset(images), tmp_path / "out"
    export(data, "recordio", out, ExportOptions(shuffle=shuffle))
    assert (out / "property").read_text() == "3,112,112\n"
    found = list(mx_face_dataset(out))
    wanted = [
        (data.read(source), ["al", "bo", "zoé"].index(identity))
        for source, identity in zip(data.faces["source"].to_pylist(), data.faces["identity"].to_pylist(), strict=True)
    ]
    assert (found == wanted) is (shuffle is None)
    assert sorted(found) == sorted(wanted)


def test_identity_records(images, tmp_path):
    """As InsightFace's image_iter reads them: header0, then for each identity the range of its keys."""
    export(open_dataset(images), "recordio", tmp_path / "out", SMALL)
    records = MXIndexedRecordIO(tmp_path / "out")
    assert sorted(records.keys) == list(range(11))
    assert records.read_idx(0) == (2, (8.0, 11.0), 0, b"")
    ranges = [records.read_idx(key)[1] for key in (8, 9, 10)]
    assert ranges == [(1, 3), (3, 6), (6, 8)]
    for label, (first, past) in enumerate(ranges):
        assert {records.read_idx(key)[1] for key in range(int(first), int(past))} == {label}


def test_an_identity_without_faces_has_an_empty_range(tmp_path):
    files = {"a/1.jpg": 1, "b/1.jpg": b"x", "c/1.jpg": 2}
    data = open_dataset(folder_of(tmp_path / "images", files))
    export(data, "recordio", tmp_path / "out", ExportOptions(max_rejected=0.5))
    records = MXIndexedRecordIO(tmp_path / "out")
    assert [records.read_idx(key)[1] for key in (0, 3, 4, 5)] == [(3, 6), (1, 2), (2, 2), (2, 3)]
    assert open_dataset(tmp_path / "out").faces["identity"].to_pylist() == ["0", "2"]


@given(st.lists(st.sampled_from([MAGIC, b"a", b"bcd", b"efgh", MAGIC[:2]]), max_size=8).map(b"".join))
def test_framing_is_that_of_mxnet(payload):
    assert recordio_module.framed(payload) == framed(payload)


def test_borders_that_float32_cannot_hold_are_rounded_down():
    for key in [5, 2**24, 2**24 + 1, 2**24 + 3, 2**25 + 2, 42_474_558]:
        first, past = struct.unpack("<2f", recordio_module._pair(0, key, key + 1)[24:])
        assert key - 4 <= first <= key
        assert key - 3 <= past <= key + 1
        assert first == key or key > 2**24


def test_from_recordio_to_recordio(tmp_path):
    people = [[jpeg(0, 16), jpeg(1, 16)], [jpeg(2, 16)], [PNG]]
    data = open_dataset(write_records(tmp_path / "in", insightface(people, labels=[10, 2, 7])))
    export(data, "recordio", tmp_path / "out", SMALL)
    check(tmp_path / "out", "recordio", data)
    assert list(mx_face_dataset(tmp_path / "out")) == [
        (people[0][0], 0),
        (people[0][1], 0),
        (people[1][0], 1),
        (PNG, 2),
    ]


def test_what_mxnet_may_not_decode_is_rejected(tmp_path):
    files = {"a/1.webp": encoded(pixels(0, 16), "WEBP"), "a/2.jpg": 1}
    data = open_dataset(folder_of(tmp_path / "images", files))
    export(data, "recordio", tmp_path / "out", ExportOptions(max_rejected=0.5))
    assert pq.read_table(tmp_path / "out" / "rejected.parquet")["reason"].to_pylist() == [
        "RecordIO takes jpg, png, bmp, not webp"
    ]
    export(data, "webdataset", tmp_path / "tar", SMALL)
    check(tmp_path / "tar", "webdataset", data)


# WebDataset and Parquet


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its files open
def test_the_webdataset_package_reads_it(images, tmp_path):
    data = open_dataset(images)
    export(data, "webdataset", tmp_path / "out", SMALL)
    assert sorted(path.name for path in tmp_path.glob("out/*.tar")) == ["000000.tar", "000001.tar", "000002.tar"]
    samples = webdataset.WebDataset(str(tmp_path / "out" / "{000000..000002}.tar"), shardshuffle=False)
    found = [
        (json.loads(one["json"])["face_id"], int(one["cls"]), one["jpg" if "jpg" in one else "png"]) for one in samples
    ]
    assert found == [
        (face["face_id"], ["al", "bo", "zoé"].index(face["identity"]), data.read(face["source"]))
        for face in data.faces.to_pylist()
    ]


def test_parquet_in_the_layout_of_hugging_face(images, tmp_path):
    export(open_dataset(images), "parquet", tmp_path / "out", SMALL)
    paths = sorted(path.name for path in tmp_path.glob("out/data/*"))
    assert paths == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    schema = pq.read_schema(tmp_path / "out" / "data" / paths[0])
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert json.loads(schema.metadata[b"huggingface"])["info"]["features"] == {
        "image": {"_type": "Image"},
        "label": {"dtype": "int64", "_type": "Value"},
        "identity": {"dtype": "string", "_type": "Value"},
        "face_id": {"dtype": "string", "_type": "Value"},
    }


# folders and lists


def test_a_folder_of_a_folder_is_the_same(images, tmp_path):
    export(open_dataset(images), "folder", tmp_path / "out", SMALL)
    files = bytes_of(tmp_path / "out")
    assert {name: data for name, data in files.items() if name not in ("export.parquet", "labels.csv")} == bytes_of(
        images
    )


@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_links(images, tmp_path, link):
    data = open_dataset(images)
    export(data, "folder", tmp_path / "out", ExportOptions(link=link))
    check(tmp_path / "out", "folder", data)
    for source in data.faces["source"].to_pylist():
        made = tmp_path / "out" / source
        assert made.samefile(images / source)
        assert made.is_symlink() is (link == "symbolic")


def test_a_folder_of_recordio(tmp_path):
    data = open_dataset(write_records(tmp_path / "in", insightface([[jpeg(0, 16)], [PNG, jpeg(1, 16)]])))
    export(data, "folder", tmp_path / "out", SMALL)
    check(tmp_path / "out", "folder", data)
    assert open_dataset(tmp_path / "out").faces["face_id"].to_pylist() == ["0/1.jpg", "1/2.png", "1/3.jpg"]
    assert refusal(export, data, "folder", tmp_path / "o", ExportOptions(link="hard")) == (
        "--link is for images in files, and these are in recordio; leave it out"
    )
    assert refusal(export, data, "list", tmp_path / "o", SMALL) == (
        "a list names images in a folder, and these are in recordio; export --to folder first"
    )


def test_a_list(images, tmp_path):
    export(open_dataset(images), "list", tmp_path / "out", SMALL)
    assert (tmp_path / "out" / "list.txt").read_text(encoding="utf-8") == (
        "al/a.jpg 0\nal/deep/a.jpg 0\nbo/1.jpeg 1\nbo/2.jpg 1\nbo/3.jpg 1\nzoé/1.png 2\nzoé/2 x.jpg 2\n"
    )


def test_a_path_that_no_line_can_hold(tmp_path):
    data = open_dataset(folder_of(tmp_path / "images", {"a\nb/1.jpg": 1, " c/1.jpg": 2, "d\re/1.jpg": 3}))
    export(data, "list", tmp_path / "out", ExportOptions(max_rejected=0.7))
    reasons = pq.read_table(tmp_path / "out" / "rejected.parquet")["reason"].to_pylist()
    assert reasons == ["its path has a line break, or begins or ends with a space"] * 2
    assert open_dataset(tmp_path / "out" / "list.txt", images=tmp_path / "images").faces["source"].to_pylist() == [
        "d\re/1.jpg"
    ]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ([("1", "../x")], "the identity '../x' cannot be a path"),
        ([("1", "..")], "the identity '..' cannot be a path"),
        ([("1", "/etc")], "the identity '/etc' cannot be a path"),
        ([("1", "")], "the identity '' cannot be a path"),
        ([("1", ".x")], "the identity '.x' cannot be a path"),
        ([("1", "x" * 256)], f"the identity '{'x' * 256}' cannot be a path"),
        ([("a/../../1", "a")], "the face 'a/../../1' cannot be a path"),
        ([("/etc/passwd", "a")], "the face '/etc/passwd' cannot be a path"),
        ([("x\0", "a")], "the face 'x\\x00' cannot be a path"),
        ([("1", "a"), ("a/1", "a")], "two faces would have the path 'a/1', or one in it"),
        ([("1", "a"), ("1.jpg", "a")], "two faces would have the path 'a/1.jpg', or one in it"),
        ([("1.jpg", "a"), ("1.jpg/2.jpg", "a")], "two faces would have the path 'a/1.jpg', or one in it"),
        ([("1", "export.parquet")], "the identity export.parquet is called as a file beside it would be"),
    ],
)
def test_names_that_no_folder_may_have(tmp_path, names, line):
    refused = refusal(export, InMemory(names).dataset, "folder", tmp_path / "out", SMALL)
    assert refused.startswith(line)
    assert refused.endswith("; export to another format")
    assert list(tmp_path.iterdir()) == []


# where it may be written


def test_what_is_in_the_way(images, tmp_path):
    data = open_dataset(images)
    for out in (images, images / "out", tmp_path):
        assert refusal(export, data, "recordio", out, SMALL) == (
            f"{out} and the images at {images} lie in each other; choose another --out"
        )
    (tmp_path / "file").write_text("mine")
    assert refusal(export, data, "recordio", tmp_path / "file", SMALL, overwrite=True) == (
        f"{tmp_path / 'file'} is a file; choose another --out, a folder to be made"
    )
    folder_of(tmp_path / "mine", {"x": b""})
    assert refusal(export, data, "recordio", tmp_path / "mine", SMALL, overwrite=True) == (
        f"{tmp_path / 'mine'} holds what is no export; choose another --out"
    )
    folder_of(tmp_path / "new.part", {"x": b""})  # an empty one is what a killed export leaves, at the least
    assert refusal(export, data, "recordio", tmp_path / "new", SMALL, overwrite=True) == (
        f"{tmp_path / 'new.part'} is in the way, where {tmp_path / 'new'} would be built; choose another --out"
    )


def test_an_export_is_replaced_only_if_asked(images, tmp_path):
    data, out = open_dataset(images), tmp_path / "out"
    export(data, "folder", out, SMALL)
    line = f"{out} exists; choose another --out, or add --overwrite to replace it"
    assert refusal(export, data, "recordio", out, SMALL) == line
    export(data, "recordio", out, SMALL, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "export.parquet", "labels.csv", "property", "train.idx", "train.rec"
    ]  # fmt: skip


def test_another_export_was_stopped(images, tmp_path):
    folder_of(images, {"al/a.jpg": b"x"})
    data, out = open_dataset(images), tmp_path / "out"
    refusal(export, data, "recordio", out, SMALL)
    assert refusal(export, data, "folder", out, ExportOptions(max_rejected=0.5)) == (
        f"{tmp_path / 'out.part'} is of another export to {out}, which was stopped; run that again, "
        "or add --overwrite to begin anew"
    )
    export(data, "folder", out, ExportOptions(max_rejected=0.5), overwrite=True)
    assert len(open_dataset(out)) == 6


@pytest.mark.parametrize("to", sorted(WRITERS))
def test_other_images_of_the_same_names(images, tmp_path, to):
    broken = folder_of(tmp_path / "broken", {**FILES, "zoé/1.png": b"x"})
    others = folder_of(tmp_path / "others", {name: 7 for name in FILES if name != "zoé/1.png"} | {"zoé/1.png": PNG})
    out = tmp_path / "out"
    refusal(export, open_dataset(broken), to, out, SMALL)  # too many are rejected, in the second batch
    assert refusal(export, open_dataset(others), to, out, SMALL) == (
        f"{tmp_path / 'out.part'} is of another export to {out}, which was stopped and had another image of al/a.jpg; "
        "run that again, or add --overwrite to begin anew"
    )
    shutil.copytree(tmp_path / "out.part", tmp_path / "copy.part")
    moved = ExportOptions(shard_faces=3, workers=1, max_rejected=0.5)
    assert export(open_dataset(images), to, tmp_path / "copy", moved).resumed == 5
    assert export(open_dataset(others), to, out, SMALL, overwrite=True).resumed == 0


# .bin


@pytest.fixture
def pairs(images, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("left,right,same,fold\nal/a.jpg,bo/2.jpg,0,2\nbo/2.jpg,bo/3.jpg,1,1\n")
    return path


def test_a_bin(images, pairs, tmp_path):
    out = tmp_path / "set.bin"
    result = CliRunner().invoke(main, ["export", str(images), "--to", "bin", "--pairs", str(pairs), "--out", str(out)])
    assert (result.exit_code, result.output) == (0, f"{out}: 2 pairs of 3 images, read back\n")
    bins, same = pickle.loads(out.read_bytes())  # as InsightFace's load_bin
    first, second, third = ((images / name).read_bytes() for name in ("bo/2.jpg", "bo/3.jpg", "al/a.jpg"))
    assert (bins, same) == ([first, second, third, first], [True, False])
    assert read_pairs(out) == (bins, same)
    protocol = open_protocol(out)
    assert (len(protocol), len(protocol.images)) == (2, 3)


def test_a_bin_needs_all_of_its_images(images, pairs, tmp_path):
    folder_of(images, {"bo/3.jpg": b"x"})
    protocol = open_protocol(pairs, images)
    names = list(protocol.images)
    assert refusal(write_bin, names, [True], protocol.read, tmp_path / "set.bin") == (
        "bo/3.jpg cannot be read: not an image: unknown image format; mend it, a .bin needs the images of all pairs"
    )
    assert not (tmp_path / "set.bin").exists()


# the command


def test_the_command(subset, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["export", str(subset), "--to", "recordio", "--out", str(out)])
    assert result.exit_code == 0
    assert result.output.startswith(f"{out}: 6 faces of 3 identities as recordio, read back, in ")


def test_the_command_says_what_was_rejected(images, tmp_path):
    folder_of(images, {"cy/1.jpg": b""})
    out = tmp_path / "out"
    words = ["export", str(images), "--to", "folder", "--out", str(out), "--max-rejected", "0.5"]
    result = CliRunner().invoke(main, words)
    assert result.output.splitlines()[1] == (
        f"1 face rejected, see {out / 'rejected.parquet'}; none left of 1 identity"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--to", "lmdb"],
            "no format lmdb to export to; there are recordio, folder, list, webdataset, parquet, and bin with --pairs",
        ),
        (["--to", "bin"], "--to bin and --pairs go together: a .bin holds pairs of images"),
        *(
            (
                ["--to", "bin", "--pairs", "p", *more],
                "--to bin takes --pairs, the folder DATASET and --overwrite; leave other options out",
            )
            for more in (["--images", "i"], ["--format", "zip"], ["--shuffle", "1"])
        ),
        (["--to", "list", "--pairs", "p"], "--to bin and --pairs go together: a .bin holds pairs of images"),
        (
            ["--to", "folder", "--shuffle", "1"],
            "--shuffle is for formats that are read in their order, and a folder has none; leave it out",
        ),
        (
            ["--to", "list", "--link", "hard"],
            "--link is for --to folder, and list holds the images themselves; leave it out",
        ),
        (["--to", "folder", "--link", "soft"], "--link must be one of copy, hard, symbolic; got soft"),
        (["--to", "list", "--shard-faces", "0"], "--shard-faces must be at least 1, got 0"),
        (["--to", "list", "--shuffle", "-1"], "--shuffle is a seed, a whole number from 0; got -1"),
        (
            ["--to", "list", "--max-rejected", "2"],
            "--max-rejected is the fraction of the faces that may be rejected, in [0, 1]; got 2.0",
        ),
    ],
)
def test_options_that_do_not_go_together(images, tmp_path, words, line):
    result = CliRunner().invoke(main, ["export", str(images), "--out", str(tmp_path / "out"), *words])
    assert (result.exit_code, result.output) == (1, f"Error: {line}\n")
