"""The README's table of what can go wrong: each line is the one that is printed."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import folder_of
from records import framed, packed, write_records
from test_cli import facecore
from test_models_onnx import written
from test_quantize import network

README = Path(__file__).parents[1] / "README.md"
EMBED = "embed {} --model net.onnx"


def rows():
    """What happened, and the line that is printed."""
    section = README.read_text().partition("## What can go wrong")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| `([^`]+)`", section, re.MULTILINE))


class Evil:
    def __reduce__(self):
        return (eval, ("open('ran', 'w')",))


def loose():
    folder_of(Path("faces"), {"1.jpg": 1, "2.jpg": 2})
    return EMBED.format("faces")


def not_utf8():
    try:
        open(b"faces/ann/caf\xe9.jpg", "wb").close()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    return EMBED.format("faces")


def circle():
    Path("faces/ann/loop").symlink_to(Path("faces").resolve() / "ann", target_is_directory=True)
    return EMBED.format("faces")


def damaged():
    Path("faces/ann/1.jpg").write_bytes(b"nothing")
    return EMBED.format("faces")


def selected(*, then):
    assert facecore(*EMBED.format("faces").split())[0] == 0
    assert facecore("nms", "--keep", "1")[0] == 0
    return then()


def moved():
    os.rename("faces", "elsewhere")
    return EMBED.format("subset.parquet") + " --out other"


def cut():
    write_records(Path("rec"), {})
    whole = framed(packed(1, bytes(100), 1))
    Path("rec/train.rec").write_bytes(whole[:104])
    Path("rec/train.idx").write_text("1\t0\n")
    assert len(whole) == 132
    return EMBED.format("rec")


def half_listed():
    write_records(Path("rec"), {1: packed(1, bytes(100), 1), 2: packed(1, bytes(100), 2)})
    Path("rec/train.idx").write_text("1\t0\n")
    return EMBED.format("rec")


def half():
    write_records(Path("rec"), {1: packed(0.5, b"image", 1)})
    return EMBED.format("rec")


def elsewhere():
    columns = {"face_id": ["0", "1"], "identity": ["a", "a"], "source": ["../secret.png", "ann/0.jpg"]}
    pq.write_table(pa.table(columns), "m.parquet")
    words = [*EMBED.format("m.parquet").split(), "--images", "faces", "--max-rejected", "0.5"]
    assert facecore(*words)[0] == 0
    return pq.read_table("embeddings/rejected.parquet")["reason"][0].as_py()


def misnamed():
    Path("bad.parquet").write_bytes(b"nothing" * 10)
    return "quantize --manifest bad.parquet --model net.onnx"


def evil():
    Path("evil.bin").write_bytes(pickle.dumps(Evil(), 2).replace(b"__builtin__", b"builtins"))
    return "verify --model net.onnx --pairs evil.bin"


def audited():
    os.rename("embeddings", "others")
    return "audit subset.parquet"


def lost():
    Path("embeddings/img_emb/img_emb_00000.npy").unlink()
    return "nms --keep 1 --overwrite"


def another():
    path = Path("embeddings/img_emb/img_emb_00000.npy")
    np.save(path, -np.load(path))  # of unit length, and as near to each other as before
    return "nms --keep 1 --overwrite"


CAUSES = {
    "images lie beside the folders of people": loose,
    "a name is not UTF-8": not_utf8,
    "links lead in a circle": circle,
    "too many images are damaged": damaged,
    "the images moved": lambda: selected(then=moved),
    "a `.rec` is not whole": cut,
    "an `.idx` is not whole": half_listed,
    "a label is no number": half,
    "a manifest names a file elsewhere": elsewhere,
    "a file is not what its name says": misnamed,
    "a `.bin` or checkpoint would run code": evil,
    "a shard of a store is lost": lambda: selected(then=lost),
    "a shard is another store's, or another network's": lambda: selected(then=another),
    "the store is elsewhere": lambda: selected(then=audited),
    "the output exists": lambda: selected(then=lambda: "nms --keep 1"),
    "other options than the run that was stopped": lambda: selected(then=lambda: EMBED.format("faces") + " --flip"),
}
# What takes another process or a full disk, where the same lines are demanded.
ELSEWHERE = {
    "two runs at once": "test_faults.py",
    "a part of a job array is damaged": "test_select_parts.py",
    "an array was given up, and nms run plainly": "test_select_parts.py",
    "the disk is full": "test_faults_disk.py",
    "Ctrl-C, or SIGTERM from a cluster": "test_cli.py",
}


def test_every_row_has_its_cause():
    assert rows().keys() == CAUSES.keys() | ELSEWHERE.keys()
    for what, where in ELSEWHERE.items():
        end = rows()[what].partition(";")[0].rpartition(": ")[2]
        end = re.sub(r"^(embeddings|subset\.parts)\S* ", "", end)
        assert end in Path(__file__).with_name(where).read_text(), what


@pytest.mark.parametrize("what", CAUSES)
def test_the_line_is_the_one_in_the_readme(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(Path("faces"), {"ann/0.jpg": 0, "ann/1.jpg": 1})
    written(network(), Path("net.onnx"))
    line = rows()[what]
    done = CAUSES[what]()
    if not done.startswith(("audit ", "embed ", "nms ", "quantize ", "verify ")):
        assert done == line
    else:
        assert facecore(*done.split()) == (1, f"Error: {line}\n")
    assert not Path("ran").exists()
