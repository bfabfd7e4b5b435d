"""Local paths and addresses: what text means, reading and writing on fsspec's memory, and the same bytes as on disk."""

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import tar_of
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from pictures import folder_of
from test_models_onnx import written
from test_quantize import network
from test_readers import MADE, refusal
from test_readers_archives import rows
from upath import UPath

from facecore.cli import main
from facecore.data import SubsetDataset
from facecore.embeddings import Embeddings
from facecore.errors import OptionError, StorageError
from facecore.manifest import write_manifest
from facecore.provenance import Provenance, refuse_to_overwrite, sha256_of_file, write_text_whole, written_whole
from facecore.readers import READERS, open_dataset
from facecore.storage import (
    Records,
    check_reached,
    files_below,
    for_arrow,
    is_remote,
    located,
    matching,
    opened,
    read_range,
    read_whole,
)

MEMORY = fsspec.filesystem("memory")
REMOTE = [name for name in READERS if name != "lmdb"]


@pytest.fixture
def bucket():
    """An address that nothing lies at, yet."""
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]
    return located("memory://bucket")


@pytest.fixture
def broken(bucket, monkeypatch):
    """Storage that does not answer."""

    def fail(*_, **__):
        raise RuntimeError("Unable to locate credentials\nsecond line")

    for name in ("exists", "isfile", "isdir", "info", "cat_file", "find", "open", "put_file", "size", "glob"):
        monkeypatch.setattr(type(MEMORY), name, fail)
    return bucket


def lifted(local, remote):
    """What lies at a local path, at an address."""
    MEMORY.put(str(local), remote.path, recursive=True)
    return remote


# Paths


@pytest.mark.parametrize("text", ["faces", "/data/faces", "a:b//c", "C:\\faces", "", "s3:/x", "://x"])
def test_a_local_path(text):
    assert located(text) == Path(text)
    assert not is_remote(located(text))


@pytest.mark.parametrize("text", ["file:///data/faces", "local:///data/faces"])
def test_an_address_on_disk(text):
    assert located(text) == Path("/data/faces")


@pytest.mark.parametrize("text", ["memory://b/faces", "memory://b/é #?%20[1].parquet", "memory://b"])
def test_an_address_says_itself(text):
    assert is_remote(located(text))
    assert str(located(text)) == located(text).as_posix() == text
    assert located(located(text)) == located(text)


def test_a_package_that_is_missing(monkeypatch):
    with pytest.raises(OptionError) as caught:
        located("s3://bucket/faces")
    assert str(caught.value) == "s3://bucket/faces cannot be reached without the package s3fs; pip install s3fs"
    for package in ("upath", "fsspec"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(OptionError) as caught:
                located("memory://faces")
            assert str(caught.value) == "memory://faces is remote; to reach it, pip install 'facecore[remote]'"


def test_no_such_storage():
    assert refusal(located, "floppy://a/b") == (
        "floppy://a/b: no storage is known as floppy://; there are s3, gs, az, hf and others"
    )


# Reading


@pytest.fixture(params=["local", "remote"])
def place(request, tmp_path):
    """A folder to read from, on disk and in memory."""
    return request.getfixturevalue("bucket") if request.param == "remote" else tmp_path


def test_bytes_at_a_place(place):
    path = place / "file"
    path.write_bytes(data := bytes(range(256)) * 1000)
    assert read_whole(path) == data
    records = Records(path)
    assert records.size == len(data)
    for start, length in ((0, 4), (5, 0), (1000, 100_000), (200_000, 100_000), (255_999, 9), (256_000, 1), (10**9, 1)):
        assert read_range(path, start, length) == data[start : start + length]
        assert records.read(start, length) == data[start : start + length]


def test_threads_read_at_once(place):
    (place / "file").write_bytes(data := np.random.default_rng(0).bytes(1 << 20))
    records, starts = Records(place / "file"), np.random.default_rng(1).integers(0, 1 << 20, 500).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda at: records.read(at, 100), starts)) == [data[at : at + 100] for at in starts]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_a_file_read_like_a_local_one(place, block):
    (place / "file").write_bytes(data := bytes(range(100)))
    with opened(place / "file", block=block) as stream:
        assert stream.read(10) == data[:10]
        assert stream.seek(-5, os.SEEK_END) == 95
        assert stream.read() == data[95:]
        assert stream.read() == b""
        stream.seek(20)
        assert (stream.read(1), stream.tell()) == (data[20:21], 21)
        assert stream.seek(200) == 200
        assert stream.read(5) == b""


