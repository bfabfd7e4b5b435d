"""Damaged files of every format: each reader refuses them in one line, or reads what is still there."""

import contextlib
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import lmdb_of, tar_of, zip_of
from geometry import random_faces, write_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import folder_of, jpeg
from records import insightface, write_records

from facecore.embeddings import Embeddings
from facecore.errors import FacecoreError
from facecore.importing import ImportOptions, import_vectors
from facecore.manifest import manifest_table, write_manifest
from facecore.provenance import Provenance
from facecore.readers import open_dataset
from facecore.verify.protocols import open_protocol

IMAGES = [jpeg(seed, 8) for seed in range(4)]
HURTFUL = (
    b"\xff\xff\xff\xff", bytes(4), b"\x7f", b"nan", b"1e999", b"-1", b"../", b"\n", b"\t", b'"', b"9" * 20, b"[", b"{",
    b"null", b"\xc3\x28", b"\0", b"\x80\x7f", b"inf",
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A small, sound file of every format that is read."""
    root = tmp_path_factory.mktemp("formats")
    write_records(root / "rec", insightface([IMAGES[:2], IMAGES[2:]]))
    tar_of(root / "a.tar", {"0.jpg": IMAGES[0], "0.cls": b"1", "1.jpg": IMAGES[1], "1.json": b'{"identity":"b"}'})
    zip_of(root / "a.zip", {"a/1.jpg": IMAGES[0], "b/2.jpg": IMAGES[1]})
    held = pa.array([{"bytes": image, "path": None} for image in IMAGES])
    pq.write_table(pa.table({"image": held, "label": [0, 0, 1, 1]}), root / "a.parquet")
    (root / "a.bin").write_bytes(pickle.dumps((IMAGES, [True, False]), 4))
    folder_of(root / "f", {"a/1.jpg": 1, "b/2.jpg": 2, "a/a_0001.jpg": 3, "a/a_0002.jpg": 4, "b/b_0002.jpg": 5})
    names = {"face_id": ["a/1.jpg", "b/2.jpg"], "identity": ["a", "b"], "source": ["a/1.jpg", "b/2.jpg"]}
    made = Provenance("test", facts={"root": str(root / "f"), "format": "folder"})
    write_manifest(manifest_table(names), root / "m.parquet", made)
    (root / "l.txt").write_text("f/a/1.jpg 1\nf/b/2.jpg 2\n")
    write_store(root / "store", [random_faces(0, [3, 2, 4])])
    np.save(root / "v.npy", np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    (root / "names.csv").write_text("identity,face_id\na,1\na,2\nb,3\nb,4\n")
    pq.write_table(pa.table({"identity": ["a", "b"], "v": [[1.0, 2.0], [3.0, 4.0]]}), root / "v.parquet")
    (root / "pairs.csv").write_text("left,right,same,fold\na/1.jpg,b/2.jpg,0,1\na/1.jpg,b/2.jpg,1,1\n")
    (root / "pairs.txt").write_text("1 1\na 1 2\na 1 b 2\n")
    return root


def every_face(path):
    dataset = open_dataset(path)
    for source in dataset.faces["source"].to_pylist():
        with contextlib.suppress(FacecoreError, OSError):
            dataset.read(source)


def whole_store(path):
    store = Embeddings.open(path.parents[1] if path.suffix != ".json" else path.parent)
    for number in range(len(store)):
        store.faces(number)
    assert sum(map(len, store)) == store.rows


def imported(path):
    out = path.with_name("imported")
    shutil.rmtree(out, ignore_errors=True)
    vectors = path.with_name("v.npy") if path.suffix == ".csv" else path
    labels = path.with_name("names.csv") if vectors.suffix == ".npy" else None
    import_vectors(vectors, out, ImportOptions(), labels=labels, threads=1)


def protocol(path):
    open_protocol(path, path.with_name("f"))


READ = {
    "rec/train.rec": lambda path: every_face(path.parent),
    "rec/train.idx": lambda path: every_face(path.parent),
    **dict.fromkeys(("a.tar", "a.zip", "a.parquet", "a.bin", "m.parquet", "l.txt"), every_face),
    "store/meta.json": whole_store,
    "store/img_emb/img_emb_00000.npy": whole_store,
    "store/metadata/metadata_00000.parquet": whole_store,
    **dict.fromkeys(("v.npy", "names.csv", "v.parquet"), imported),
    **dict.fromkeys(("pairs.csv", "pairs.txt"), protocol),
}


def changed(draw, good):
    """The bytes of a file after a few accidents, or quite other bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at, what = draw(st.integers(0, len(data))), draw(st.integers(0, 4))
        token = draw(st.sampled_from(HURTFUL))
        if what == 0:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif what == 1:
            del data[at : at + draw(st.sampled_from((1, 4, 16, 1000)))]
        elif what == 2:
            data[at:at] = token
        elif what == 3:
            data[at : at + len(token)] = token
        else:
            data[at:at] = data[max(0, at - 64) : at]
    return bytes(data)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", READ)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_in_one_line_or_read(name, root, data):
    path = root / name
    good = path.read_bytes()
    path.write_bytes(changed(data.draw, good))
    try:
        with contextlib.suppress(FacecoreError, OSError):  # an OSError is rendered by the command
            READ[name](path)
    finally:
        path.write_bytes(good)


# LMDB trusts the pages of a data.mdb, and at some ends the process, which nothing in Python can prevent

PAGE = 4096
LMDB_ENDS = {"SIGABRT", "SIGBUS", "SIGSEGV"}


@pytest.fixture(scope="module")
def reading():
    """How reading a data set ends, in a child of another process."""
    program = [sys.executable, str(Path(__file__).parent / "fuzz" / "children.py")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:

        def ended(path):
            running.stdin.write(f"{path}\n")
            running.stdin.flush()
            return running.stdout.readline().strip()

        yield ended
        running.stdin.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A data.mdb of pages full of keys, and a value of several pages."""
    values = {f"{who}/{n:03d}": IMAGES[0][:3] + bytes(20) for who in ("ann", "bob") for n in range(100)}
    return lmdb_of(tmp_path_factory.mktemp("lmdb") / "set", {**values, "bob/big": IMAGES[0] + bytes(9000)})


def overwritten(draw, good):
    """The bytes of a file of pages after accidents that move nothing, mostly at the head of a page."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = PAGE * draw(st.integers(0, len(good) // PAGE - 1)) + draw(st.integers(0, 40) | st.integers(0, PAGE - 1))
        token = draw(st.sampled_from(HURTFUL) | st.binary(min_size=1, max_size=4))[: len(good) - at]
        data[at : at + len(token)] = token
    return bytes(data)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_a_damaged_lmdb_is_refused_in_one_line_or_read_or_ends_the_process(database, reading, data):
    good = (database / "data.mdb").read_bytes()
    damaged = database.with_name("damaged")
    damaged.mkdir(exist_ok=True)
    (damaged / "data.mdb").write_bytes(data.draw(st.sampled_from((changed, overwritten, overwritten)))(data.draw, good))
    assert reading(damaged) in {"read", "refused"} | LMDB_ENDS


def test_a_sound_lmdb_is_read_there(database, reading):
    assert reading(database) == "read"


# What earlier runs found


@pytest.mark.parametrize("kind", [b"\xff\xff", b"\0\0"])
def test_pages_of_an_lmdb_that_are_none(database, tmp_path, kind):
    data = bytearray((database / "data.mdb").read_bytes())
    for at in range(2 * PAGE, len(data), PAGE):
        data[at + 10 : at + 12] = kind
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(FacecoreError) as caught:
        open_dataset(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'data.mdb'} is damaged (")


@pytest.mark.parametrize("head", [b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3,", b"\n\n(", b"\xff" * 60])
def test_a_head_of_an_array_that_python_cannot_parse(root, tmp_path, head):
    np.save(tmp_path / "v.npy", np.ones((4, 3), np.float32))
    whole = (tmp_path / "v.npy").read_bytes()
    (tmp_path / "v.npy").write_bytes(whole[:10] + head.ljust(len(whole[10:128]) - 1) + b"\n" + whole[128:])
    shutil.copy(root / "names.csv", tmp_path)
    with pytest.raises(FacecoreError, match=r"v\.npy cannot be read: "):
        import_vectors(tmp_path / "v.npy", tmp_path / "out", ImportOptions(), labels=tmp_path / "names.csv")


def test_names_in_a_store_that_are_no_text(tmp_path):
    write_store(tmp_path, [random_faces(0, [3])])
    path = Path(tmp_path / "metadata" / "metadata_00000.parquet")
    table = pq.read_table(path)
    bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"\xff", b"\xff\xfe", b"ok"], pa.binary()).buffers())
    pq.write_table(table.set_column(table.column_names.index("source"), "source", bad), path)
    with pytest.raises(FacecoreError) as caught:
        Embeddings.open(tmp_path).faces(0)
    assert str(caught.value) == (
        f"{path} is damaged; delete it and run facecore embed again, it redoes only that shard, "
        "or facecore import --overwrite if that wrote it"
    )
