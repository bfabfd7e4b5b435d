"""Parquet files of a few kilobytes that stand for gigabytes: refused before they are decoded, and no others are."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from geometry import random_faces, write_store
from pictures import jpeg

import facecore.parquet
from facecore.embeddings import metadata_path
from facecore.errors import FacecoreError
from facecore.manifest import manifest_table, read_manifest
from facecore.parquet import check_expansion
from facecore.readers import open_dataset

MIB = 1 << 20
ROWS = 20_000
LONG = "x" * 100_000


def repeated(value, rows=ROWS):
    """A column of one value, as a dictionary of it."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def lists_of(values, each):
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each, dtype=np.int32)), values)


def plainly(table, path, **options):
    """Write what the reader will not take for a dictionary."""
    whole = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30, **options}
    pq.write_table(table, path, store_schema=False, **whole)
    return path


PREFIXES = {"use_dictionary": False, "column_encoding": {"identity": "DELTA_BYTE_ARRAY"}}
BOMBS = {
    "dictionary": (repeated(LONG), {}),
    "dictionary-version-2": (repeated(LONG), {"data_page_version": "2.0"}),
    "prefixes": (pa.array([LONG] * 2000), PREFIXES),
    "compressed": (pa.array(["x" * (40 * MIB)]), {"use_dictionary": False}),
    "runs": (repeated(1, 10 * MIB), {}),
    "nulls": (pa.nulls(10 * MIB, pa.string()), {}),
    "struct": (pa.StructArray.from_arrays([repeated(LONG.encode())], ["bytes"]), {}),
    "lists": (lists_of(repeated(LONG), 200), {}),
    "lists-of-numbers": (lists_of(repeated(1.5, 10 * MIB), 2 * MIB), {}),
    "fixed": (pa.array([bytes(MIB)] * 40, pa.binary(MIB)), {}),
}
HONEST = {
    "one-long-name": (pa.array(["x" * MIB, *map(str, range(ROWS))]), {}),
    "one-long-name-by-prefixes": (pa.array(["x" * MIB, *map(str, range(2000))]), PREFIXES),
    "names": (pa.array([f"person-{n // 20:06d}" for n in range(10 * ROWS)]), {}),
    "names-by-prefixes": (pa.array([f"person-{n // 20:06d}" for n in range(ROWS)]), PREFIXES),
    "numbers": (pa.array(range(ROWS)), {}),
    "lists": (lists_of(pa.array(np.linspace(0, 1, ROWS)), 2), {}),
    "texts-in-lists": (lists_of(pa.array(list(map(str, range(ROWS)))), 2), {}),
    "structs": (pa.array([{"bytes": str(n).encode(), "path": None} for n in range(ROWS)]), {}),
    "none": (pa.array([], pa.string()), {}),
    "truths": (pa.array([True, None] * ROWS), {}),
}


@pytest.fixture
def _little(monkeypatch):
    """As if 32 MiB were much."""
    monkeypatch.setattr(facecore.parquet, "MAX_DECODED", 32 * MIB)
    monkeypatch.setattr(facecore.parquet, "MAX_EXPANSION", 1)
    monkeypatch.setattr(facecore.parquet, "STEP", 4 * MIB)


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(tmp_path, name):
    column, options = BOMBS[name]
    path = plainly(pa.table({"identity": column}), tmp_path / "m.parquet", **options)
    with pytest.raises(FacecoreError) as caught:
        check_expansion(path)
    assert str(caught.value) == (
        f"{path} has {path.stat().st_size:,} bytes and would take over 33,554,432 in memory, as no list of faces does; "
        "use another file, or, if it is right, write it again without compression and dictionaries"
    )


@pytest.mark.usefixtures("_little")
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_file_is_not(tmp_path, name, compression, version):
    column, options = HONEST[name]
    options = {"compression": compression, "data_page_version": version, "row_group_size": 7000, **options}
    path = plainly(pa.table({"identity": column}), tmp_path / "m.parquet", **options)
    check_expansion(path)
    for group in range(pq.read_metadata(path).num_row_groups):
        check_expansion(path, ["identity"], group=group)