def test_arrow_reads_it(place):
    table = pa.table({"a": list(range(1000))})
    (place / "empty").write_bytes(b"")
    with pa.BufferOutputStream() as stream:
        pq.write_table(table, stream)
        (place / "a.parquet").write_bytes(stream.getvalue())
    assert pq.read_table(for_arrow(place / "a.parquet")).equals(table)


def test_what_is_missing_is_said_as_of_a_local_file(place):
    for read in (read_whole, lambda path: read_range(path, 0, 1), opened, sha256_of_file):
        with pytest.raises(FileNotFoundError) as caught:
            read(place / "gone")
        assert str(caught.value) == f"[Errno 2] No such file or directory: '{place / 'gone'}'"


def test_wildcards(place):
    folder_of(place, {"a/1.tar": b"", "a/2.tar": b"", "b/1.tar": b"", "a/3.txt": b""})
    assert matching(place / "a" / "*.tar") == [place / "a" / "1.tar", place / "a" / "2.tar"]
    assert matching(place / "*" / "1.tar") == [place / "a" / "1.tar", place / "b" / "1.tar"]
    assert matching(place / "c" / "*.tar") == []


@pytest.mark.parametrize("do", [check_reached, read_whole, opened, files_below, open_dataset, Embeddings.open])
def test_storage_that_does_not_answer(broken, do):
    with pytest.raises(StorageError) as caught:
        do(broken / "faces")
    assert str(caught.value) == (
        "memory://bucket/faces cannot be reached: Unable to locate credentials; "
        "check the address, the credentials and the network"
    )


# Writing


def test_written_whole(place):
    for text in ("old", "new"):
        write_text_whole(place / "a" / "b.txt", text)
        assert (place / "a" / "b.txt").read_text() == text
    assert [path.name for path in (place / "a").iterdir()] == ["b.txt"]
    assert sha256_of_file(place / "a" / "b.txt") == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(place, old, error):
    if old is not None:
        (place / "b.txt").write_bytes(old)

    def fail():
        with written_whole(place / "b.txt") as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert (place / "b.txt").exists() == (old is not None)
    assert old is None or (place / "b.txt").read_bytes() == old
    assert [path.name for path in matching(place / "*")] == (["b.txt"] if old else [])


def test_a_commit_is_one_put_of_the_final_key(bucket, monkeypatch):
    calls = []

    def noted(name):
        done = getattr(type(MEMORY), name)

        def note(self, *paths, **options):
            calls.append((name, paths[-1]))
            return done(self, *paths, **options)

        return note

    for name in ("put_file", "pipe_file", "mv", "cp_file", "rm_file"):
        monkeypatch.setattr(type(MEMORY), name, noted(name))
    write_text_whole(bucket / "a" / "b.txt", "text")
    assert calls == [("put_file", "/bucket/a/b.txt")]


def test_refuse_to_overwrite(bucket):
    there = bucket / "there"
    refuse_to_overwrite(there, overwrite=False)
    there.write_bytes(b"")
    refuse_to_overwrite(there, overwrite=True)
    assert refusal(refuse_to_overwrite, there, overwrite=False) == (
        "memory://bucket/there exists; choose another --out, or add --overwrite to replace it"
    )
    for inputs in (there, bucket):
        assert "from which it would be made" in refusal(refuse_to_overwrite, there, overwrite=True, inputs=[inputs])


# Data sets


@pytest.mark.parametrize("name", REMOTE)
def test_a_data_set_is_the_same_there(bucket, tmp_path, name, caplog):
    here = open_dataset(MADE[name](tmp_path / "root"))
    there = open_dataset(lifted(here.root, bucket / here.root.name))
    assert (str(there.root), there.format) == (f"memory://bucket/{here.root.name}", name)
    assert there.faces.equals(here.faces)
    assert there.sha256 == here.sha256
    sources = here.faces["source"].to_pylist()
    assert [there.read(source) for source in sources] == [here.read(source) for source in sources]
    reader = READERS[name](there.root)
    assert all(map(reader.exists, sources))
    assert not reader.exists("9/9.jpg")
    assert open_dataset(located(f"file://{here.root}")).root == here.root


