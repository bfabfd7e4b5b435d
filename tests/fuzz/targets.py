"""What a fuzzer drives: bytes into a reader, which may refuse them in one line, and nothing else."""

import atexit
import contextlib
import os
import pickle
import shutil
import struct
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import encoded, pixels
from records import insightface, write_records

from facecore.errors import FacecoreError
from facecore.manifest import read_manifest
from facecore.readers import open_dataset
from facecore.readers.bin import read_pairs

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(tempfile.mkdtemp(prefix="facecore-fuzz-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)


def recordio(data: bytes) -> None:
    """Two bytes of length, an index as long as that, and the records."""
    length = int.from_bytes(data[:2], "little")
    (ROOT / "train.idx").write_bytes(data[2 : 2 + length])
    (ROOT / "train.rec").write_bytes(data[2 + length :])
    dataset = open_dataset(ROOT, format="recordio")
    for source in dataset.faces["source"].to_pylist()[:20]:
        dataset.read(source)


def manifest(data: bytes) -> None:
    """A Parquet file: its rows, read as a manifest, can be turned into Python."""
    (ROOT / "m.parquet").write_bytes(data)
    table, _ = read_manifest(ROOT / "m.parquet")
    table.slice(0, 20).to_pylist()


def bin(data: bytes) -> None:
    """A pickle."""
    (ROOT / "pairs.bin").write_bytes(data)
    encoded, same = read_pairs(ROOT / "pairs.bin")
    assert len(encoded) == 2 * len(same)
    assert all(type(image) is bytes for image in encoded)


TARGETS = {"recordio": recordio, "manifest": manifest, "bin": bin}


def refuses_or_reads(target: str, data: bytes) -> None:
    """Run a target; what a user could not mend is not caught."""
    with contextlib.suppress(FacecoreError):
        TARGETS[target](data)


def write_corpus() -> None:
    """The files from which a fuzzer starts; what it found since lies beside them, as found-*."""
    images = [encoded(pixels(seed, 4), "PNG") for seed in range(4)]
    write_records(ROOT, insightface([images[:2], images[2:]]))
    index, records = (ROOT / "train.idx").read_bytes(), (ROOT / "train.rec").read_bytes()
    names = {"face_id": ["a/1", "a/2", "b/1"], "identity": ["a", "a", "b"], "source": ["a/1", "a/2", "b/1"]}
    pq.write_table(pa.table(names), ROOT / "m.parquet", compression="none", use_dictionary=["identity"])
    seeds = {
        "recordio/insightface": struct.pack("<H", len(index)) + index + records,
        "manifest/three": (ROOT / "m.parquet").read_bytes(),
        "bin/protocol2": pickle.dumps((images, [True, False]), 2),
        "bin/protocol4": pickle.dumps((images, [True, False]), 4),
    }
    for name, data in seeds.items():
        (CORPUS / name).parent.mkdir(parents=True, exist_ok=True)
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    write_corpus()
