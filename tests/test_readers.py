"""Every reader, folders and manifests; RecordIO is in test_recordio.py, archives in test_readers_archives.py."""

import hashlib
import logging
import os
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import lmdb_of, tar_of, zip_of
from pictures import folder_of, jpeg
from records import insightface, write_records

from facecore.errors import DataError, OptionError
from facecore.manifest import manifest_table, sort_faces, write_manifest
from facecore.provenance import Provenance
from facecore.readers import FORMATS, READERS, Dataset, open_dataset
from facecore.readers import folder as folder_module
from facecore.readers.dataset import sha256_of_faces
from facecore.readers.folder import Folder

SOUGHT = (
    "a folder of images, a RecordIO folder, a .bin, tar shards, Parquet, a .zip, an LMDB, a list (.txt, .lst) "
    "or a manifest (.parquet)"
)
FILES = {"bo/2.jpg": b"bo2", "bo/10.jpg": b"bo10", "al/x.png": b"alx", "zoé/1.webp": b"zoe"}


def refusal(do, *arguments, **options):
    with pytest.raises((DataError, OptionError)) as caught:
        do(*arguments, **options)
    return str(caught.value)


@pytest.fixture
def images(tmp_path):
    return folder_of(tmp_path / "images", FILES)


# every format


def as_folder(root):
    return folder_of(root, {f"{person}/{i}.jpg": person for person in range(3) for i in range(2)})


def as_recordio(root):
    return write_records(root, insightface([[b"image"] * 2] * 3))


def as_bin(root):
    path = root.with_suffix(".bin")
    path.write_bytes(pickle.dumps(([b"0", b"1", b"0", b"3", b"1", b"5", b"6", b"7"], [True] * 4)))
    return path


SIX = {f"{person}/{i}.jpg": jpeg(person, 16) for person in range(3) for i in range(2)}


def as_zip(root):
    return zip_of(root.with_suffix(".zip"), SIX)


def as_webdataset(root):
    root.mkdir()
    parts = {f"{i}.jpg": data for i, data in enumerate(SIX.values())}
    parts |= {f"{i}.cls": name[0].encode() for i, name in enumerate(SIX)}
    tar_of(root / "000.tar", {name: parts[name] for name in sorted(parts)})
    return root


def as_parquet(root):
    path = root.with_suffix(".parquet")
    pq.write_table(pa.table({"image": list(SIX.values()), "label": [int(name[0]) for name in SIX]}), path)
    return path


def as_lmdb(root):
    return lmdb_of(root, SIX)


MADE = {
    "folder": as_folder,
    "recordio": as_recordio,
    "bin": as_bin,
    "webdataset": as_webdataset,
    "parquet": as_parquet,
    "zip": as_zip,
    "lmdb": as_lmdb,
}
WHOSE = {"bin": ["0", "1", "3", "5", "6", "7"]}  # each its own; the others have three identities of two faces