@pytest.mark.parametrize("name", REMOTE)
def test_a_manifest_finds_it_there(bucket, tmp_path, name):
    made = MADE[name](tmp_path / "root")
    there = open_dataset(lifted(made, bucket / made.name))
    for path in (tmp_path / "some.parquet", bucket / "some.parquet"):
        facts = {"root": there.root.as_posix(), "format": there.format}
        write_manifest(there.faces.slice(1, 3), path, Provenance("test", facts=facts))
        some = open_dataset(path)
        assert (some.root, some.format) == (there.root, name)
        assert some.faces.equals(there.faces.slice(1, 3))
        source = some.faces["source"][0].as_py()
        assert some.read(source) == there.read(source)


@pytest.mark.parametrize("name", REMOTE)
def test_a_missing_root(bucket, name):
    gone = bucket / "gone"
    assert refusal(READERS[name], gone).startswith("no data set at memory://bucket/gone; give a ")
    assert refusal(open_dataset, gone, format=name).startswith("no data set at memory://bucket/gone; give a folder")


FILES = {"bo/2.jpg": b"2", "bo/x/10.jpg": b"10", "al/x.png": b"x", "zoé/1.webp": b"1", "bo-/1.jpg": b"-"}


def test_a_folder_of_any_depth(bucket, tmp_path, caplog):
    files = {**FILES, "al/notes.txt": b"", "al/.h.jpg": b"", ".git/a.jpg": b"", "readme.md": b"", "bo/.x/1.jpg": b""}
    here, there = open_dataset(folder_of(tmp_path / "f", files)), open_dataset(folder_of(bucket / "f", files))
    assert there.faces.equals(here.faces)
    assert refusal(there.read, "../f/bo/2.jpg") == "'../f/bo/2.jpg' leads out of the data set"
    with pytest.raises(FileNotFoundError):
        there.read("bo/3.jpg")
    folder_of(bucket / "f", {"loose.jpg": b""})
    assert refusal(open_dataset, bucket / "f") == (
        "1 image directly in memory://bucket/f, first loose.jpg, and nothing says whose; "
        "move each into a folder of its identity"
    )


def test_a_list_there(bucket):
    folder_of(bucket / "f", FILES)
    (bucket / "f" / "list.txt").write_text("bo/2.jpg 0\nmemory://bucket/f/al/x.png 1\n")
    listed = open_dataset(bucket / "f" / "list.txt")
    assert rows(listed) == [("bo/2.jpg", "0", b"2"), ("al/x.png", "1", b"x")]


def test_shards_by_a_pattern(bucket, tmp_path):
    for name in ("a", "b"):
        tar_of(tmp_path / f"{name}.tar", {f"{i}.{kind}": b"7" for i in range(3) for kind in ("cls", "jpg")})
        lifted(tmp_path / f"{name}.tar", bucket / "set" / f"{name}.tar")
    for pattern in ("*.tar", "[ab].tar"):
        there = open_dataset(bucket / "set" / pattern, format="webdataset")
        assert there.faces.equals(open_dataset(tmp_path / pattern, format="webdataset").faces)


def test_listing_a_shard_is_few_requests(bucket, tmp_path, monkeypatch):
    files = {f"{i:03}.{kind}": b"7" * 3000 for i in range(100) for kind in ("cls", "jpg")}
    tar = lifted(tar_of(tmp_path / "a.tar", files), bucket / "a.tar")
    gets, cat_file = [], type(MEMORY).cat_file
    monkeypatch.setattr(type(MEMORY), "cat_file", lambda *of, **more: (gets.append(of), cat_file(*of, **more))[1])
    assert len(open_dataset(tar)) == 100
    assert len(gets) <= 3  # 0.8 MB: a block, and what tarfile looks at at the end


def test_an_outage_stops_the_run_and_rejects_nobody(bucket, tmp_path, monkeypatch):
    root = folder_of(bucket / "f", {f"p/{i}.jpg": i for i in range(4)})
    written(network(), tmp_path / "net.onnx")

    def fail(*_, **__):
        raise TimeoutError("read timed out")

    monkeypatch.setattr(type(MEMORY), "cat_file", fail)
    code, output = facecore("embed", root, "--model", tmp_path / "net.onnx", "--out", tmp_path / "store")
    assert (code, output) == (
        1,
        "Error: memory://bucket/f/p/0.jpg cannot be reached: read timed out; "
        "check the address, the credentials and the network\n",
    )