@pytest.mark.usefixtures("_little")
def test_only_what_is_read_counts(tmp_path):
    path = plainly(pa.table({"identity": ["a"] * ROWS, "other": repeated(LONG)}), tmp_path / "m.parquet")
    check_expansion(path, ["identity"])
    with pytest.raises(FacecoreError, match="would take over"):
        check_expansion(path, ["identity", "other"])


def varint(number):
    """As Thrift's compact protocol has a number."""
    number, data = 2 * number, b""
    while number > 127:
        data, number = data + bytes([number & 127 | 128]), number >> 7
    return data + bytes([number])


@pytest.mark.usefixtures("_little")
def test_what_the_footer_says_is_not_believed(tmp_path):
    path = plainly(pa.table({"identity": pa.array(["x" * (40 * MIB)])}), tmp_path / "m.parquet", use_dictionary=False)
    said = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    data, end = path.read_bytes(), 400  # bytes from the end: the footer
    path.write_bytes(data[:-end] + data[-end:].replace(varint(said), varint(3 * MIB)))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 3 * MIB
    with pytest.raises(FacecoreError, match="would take over"):
        check_expansion(path)


def test_pages_that_are_not_where_they_should_be(tmp_path):
    path = tmp_path / "m.parquet"
    pq.write_table(manifest_table({name: ["a", "b"] for name in ("face_id", "identity", "source")}), path)
    data = bytearray(path.read_bytes())
    data[4:12] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(FacecoreError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"{path} is not a whole Parquet file; copy it again, or run again what wrote it"


READ = """
    import resource
    from pathlib import Path
    from facecore.embeddings import Embeddings
    from facecore.errors import FacecoreError
    from facecore.importing import ImportOptions, import_vectors
    from facecore.manifest import read_manifest
    from facecore.readers import open_dataset

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1500 << 20),) * 2)
    options = ImportOptions()
    attempts = {
        "m.parquet": read_manifest,
        "labels.parquet": lambda path: import_vectors(Path("v.npy"), Path("out"), options, labels=path),
        "names-of-images.parquet": open_dataset,
        "images.parquet": lambda path: open_dataset(path).read("images.parquet#7"),
        "store": lambda path: Embeddings.open(path).faces(0),
    }
    for name, attempt in attempts.items():
        try:
            attempt(Path(name))
        except FacecoreError as error:
            print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_wherever_it_is_read_memory_stays_bounded(tmp_path):
    """200,000 names of a megabyte each, 200 GB, in files of at most a megabyte."""
    rows, long = 200_000, "x" * MIB
    ids, evil = pa.array(list(map(str, range(rows)))), repeated(long, rows)
    plainly(pa.table({"face_id": ids, "identity": evil, "source": ids}), tmp_path / "m.parquet")
    plainly(pa.table({"identity": evil}), tmp_path / "labels.parquet")
    np.save(tmp_path / "v.npy", np.eye(4, dtype=np.float32)[np.zeros(rows, np.int64)])
    images = {"image": repeated(jpeg(0, 8), rows), "label": evil}
    plainly(pa.table(images), tmp_path / "names-of-images.parquet")
    bytes_ = pa.StructArray.from_arrays([repeated(long.encode(), rows)], ["bytes"])
    plainly(pa.table({"image": bytes_, "label": np.zeros(rows, np.int64)}), tmp_path / "images.parquet")
    write_store(tmp_path / "store", [random_faces(0, [200])])
    shard = metadata_path(tmp_path / "store", 0)
    plainly(pq.read_table(shard).append_column("other", repeated(long * 16, 200)), shard)
    assert max(path.stat().st_size for path in tmp_path.rglob("*.parquet")) < 2 * MIB
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    described = "store/metadata/metadata_00000.parquet"
    files = ("m.parquet", "labels.parquet", "names-of-images.parquet", "images.parquet", described)
    assert [line.split(";")[0] for line in ran.stdout.splitlines()] == [
        f"{name} has {(tmp_path / name).stat().st_size:,} bytes and would take over 1,073,741,824 in memory, "
        "as no list of faces does"
        for name in files
    ]


def test_many_copies_of_an_image_are_read(tmp_path):
    image = jpeg(0, 64)
    table = pa.table({"image": repeated(image, 5000), "label": np.zeros(5000, np.int64)})
    data = open_dataset(plainly(table, tmp_path / "copies.parquet"))
    assert len(data) == 5000
    assert data.read("copies.parquet#4999") == image