def test_every_format_has_a_data_set_here():
    assert MADE.keys() == READERS.keys()
    assert FORMATS == ("auto", "manifest", "list", *READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_lists_what_it_reads(tmp_path, name):
    root = MADE[name](tmp_path / "root")
    data = open_dataset(root)
    assert (data.root, data.format, len(data)) == (root, name, 6)
    assert data.faces.schema == pa.schema([(column, pa.string()) for column in ("face_id", "identity", "source")])
    assert data.faces.equals(sort_faces(data.faces))
    assert data.faces["identity"].to_pylist() == WHOSE.get(name, ["0", "0", "1", "1", "2", "2"])
    reader = READERS[name](root)
    for source in data.faces["source"].to_pylist():
        assert data.read(source)
        assert reader.exists(source)
    assert not reader.exists("9/9.jpg")
    again = open_dataset(root, format=name)
    assert again.faces.equals(data.faces)
    assert again.sha256 == data.sha256


@pytest.mark.parametrize("name", READERS)
def test_a_manifest_of_every_format(tmp_path, name):
    data = open_dataset(MADE[name](tmp_path / "root"))
    made = Provenance("test", facts={"root": str(data.root), "format": data.format})
    write_manifest(data.faces.slice(1, 3), tmp_path / "some.parquet", made)
    some = open_dataset(tmp_path / "some.parquet")
    assert (some.root, some.format) == (data.root, data.format)
    assert some.faces.equals(data.faces.slice(1, 3))
    source = some.faces["source"][0].as_py()
    assert some.read(source) == data.read(source)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_root(tmp_path, name):
    gone = tmp_path / "gone"
    assert refusal(READERS[name], gone).startswith(f"no data set at {gone}; give a ")
    assert refusal(open_dataset, gone, format=name) == f"no data set at {gone}; give {SOUGHT}"
    assert refusal(open_dataset, gone) == f"no data set at {gone}, which is not there; give {SOUGHT}"


def test_an_unknown_format(tmp_path):
    assert refusal(open_dataset, tmp_path, format="hdf5") == (
        "no format hdf5; there are auto, manifest, list, folder, recordio, bin, webdataset, parquet, zip, lmdb"
    )


@pytest.mark.parametrize("name", READERS)
def test_what_was_recognised_is_said(tmp_path, caplog, name):
    root = MADE[name](tmp_path / "root")
    with caplog.at_level(logging.INFO, "facecore"):
        open_dataset(root)
    assert caplog.messages == [f"{root}: recognised as {name}"]


def test_what_facecore_does_not_know(tmp_path):
    (tmp_path / "faces.h5").write_bytes(b"")
    assert refusal(open_dataset, tmp_path / "faces.h5") == (
        f"no data set at {tmp_path / 'faces.h5'}, which is none that facecore knows by its suffix; give {SOUGHT}"
    )


def test_images_without_a_manifest(images):
    assert refusal(open_dataset, images, images=images) == (
        f"images is the root of the images of a manifest or list, but {images} is neither; leave it out"
    )


# InsightFace's .bin; that it is read safely is in test_verify_insightface.py


def test_a_bin_lists_an_image_once(tmp_path):
    root = as_bin(tmp_path / "set")
    data = open_dataset(root)
    assert [data.read(place) for place in ("0", "1", "3")] == [b"0", b"1", b"3"]
    assert refusal(data.read, "2") == f"no image 2 in {root}"
    root.write_bytes(pickle.dumps(([], [])))
    assert refusal(open_dataset, root) == f"no images in {root}; check that it is the whole file"


# folders


def test_folder(images):
    data = open_dataset(images)
    assert data.format == "folder"
    assert data.faces.to_pydict() == {
        "face_id": ["al/x.png", "bo/10.jpg", "bo/2.jpg", "zoé/1.webp"],
        "identity": ["al", "bo", "bo", "zoé"],
        "source": ["al/x.png", "bo/10.jpg", "bo/2.jpg", "zoé/1.webp"],
    }
    assert {source: data.read(source) for source in FILES} == FILES


def test_the_identity_is_the_first_folder(tmp_path):
    folder_of(tmp_path, {"001/frontal/01.jpg": b"", "001/profile/01.jpg": b"", "002/x.jpg": b"", "001/a.jpg": b""})
    assert open_dataset(tmp_path).faces.select(["face_id", "identity"]).to_pydict() == {
        "face_id": ["001/a.jpg", "001/frontal/01.jpg", "001/profile/01.jpg", "002/x.jpg"],
        "identity": ["001", "001", "001", "002"],
    }


def test_the_order_is_that_of_bytes_not_of_folders(tmp_path):
    names = [
        "a/b/1.jpg",
        "a/b.jpg",
        "a/b-1.jpg",
        "a/B.jpg",
        "a-b/1.jpg",
        "a b/1.jpg",
        "é/1.jpg",
        "\U0001f600/1.jpg",
        "\uff5a/1.jpg",
    ]
    faces = open_dataset(folder_of(tmp_path, dict.fromkeys(names, b""))).faces
    assert faces.equals(sort_faces(faces))
    rows = list(zip(faces["identity"].to_pylist(), faces["face_id"].to_pylist(), strict=True))
    assert rows == sorted(rows, key=lambda row: (row[0].encode(), row[1].encode()))


def test_what_is_no_image_is_counted(tmp_path, caplog):
    for suffix in ("JPG", "Jpeg", "png", "bmp", "WebP"):
        folder_of(tmp_path, {f"a/1.{suffix}": b""})
    folder_of(tmp_path, {"a/notes.txt": b"", "a/._1.jpg": b"", ".trash/1.jpg": b"", "list.csv": b"", "a/jpg": b""})
    with caplog.at_level(logging.INFO, "facecore"):
        assert len(open_dataset(tmp_path)) == 5
    assert caplog.messages[1:] == [f"{tmp_path}: ignored 5 names without an image suffix or with a dot in front"]


def test_images_outside_every_identity(images):
    folder_of(images, {"10.jpg": b"", "2.png": b""})
    assert refusal(open_dataset, images) == (
        f"2 images directly in {images}, first 10.jpg, and nothing says whose; move each into a folder of its identity"
    )


def test_an_empty_folder(tmp_path):
    folder_of(tmp_path, {"a/notes.txt": b"", "b/c/notes.txt": b""})
    assert refusal(open_dataset, tmp_path) == (
        f"no images in {tmp_path} (2 other files); "
        "they are sought as IDENTITY/image with one of .jpg, .jpeg, .png, .bmp, .webp"
    )


def test_a_file_is_no_folder(images):
    assert refusal(open_dataset, images / "al" / "x.png") == (
        f"no data set at {images / 'al' / 'x.png'}, which is none that facecore knows by its suffix; give {SOUGHT}"
    )
    assert refusal(open_dataset, images / "al" / "x.png", format="folder") == (
        f"no data set at {images / 'al' / 'x.png'}; give a folder that holds a folder of images for each identity"
    )


def test_chunks_do_not_show(images, monkeypatch):
    whole = open_dataset(images)
    monkeypatch.setattr(folder_module, "CHUNK", 1)
    cut = open_dataset(images)
    assert cut.faces["face_id"].num_chunks > whole.faces["face_id"].num_chunks
    assert cut.faces.equals(whole.faces)
    assert cut.sha256 == whole.sha256


def test_links_are_followed(images, tmp_path):
    (images / "cy").symlink_to(images / "bo", target_is_directory=True)
    (images / "al" / "y.png").symlink_to(images / "al" / "x.png")
    assert open_dataset(images).faces["face_id"].to_pylist() == [
        "al/x.png", "al/y.png", "bo/10.jpg", "bo/2.jpg", "cy/10.jpg", "cy/2.jpg", "zoé/1.webp"
    ]  # fmt: skip


def test_a_circle_of_links(images):
    (images / "bo" / "loop").symlink_to(images / "bo", target_is_directory=True)
    assert refusal(open_dataset, images) == (
        f"{images}/bo/loop is a link to a folder that its identity already holds; remove it"
    )


@pytest.mark.parametrize("name", ["loop", "1.jpg"])
def test_a_link_to_itself(images, name):
    (images / "bo" / name).symlink_to(name)
    assert refusal(open_dataset, images) == (
        f"{images}/bo/{name} is a link that cannot be followed: Too many levels of symbolic links; remove it"
    )


def test_a_name_that_is_not_utf8(images):
    try:
        open(os.path.join(os.fsencode(images), b"al", b"caf\xe9.jpg"), "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert refusal(open_dataset, images) == f"{images} holds a name that is not UTF-8, b'al/caf\\xe9.jpg'; rename it"


def test_a_folder_named_like_an_image(tmp_path):
    folder_of(tmp_path, {"a.jpg/b.png/1.jpg": b"x"})
    assert open_dataset(tmp_path).faces["face_id"].to_pylist() == ["a.jpg/b.png/1.jpg"]


def test_real_faces(real_data):
    data = open_dataset(real_data / "lfw" / "images")
    assert len(data) == 13233
    assert len(data.faces["identity"].unique()) == 5749
    assert data.faces.equals(sort_faces(data.faces))


# sha256


def by_hand(rows):
    digest = hashlib.sha256()
    for column in zip(*rows, strict=True):
        values = [value.encode() for value in column]
        lengths = b"".join(len(value).to_bytes(8, "little") for value in values)
        digest.update(hashlib.sha256(lengths).digest() + hashlib.sha256(b"".join(values)).digest())
    return digest.hexdigest()


ROWS = [("a/1", "a", "a/1"), ("a/é", "a", ""), ("b/1", "b", "x")]


def table_of(rows, kind=None):
    columns = zip(("face_id", "identity", "source"), zip(*rows, strict=True), strict=True)
    return pa.table({name: pa.array(values, kind or pa.string()) for name, values in columns})


def test_sha256_is_of_the_rows_alone():
    expected = by_hand(ROWS)
    assert sha256_of_faces(table_of(ROWS)) == expected
    assert sha256_of_faces(table_of(ROWS, pa.large_string())) == expected
    assert (
        sha256_of_faces(pa.concat_tables([table_of(ROWS[:1]), table_of(ROWS[:0] or ROWS).slice(3), table_of(ROWS[1:])]))
        == expected
    )
    assert sha256_of_faces(table_of([("0", "0", "0"), *ROWS, ("9", "9", "9")]).slice(1, 3)) == expected
    assert sha256_of_faces(table_of(ROWS).append_column("more", pa.array([1, 2, 3]))) == expected


def test_sha256_changes_with_every_value():
    others = [
        [("a/1", "a", "a/1"), ("a/é", "a", ""), ("b/1", "b", "y")],
        [("a/1a", "a", "a/1"), ("/é", "a", ""), ("b/1", "b", "x")],  # the same text, cut elsewhere
        [ROWS[0], ROWS[2], ROWS[1]],
        ROWS[:2],
    ]
    assert len({by_hand(rows) for rows in [ROWS, *others]}) == 5
    assert [sha256_of_faces(table_of(rows)) for rows in others] == [by_hand(rows) for rows in others]


def test_sha256_of_empty_strings():
    assert sha256_of_faces(table_of([("", "", "")])) == by_hand([("", "", "")])


# manifests


def test_manifest_with_images_given(images, tmp_path):
    path = tmp_path / "subset.parquet"
    rows = {"face_id": ["2", "1"], "identity": ["b", "b"], "source": ["bo/2.jpg", "bo/10.jpg"], "sparsity": [0.5, 0.25]}
    write_manifest(pa.table(rows), path, Provenance("test", facts={"root": "elsewhere", "format": "recordio"}))
    data = open_dataset(path, images=images)
    assert isinstance(data, Dataset)
    assert data.faces.to_pydict() == {
        "face_id": ["1", "2"],
        "identity": ["b", "b"],
        "source": ["bo/10.jpg", "bo/2.jpg"],
        "sparsity": [0.25, 0.5],
    }
    assert (data.root, data.format) == (images, "folder")
    assert data.read("bo/2.jpg") == b"bo2"


def test_large_strings_are_taken(images, tmp_path):
    path = tmp_path / "subset.parquet"
    data = open_dataset(images)
    wide = data.faces.cast(pa.schema([(name, pa.large_string()) for name in data.faces.column_names]))
    write_manifest(wide, path, Provenance("test"))
    assert open_dataset(path, images=images).faces.equals(data.faces)


def test_manifest_without_a_root(images, tmp_path):
    path = tmp_path / "subset.parquet"
    write_manifest(open_dataset(images).faces, path, Provenance("test"))
    assert refusal(open_dataset, path) == f"{path} does not say where its images are; add --images ROOT"


def test_manifest_whose_root_is_gone(images, tmp_path):
    path = tmp_path / "subset.parquet"
    made = Provenance("test", facts={"root": str(tmp_path / "gone"), "format": "folder"})
    write_manifest(open_dataset(images).faces, path, made)
    assert refusal(open_dataset, path) == (
        f"the images of {path} are not at {tmp_path / 'gone'}; add --images ROOT, where they are now"
    )


def test_manifest_of_another_data_set(images, tmp_path):
    path = tmp_path / "subset.parquet"
    names = [f"cy/{i:04d}.jpg" for i in range(5000)]
    faces = manifest_table({"face_id": names, "identity": ["cy"] * 5000, "source": names})
    write_manifest(faces, path, Provenance("test"))
    assert refusal(open_dataset, path, images=images) == (
        f"{path} is not a manifest of {images}: 1,000 of 1,000 faces sought are missing, "
        "first cy/0000.jpg; give --images the root it was made from"
    )


@pytest.mark.parametrize(("gone", "fits"), [(1, True), (2, False)])
def test_a_few_may_be_gone(tmp_path, gone, fits):
    names = [f"a/{i:03d}.jpg" for i in range(100)]
    root = folder_of(tmp_path / "images", dict.fromkeys(names[:-gone], b""))
    faces = manifest_table({"face_id": names, "identity": ["a"] * 100, "source": names})
    write_manifest(faces, tmp_path / "subset.parquet", Provenance("test"))
    if fits:
        assert len(open_dataset(tmp_path / "subset.parquet", images=root)) == 100
    else:
        assert refusal(open_dataset, tmp_path / "subset.parquet", images=root) == (
            f"{tmp_path / 'subset.parquet'} is not a manifest of {root}: 2 of 100 faces sought are missing, "
            "first a/098.jpg; bring them back, take them out of it, or give --images the root it was made from"
        )


@pytest.mark.parametrize("dropped", [True, False])
def test_the_dropped_faces_of_a_subset_are_told_from_the_kept(images, tmp_path, caplog, dropped):
    path = tmp_path / "taken.parquet"
    faces = open_dataset(images).faces
    more = {"rival": ["x"] * len(faces), "reason": ["trimmed"] * len(faces)} if dropped else {}
    for name, values in more.items():
        faces = faces.append_column(name, [values])
    write_manifest(faces, path, Provenance("test"))
    with caplog.at_level(logging.WARNING, "facecore"):
        assert len(open_dataset(path, images=images)) == len(faces)
    told = f"{path} lists the faces that were dropped, not those kept; these are in the manifest beside it"
    assert caplog.messages == [told] * dropped


def test_a_recordio_manifest_of_another_data_set(tmp_path):
    root = write_records(tmp_path / "rec", insightface([[b"x"] * 3]))
    faces = manifest_table({"face_id": ["1", "17"], "identity": ["0", "0"], "source": ["1", "17"]})
    write_manifest(faces, tmp_path / "subset.parquet", Provenance("test"))
    assert refusal(open_dataset, tmp_path / "subset.parquet", images=root) == (
        f"{tmp_path / 'subset.parquet'} is not a manifest of {root}: 1 of 2 faces sought are missing, "
        "first 17; bring them back, take them out of it, or give --images the root it was made from"
    )


def test_an_empty_manifest(images, tmp_path):
    path = tmp_path / "subset.parquet"
    write_manifest(open_dataset(images).faces.slice(0, 0), path, Provenance("test"))
    assert refusal(open_dataset, path, images=images) == f"{path} lists no faces; choose another manifest"


def test_no_manifest_there(tmp_path):
    assert refusal(open_dataset, tmp_path / "x.parquet") == (
        f"no manifest at {tmp_path / 'x.parquet'}; facecore nms writes one"
    )


def test_a_manifest_by_any_name(images, tmp_path):
    path = tmp_path / "subset.pq"
    write_manifest(open_dataset(images).faces, path, Provenance("test"))
    assert len(open_dataset(path, format="manifest", images=images)) == 4


def test_the_listing_may_be_repeated(tmp_path, caplog):
    folder = Folder(folder_of(tmp_path, {"a/1.jpg": b"", "a/x": b""}))
    with caplog.at_level(logging.INFO, "facecore"):
        assert folder.faces().equals(folder.faces())
    assert len(set(caplog.messages)) == 1