# Commands


def facecore(*words):
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="facecore")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def files_of(place, *names):
    return {name: (place / name).read_bytes() for name in names}


def test_embed_and_nms_give_the_same_bytes_there(bucket, tmp_path):
    written(network(), tmp_path / "net.onnx")
    faces = {f"p{p}/{i}.jpg": 7 * p + i // 2 for p in range(4) for i in range(5)}
    images = folder_of(bucket / "faces", faces)
    model = ("--model", tmp_path / "net.onnx")
    for place in (tmp_path, bucket):
        for finished in ("", ", 2 of 2 shards were there already"):
            code, output = facecore("embed", images, *model, "--out", place / "store", "--shard-rows", 10)
            assert code == 0
            assert output.startswith(f"{place}/store: 20 faces of 4 identities in ")
            assert output.endswith(f" s{finished}\n")
        words = ("nms", "--keep", 0.6, "--embeddings", place / "store", "--out", place / "subset.parquet")
        assert facecore(*words)[0] == 0
        assert facecore(*words) == (
            1,
            f"Error: {place}/subset.parquet exists; choose another --out, or add --overwrite to replace it\n",
        )
        order = ("--embeddings", place / "store", "--out", place / "order.parquet")
        assert facecore("nms", "--order", *order)[0] == 0
        assert facecore("take", place / "order.parquet", "--keep", 0.5, "--out", place / "half.parquet")[0] == 0
        again = facecore("embed", place / "subset.parquet", *model, "--out", place / "again")
        assert again[1].startswith(f"{place}/again: 12 faces of 4 identities in ")
        assert facecore("conflicts", "--embeddings", place / "store", "--out", place / "conflicts.parquet")[0] == 0
        assert len(SubsetDataset(str(place / "half.parquet"))) == 10
    names = [f"store/img_emb/img_emb_0000{n}.npy" for n in range(2)]
    names += [f"store/metadata/metadata_0000{n}.parquet" for n in range(2)]
    names += ["store/meta.json", "store/rejected.parquet", "subset.parquet", "subset.dropped.parquet"]
    names += ["order.parquet", "half.parquet", "again/meta.json", "conflicts.parquet"]
    assert files_of(bucket, *names) == files_of(tmp_path, *names)
    assert b'"root":"memory://bucket/faces"' in (bucket / "store" / "meta.json").read_bytes()
    assert sorted(MEMORY.find("/bucket/store")) == sorted(f"/bucket/{name}" for name in names[:6])


def test_a_shard_that_is_damaged_there_is_redone(bucket, tmp_path):
    written(network(), tmp_path / "net.onnx")
    images = folder_of(bucket / "faces", {f"p{p}/{i}.jpg": 7 * p + i for p in range(2) for i in range(3)})
    words = ("embed", images, "--model", tmp_path / "net.onnx", "--out", bucket / "store", "--shard-rows", 3)
    assert facecore(*words)[0] == 0
    shard = bucket / "store" / "img_emb" / "img_emb_00001.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])
    assert facecore("nms", "--keep", 1, "--embeddings", bucket / "store", "--out", tmp_path / "s.parquet") == (
        1,
        "Error: shard 1 of memory://bucket/store is missing or damaged; "
        "delete memory://bucket/store/metadata/metadata_00001.parquet and run facecore embed again, "
        "it redoes only that shard\n",
    )
    assert facecore(*words)[1].endswith(", 1 of 2 shards were there already\n")
    assert shard.read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("train", "faces", "--out", "memory://b/proxy"), "--out"),
        (("quantize", "--manifest", "s", "--model", "m", "--out", "memory://b/q"), "--out"),
        (("curve", "--model", "m", "--verify", "p", "--out", "memory://b/c"), "--out"),
        (("report", "memory://b/store"), "DIR"),
        (("audit", "memory://b/subset.parquet"), "SUBSET"),
        (("export", "memory://b/faces", "--to", "list", "--out", "memory://b/list"), "--out"),
        (("import", "memory://b/vectors.npy"), "VECTORS"),
        (("embed", "faces", "--model", "memory://b/net.onnx"), "--model"),
        (("embed", "faces", "--model", "net.onnx", "--head", "memory://b/head.npy"), "--head"),
        (("verify", "--model", "net.onnx", "--pairs", "ijb", "--cache", "memory://b/cache"), "--cache"),
    ],
)
def test_what_must_be_local(words, what):
    place = next(word for word in words if word.startswith("memory://") and (what != "--out" or word == words[-1]))
    assert facecore(*words) == (
        1,
        f"Error: {what} takes a local path, not {place}; copy it to this machine, or from it\n",
    )


