"""WebDataset shards, zip archives, Parquet with images and text lists: what they list, and what is wrong with them."""

import json
import logging
import stat
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import tar_of, zip_of
from pictures import folder_of
from test_readers import refusal

from facecore.errors import DataError
from facecore.manifest import sort_faces, write_manifest
from facecore.provenance import Provenance
from facecore.readers import open_dataset
from facecore.readers import parquet as parquet_module
from facecore.readers.webdataset import WebDataset

TWO = {"0.jpg": b"image 0", "0.cls": b"7", "1.png": b"image 1", "1.cls": b"8"}


def rows(data):
    return [(face["face_id"], face["identity"], data.read(face["source"])) for face in data.faces.to_pylist()]


def warned(caplog, path, **options):
    """The rows of a data set, and what was said of it."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, "facecore"):
        return rows(open_dataset(path, **options)), caplog.messages


# WebDataset


def test_shards(tmp_path):
    tar_of(tmp_path / "b.tar", {"x/0.JPG": b"image 2", "x/0.json": b'{"label": 9}'})
    tar_of(tmp_path / "a.tar", TWO)
    wanted = [("a.tar/0.jpg", "7", b"image 0"), ("a.tar/1.png", "8", b"image 1"), ("b.tar/x/0.JPG", "9", b"image 2")]
    assert rows(open_dataset(tmp_path)) == wanted
    assert rows(open_dataset(tmp_path / "a.tar")) == wanted[:2]
    pattern = open_dataset(tmp_path / "*.tar", format="webdataset")
    assert rows(pattern) == wanted
    write_manifest(
        pattern.faces,
        tmp_path / "all.pq",
        Provenance("test", facts={"root": str(pattern.root), "format": pattern.format}),
    )
    assert rows(open_dataset(tmp_path / "all.pq", format="manifest")) == wanted


def test_a_suffix_in_upper_case(tmp_path):
    tar_of(tmp_path / "a.TAR", TWO)
    assert rows(open_dataset(tmp_path)) == [("a.TAR/0.jpg", "7", b"image 0"), ("a.TAR/1.png", "8", b"image 1")]


def test_what_a_sample_says_of_itself(tmp_path):
    says = [
        ({"cls": b" 3\n"}, "3"),
        ({"json": b'{"label": 4}'}, "4"),
        ({"cls": b"3", "json": b'{"label": 4}'}, "3"),
        ({"cls": b"3", "json": '{"identity": "Zoë\\n", "face_id": "q"}'.encode()}, "Zoë\n"),
    ]
    files = [(f"{i}.{kind}", data) for i, (parts, _) in enumerate(says) for kind, data in {**parts, "jpg": b""}.items()]
    found = {face_id: identity for face_id, identity, _ in rows(open_dataset(tar_of(tmp_path / "a.tar", files)))}
    assert found == {"a.tar/0.jpg": "3", "a.tar/1.jpg": "4", "a.tar/2.jpg": "3", "q": "Zoë\n"}


def test_long_names(tmp_path):
    name = f"{'é' * 90}/{'x' * 120}"
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tar_of(tmp_path / f"{kind}.tar", {f"{name}.jpg": b"image", f"{name}.cls": b"7"}, kind)
        assert rows(open_dataset(path)) == [(f"{path.name}/{name}.jpg", "7", b"image")]
        (source,) = open_dataset(path).faces["source"].to_pylist()
        assert WebDataset(path).exists(source)


def link(name, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


BAD = {
    "are links or devices": [(link("2.jpg"), b""), ("2.cls", b"7")],
    "would lie outside the archive": [("../2.jpg", b"x"), ("../2.cls", b"7")],
    "have no image": [("2.cls", b"7")],
    "do not say whose they are in a .cls or .json": [("2.jpg", b"x")],
    "have a .json that is not one": [("2.jpg", b"x"), ("2.json", b"{")],
    "have a .json that is not an object": [("2.jpg", b"x"), ("2.json", b"[1]")],
    "have a .cls that is not one": [("2.jpg", b"x"), ("2.cls", b"\xff")],
    "repeat a name": [("0.jpg", b"x"), ("0.cls", b"7")],
    "have names that are not UTF-8": [("\udcff.jpg", b"x")],
}


@pytest.mark.parametrize("why", BAD)
def test_a_bad_sample_is_left_out_with_a_warning(tmp_path, caplog, why):
    path = tmp_path / "a.tar"
    with tarfile.open(tar_of(path, [*TWO.items(), *BAD[why]], tarfile.GNU_FORMAT), errors="surrogateescape"):
        pass
    found, (line, *_) = warned(caplog, path)
    assert found == [("a.tar/0.jpg", "7", b"image 0"), ("a.tar/1.png", "8", b"image 1")]
    assert line.startswith(f"{path}: left out: ")
    assert f" {why}, first 'a.tar/" in line


@pytest.mark.parametrize(
    "value", [b'{"identity": {}}', b'{"identity": true}', b'{"label": 1.5}', b'{"label": ""}', b"{}"]
)
def test_an_identity_of_another_type(tmp_path, caplog, value):
    found, (line,) = warned(caplog, tar_of(tmp_path / "a.tar", [*TWO.items(), ("2.jpg", b""), ("2.json", value)]))
    assert len(found) == 2
    assert line.endswith("left out: 1 do not say whose they are in a .cls or .json, first 'a.tar/2.jpg'")


def test_a_face_id_twice(tmp_path):
    parts = [
        (f"{i}.{kind}", data)
        for i in range(2)
        for kind, data in (("jpg", b""), ("json", b'{"identity":1,"face_id":"q"}'))
    ]
    path = tar_of(tmp_path / "a.tar", parts)
    assert refusal(open_dataset, path) == f"{path}: 1 faces repeat the face_id of another; each face needs its own"


@pytest.mark.parametrize("left", [0, 100, 512, 700, 1024, 3000, 4096])
def test_a_tar_cut_short(tmp_path, left):
    path = tar_of(tmp_path / "a.tar", TWO)
    path.write_bytes(path.read_bytes()[:left])
    line = refusal(open_dataset, path)
    assert line.startswith(
        (f"{path} is not a whole, uncompressed tar file: ", f"{path} is damaged or was cut short at ")
    )
    assert line.endswith(("copy or unpack it again", "copy it again"))
    assert "\n" not in line


def test_damage_in_the_middle_is_not_the_end(tmp_path):
    path = tar_of(tmp_path / "a.tar", TWO)
    data = bytearray(path.read_bytes())
    data[1024 + 150] ^= 1  # in the checksum of the second header
    path.write_bytes(data)
    assert refusal(open_dataset, path) == f"{path} is damaged or was cut short at byte 1,024; copy it again"


def test_a_compressed_tar(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    assert "is not a whole, uncompressed tar file" in refusal(open_dataset, path)


def test_no_faces_in_a_tar(tmp_path):
    path = tar_of(tmp_path / "a.tar", {"0.jpg": b""})
    assert refusal(open_dataset, path) == (
        f"no images in {path} (left out: 1 do not say whose they are in a .cls or .json, first 'a.tar/0.jpg'); "
        "a face is an image (.jpg, .jpeg, .png, .bmp, .webp) and a .cls or .json of the same name"
    )


@pytest.mark.parametrize(
    "source", ["a.tar#0+7", "a.tar#99999999+7", "b.tar#512+7", "../a.tar#512+7", "a.tar", "a.tar#1+2+3"]
)
def test_a_source_that_is_none(tmp_path, source):
    reader = WebDataset(tar_of(tmp_path / "a.tar", TWO).parent)
    assert not reader.exists(source)


# zip


def test_zip(tmp_path):
    files = {"bo/1.jpg": b"b1", "al/deep/2.png": b"a2", "al/notes.txt": b"", "bo/.hidden.jpg": b"", ".x/1.jpg": b""}
    assert rows(open_dataset(zip_of(tmp_path / "a.zip", files))) == [
        ("al/deep/2.png", "al", b"a2"),
        ("bo/1.jpg", "bo", b"b1"),
    ]


def test_a_zip_with_everything_in_one_folder(tmp_path):
    files = {"set/bo/1.jpg": b"b1", "set/al/1.jpg": b"a1", "__MACOSX/set/al/1.jpg": b"", "set/readme.txt": b""}
    assert rows(open_dataset(zip_of(tmp_path / "a.zip", files))) == [
        ("set/al/1.jpg", "al", b"a1"),
        ("set/bo/1.jpg", "bo", b"b1"),
    ]
    assert rows(open_dataset(zip_of(tmp_path / "b.zip", {"al/1.jpg": b"", "al/2/3.jpg": b""})))[0][1] == "al"


def test_names_in_a_zip_that_are_refused(tmp_path, caplog):
    linked = zipfile.ZipInfo("bo/9.jpg")
    linked.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = zip_of(tmp_path / "a.zip", {"bo/1.jpg": b"b1", "../1.jpg": b"", "/etc/1.jpg": b"", linked: b"/etc/passwd"})
    found, messages = warned(caplog, path)
    assert found == [("bo/1.jpg", "bo", b"b1")]
    assert messages == [
        f"{path}: left out: 2 would lie outside the archive, first '../1.jpg'; 1 are links, first 'bo/9.jpg'"
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip(tmp_path, caplog):
    path = zip_of(tmp_path / "a.zip", {"bo/1.jpg": b"old"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("bo/1.jpg", b"new")
    found, messages = warned(caplog, path)
    assert found == [("bo/1.jpg", "bo", b"new")]
    assert messages == [f"{path}: left out: 1 repeat a name, whose last file is taken, first 'bo/1.jpg'"]


def test_a_zip_that_is_amiss(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"bo/1.jpg": b"image" * 99, "1.jpg": b""}, zipfile.ZIP_STORED)
    assert refusal(open_dataset, path) == (
        f"1 image directly in {path}, first 1.jpg, and nothing says whose; pack each in a folder of its identity"
    )
    whole = zip_of(path, {"bo/1.jpg": b"image" * 99}, zipfile.ZIP_STORED).read_bytes()
    path.write_bytes(whole[:-30])
    assert refusal(open_dataset, path) == f"{path} is not a whole zip archive: File is not a zip file; copy it again"
    path.write_bytes(whole.replace(b"imageimage", b"imageIMAGE", 1))
    line = refusal(open_dataset(path).read, "bo/1.jpg")
    assert line == "damaged, or packed in an unusual way: Bad CRC-32 for file 'bo/1.jpg'"
    assert refusal(open_dataset(path).read, "x") == f"no image x in {path}"


def test_threads_read_a_zip(tmp_path):
    data = open_dataset(zip_of(tmp_path / "a.zip", {f"a/{i}.jpg": str(i).encode() * 999 for i in range(50)}))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(data.read, [f"a/{i}.jpg" for i in range(50)] * 4))
    assert found == [str(i).encode() * 999 for i in range(50)] * 4


# Parquet

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["al", "bo"], "_type": "ClassLabel"}}
HUGGING_FACE = json.dumps({"info": {"features": FEATURES}})


def parquet(path, columns, metadata=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)
    return path


def structs(*images):
    return pa.array([{"bytes": image, "path": "x.jpg"} for image in images], STRUCT)


def test_hugging_face_layout(tmp_path):
    for number in range(2):
        path = tmp_path / "data" / f"train-{number:05d}-of-00002.parquet"
        images = structs(*(f"image {number} {i}".encode() for i in range(3)))
        parquet(path, {"image": images, "label": [0, 1, 1]}, {"huggingface": HUGGING_FACE}, row_group_size=2)
    data = open_dataset(tmp_path)
    assert data.format == "parquet"
    names = [f"data/train-0000{number}-of-00002.parquet" for number in range(2)]
    wanted = [(names[n], i, ("al", "bo", "bo")[i]) for n in range(2) for i in range(3)]
    assert sorted(rows(data)) == [
        (f"{name}/{i}", identity, f"image {name[15]} {i}".encode()) for name, i, identity in wanted
    ]
    assert data.faces.equals(sort_faces(data.faces))


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (pa.array([b"0", b"1"], pa.binary()), pa.array([3, 4], pa.uint8())),
        (pa.array([b"0", b"1"], pa.large_binary()), pa.array(["3", "4"], pa.large_string())),
        (pa.array([b"0", b"1"]).cast("binary_view"), pa.array(["3", "4"]).cast("string_view")),
        (pa.array([b"0", b"1"], pa.binary()).dictionary_encode(), pa.array(["3", "4"]).dictionary_encode()),
        (structs(b"0", b"1"), pa.array([3, 4], pa.int64()).dictionary_encode()),
    ],
)
@pytest.mark.parametrize("names", [("image", "label"), ("jpeg", "identity"), ("bytes", "person_id")])
def test_other_columns(tmp_path, image, label, names):
    path = parquet(tmp_path / "a.parquet", {names[0]: image, names[1]: label})
    assert rows(open_dataset(path)) == [("a.parquet/0", "3", b"0"), ("a.parquet/1", "4", b"1")]


@pytest.mark.parametrize("folder", ["", "data"])
def test_parquet_by_a_suffix_in_upper_case(tmp_path, folder):
    parquet(tmp_path / folder / "a.PARQUET", {"image": [b"0"], "label": [3]})
    found = open_dataset(tmp_path)
    assert (found.format, [identity for _, identity, _ in rows(found)]) == ("parquet", ["3"])


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary", "int64"])
def test_names_of_any_type(tmp_path, kind):
    names = pa.array(["7", "8"])
    names = names.dictionary_encode() if kind == "dictionary" else names.cast(kind)
    path = parquet(tmp_path / "a.parquet", {"image": [b"0", b"1"], "identity": names, "face_id": names})
    assert rows(open_dataset(path)) == [("7", "7", b"0"), ("8", "8", b"1")]


def test_identity_goes_before_label_and_image_before_others(tmp_path):
    columns = {"label": [0], "identity": ["al"], "mask": [b"m"], "image": [b"x"], "face_id": ["q"]}
    assert rows(open_dataset(parquet(tmp_path / "a.parquet", columns))) == [("q", "al", b"x")]


def test_nulls(tmp_path, caplog):
    images = pa.array([{"bytes": b"0"}, None, {"bytes": None, "path": "x.jpg"}, {"bytes": b"3"}], STRUCT)
    path = parquet(tmp_path / "a.parquet", {"image": images, "label": [0, 0, 0, None]})
    data = open_dataset(path)
    assert caplog.messages == [f"{path}: left out: 1 have no label, first 'a.parquet#3'"]
    assert data.read("a.parquet#0") == b"0"
    assert refusal(data.read, "a.parquet#1") == "no image: null"
    assert refusal(data.read, "a.parquet#2") == "only a path and no image: x.jpg"
    assert refusal(data.read, "a.parquet#4") == f"no image a.parquet#4 in {path}"


def test_an_empty_identity_is_none(tmp_path, caplog):
    path = parquet(tmp_path / "a.parquet", {"image": [b"0", b"1", b"2"], "identity": ["al", "", None]})
    found, messages = warned(caplog, path)
    assert found == [("a.parquet/0", "al", b"0")]
    assert messages == [f"{path}: left out: 2 have no identity, first 'a.parquet#1'"]


def test_a_class_without_a_name(tmp_path, caplog):
    columns = {"image": structs(b"0", b"1", b"2"), "label": [1, -1, 2]}
    path = parquet(tmp_path / "a.parquet", columns, {"huggingface": HUGGING_FACE})
    found, messages = warned(caplog, path)
    assert found == [("a.parquet/0", "bo", b"0")]
    assert messages == [f"{path}: left out: 2 have no label, first 'a.parquet#1'"]


def test_parquet_that_is_amiss(tmp_path):
    path = tmp_path / "a.parquet"
    parquet(path, {"image": [b"x"], "age": [3]})
    assert refusal(open_dataset, path) == (
        f"{path} has no column that says whose each image is, identity, label or the like, only image, age; rename one"
    )
    parquet(path, {"image": [b"x"], "label": [0.5]})
    assert refusal(open_dataset, path) == (
        f"{path}: column label is double, and an identity is a number or a string; cast it"
    )
    parquet(path, {"image": [b"x"], "label": [1], "face_id": [0.5]})
    assert refusal(open_dataset, path) == (
        f"{path}: column face_id is double, and a face_id is a number or a string; cast it"
    )
    parquet(path, {"one": [b"x"], "two": [b"x"], "label": [1]})
    assert refusal(open_dataset, path) == (
        f"{path} has 2 columns of bytes, one, two; name the one with the encoded images image"
    )
    parquet(path, {"image": [b"x", b"y"], "label": [1, 2], "face_id": ["q", "q"]})
    assert refusal(open_dataset, path) == f"{path}: 1 faces repeat the face_id of another; each face needs its own"
    parquet(path, {"image": [b"x"], "label": pa.array([None], pa.int64())})
    assert refusal(open_dataset, path).startswith(f"no images in {path}; its Parquet files have no rows with")
    path.write_bytes(path.read_bytes()[:-9])
    assert refusal(open_dataset, path, format="parquet") == f"{path} is not a whole Parquet file; copy it again"
    assert refusal(open_dataset, tmp_path, format="parquet") == (
        f"no Parquet files with a column of images in {tmp_path} or {tmp_path / 'data'}; give their folder"
    )


def test_damaged_pages_are_named_when_read(tmp_path):
    path = parquet(
        tmp_path / "a.parquet", {"image": [b"some image" * 50], "label": [1]}, compression="zstd", use_dictionary=False
    )
    data = open_dataset(path)
    path.write_bytes(b"PAR1" + bytes(60) + path.read_bytes()[64:])
    assert refusal(data.read, "a.parquet#0") == f"row group 0 of {path} cannot be read; copy the file again"


def test_a_manifest_beside_images_is_not_taken_for_them(tmp_path):
    folder_of(tmp_path, {"al/1.jpg": b""})
    write_manifest(open_dataset(tmp_path).faces, tmp_path / "manifest.parquet", Provenance("test"))
    assert open_dataset(tmp_path).format == "folder"


def test_few_row_groups_are_held(tmp_path, monkeypatch):
    path = parquet(
        tmp_path / "a.parquet", {"image": [bytes([i]) * 100 for i in range(40)], "label": [0] * 40}, row_group_size=4
    )
    monkeypatch.setattr(parquet_module, "HELD", 1000)
    reader = parquet_module.Parquet(path)
    for row in [*range(40), *range(39, -1, -1)]:
        assert reader.read(f"a.parquet#{row}") == bytes([row]) * 100
    assert len(reader._held) == 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(reader.read, [f"a.parquet#{row}" for row in range(40)] * 5))
    assert found == [bytes([row]) * 100 for row in range(40)] * 5


# lists


@pytest.fixture
def images(tmp_path):
    return folder_of(tmp_path / "images", {"al/a b.jpg": b"ab", "bo/1.jpg": b"b1", "2.jpg": b"2"})


def listed(path, text):
    path.write_bytes(text.encode())
    return path


def test_a_list(images):
    path = listed(images / "train.txt", "\ufeffbo/1.jpg 1\r\nal/a b.jpg\t0\n\n./2.jpg  Zoë\n")
    data = open_dataset(path)
    assert (data.root, data.format) == (images, "folder")
    assert rows(data) == [("al/a b.jpg", "0", b"ab"), ("bo/1.jpg", "1", b"b1"), ("2.jpg", "Zoë", b"2")]


def test_a_list_elsewhere(images, tmp_path):
    path = listed(tmp_path / "train.lst", f"{images}/bo/1.jpg 1\nal/a b.jpg 0\n")
    assert rows(open_dataset(path, images=images)) == [("al/a b.jpg", "0", b"ab"), ("bo/1.jpg", "1", b"b1")]
    assert refusal(open_dataset, path) == (
        f"{path} is not a manifest of {tmp_path}: 1 of 2 faces sought are missing, "
        "first al/a b.jpg; bring them back, take them out of it, or give --images the root it was made from"
    )


def test_a_list_of_absolute_paths_and_a_root_by_another_name(images, tmp_path, monkeypatch):
    path = listed(tmp_path / "train.txt", f"{images}/bo/1.jpg 1\n{images}/al/a b.jpg 0\n")
    (tmp_path / "link").symlink_to(images)
    monkeypatch.chdir(images)
    for root in (tmp_path / "link", Path("../images"), Path()):
        assert rows(open_dataset(path, images=root)) == [("al/a b.jpg", "0", b"ab"), ("bo/1.jpg", "1", b"b1")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bo/1.jpg 1\nbo//1.jpg 2\nbo/./1.jpg 3", ": 2 faces repeat the face_id of another; each face needs its own"),
        ("a.jpg", ", line 1: expected an image's path, a space and a label; mend it"),
        ("bo/1.jpg 1\n../x.jpg 2", ", line 2: '../x.jpg' does not lie below {root}; say with --images what does"),
        ("/x.jpg 2", ", line 1: '/x.jpg' does not lie below {root}; say with --images what does"),
        ("bo/1.jpg 1\nbo/1.jpg 2", ": 1 faces repeat the face_id of another; each face needs its own"),
    ],
)
def test_a_list_that_is_amiss(images, text, line):
    path = listed(images / "train.txt", text)
    assert refusal(open_dataset, path) == f"{path}{line.format(root=images)}"


def test_what_is_no_list(images):
    path = images / "train.txt"
    assert refusal(open_dataset, path) == (
        f"no list at {path}; give a file of lines that are an image's path, a space and a label"
    )
    path.write_bytes(b"\n")
    assert refusal(open_dataset, path) == (f"no images in {path}; its lines are an image's path, a space and a label")
    path.write_bytes(b"\xff\xfe")
    assert refusal(open_dataset, path) == f"{path} is not UTF-8 text; save the list as such"


# damage


@pytest.mark.parametrize("kind", ["webdataset", "parquet", "zip"])
def test_whatever_is_damaged_is_told_in_one_line(tmp_path, kind):
    path = tmp_path / "faces"
    if kind == "webdataset":
        tar_of(path, TWO)
    elif kind == "zip":
        zip_of(path, {f"{i}/é.jpg": b"image" * 20 for i in range(3)})
    else:
        parquet(path, {"image": [b"image" * 20] * 20, "identity": ["é"] * 20}, row_group_size=5)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
        for place in rng.integers(max(1, len(data)), size=rng.integers(1, 20)):
            data[place : place + 1] = rng.bytes(1)
        path.write_bytes(data)
        try:
            found = open_dataset(path, format=kind)
        except DataError as error:
            lines = [str(error)]
        else:
            lines = [line for source in found.faces["source"].to_pylist() if (line := told(found.read, source))]
        assert not any("\n" in line for line in lines)


def told(read, source):
    """What is said of an image that cannot be read."""
    try:
        read(source)
    except DataError as error:
        return str(error)
    return ""