def test_what_must_be_local_needs_no_package_that_would_reach_it():
    assert facecore("embed", "faces", "--model", "net.onnx", "--head", "s3://bucket/head.npy") == (
        1,
        "Error: --head takes a local path, not s3://bucket/head.npy; copy it to this machine, or from it\n",
    )


def test_upath_is_what_addresses_are():
    assert isinstance(located("memory://a"), UPath)
    assert not isinstance(located("memory://a"), Path)


# Storage that is lost in the middle


class Lost(MemoryFileSystem):
    """Memory that nobody answers for once `error` is set: fsspec takes many an error for a no, or for nothing."""

    protocol = "lost"
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]
    error: ClassVar = None

    def info(self, path, **options):
        self._answer()
        return super().info(path, **options)

    def ls(self, path, detail=True, **options):
        self._answer()
        return super().ls(path, detail=detail, **options)

    def _open(self, path, *given, **options):
        self._answer()
        return super()._open(path, *given, **options)

    isfile, find = AbstractFileSystem.isfile, AbstractFileSystem.find

    def _answer(self):
        if self.error is not None:
            raise self.error

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("lost://").strip("/") if path not in ("", "/", "lost://") else ""


@pytest.fixture
def lost(monkeypatch):
    fsspec.register_implementation("lost", Lost, clobber=True)
    monkeypatch.setattr(Lost, "store", {})
    monkeypatch.setattr(Lost, "pseudo_dirs", [""])
    monkeypatch.setattr(Lost, "error", None)
    return located("lost://bucket")


ASKED = {
    **{name: methodcaller(name) for name in ("exists", "is_dir", "is_file", "stat")},
    "open": methodcaller("open", "rb"),
    "iterdir": lambda path: list(path.iterdir()),
    "glob": lambda path: list(path.glob("*.tar")),
    "matching": matching,
    "files_below": files_below,
}
ERRORS = [OSError("gone"), ConnectionError("gone"), TimeoutError("gone"), RuntimeError("gone\nfor ever")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", ASKED)
def test_a_question_without_an_answer_is_not_a_no(name, error, lost, monkeypatch):
    (lost / "there").write_bytes(b"1")
    assert (lost / "there").exists()
    assert not (lost / "not").exists()
    monkeypatch.setattr(Lost, "error", error)
    with pytest.raises(StorageError) as caught:
        ASKED[name](lost / "there")
    assert str(caught.value).endswith(" cannot be reached: gone; check the address, the credentials and the network")
    assert str(caught.value).startswith("lost://bucket/there")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [3, 6])
def test_an_outage_between_two_questions_is_one_line(error, at, lost, tmp_path, monkeypatch):
    images = folder_of(tmp_path / "faces", {f"p{p}/{i}.jpg": 7 * p + i for p in range(2) for i in range(3)})
    written(network(), tmp_path / "net.onnx")
    words = ("embed", images, "--model", tmp_path / "net.onnx", "--out", lost / "store", "--shard-rows", 3)
    put_file, puts = Lost.put_file, []

    def put(self, part, key, **options):
        put_file(self, part, key, **options)
        puts.append(key)
        if len(puts) == at:
            monkeypatch.setattr(Lost, "error", error)

    monkeypatch.setattr(Lost, "put_file", put)
    code, output = facecore(*words)
    assert code == 1
    assert re.fullmatch(
        r"Error: lost://bucket/store\S* cannot be reached: gone; check the address, the credentials and the network\n",
        output,
    ), output
    monkeypatch.setattr(Lost, "error", None)
    assert facecore(*words)[0] == 0
