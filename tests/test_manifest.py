"""The manifest: what is one, and its bytes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facecore import manifest
from facecore.errors import DataError
from facecore.manifest import (
    RowGroups,
    check_manifest,
    manifest_table,
    provenance_of,
    read_manifest,
    sort_faces,
    write_manifest,
)
from facecore.provenance import Provenance

MADE = Provenance("test", {"keep": 0.5})
GOOD = {"face_id": ["a/1", "a/2", "b/1"], "identity": ["a", "a", "b"], "source": ["a/1.jpg", "a/2.jpg", "b/1.jpg"]}


def refusal(do, *arguments):
    with pytest.raises(DataError) as caught:
        do(*arguments)
    return str(caught.value)


def test_there_and_back(tmp_path):
    path = tmp_path / "new" / "m.parquet"
    table = manifest_table(GOOD).append_column("sparsity", pa.array([1, 2, 3], pa.float32()))
    write_manifest(table, path, MADE)
    found, made = read_manifest(path)
    assert found.equals(table)
    assert found.schema.metadata is None
    assert made == MADE
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"


def test_equal_rows_give_equal_bytes(tmp_path):
    backwards = {name: values[::-1] for name, values in GOOD.items()}
    write_manifest(manifest_table(GOOD), tmp_path / "1.parquet", MADE)
    write_manifest(manifest_table(backwards), tmp_path / "2.parquet", MADE)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_sort_against_python(monkeypatch, chunk):
    monkeypatch.setattr(manifest, "SORTED_CHUNK", chunk)
    rng = np.random.default_rng(0)
    letters = np.array(["a", "b", "B", "é", "/", "-", "\U0001f600", "ﬀ"])
    names = ["".join(word) for word in letters[rng.integers(0, 8, (200, 3))]]
    people = letters[rng.integers(0, 8, 200)].tolist()
    table = pa.table({"face_id": names, "identity": people, "row": np.arange(200)})
    found = sort_faces(pa.concat_tables([table.slice(0, 50), table.slice(50)]))
    order = sorted(range(200), key=lambda i: (people[i].encode(), names[i].encode(), i))
    assert found.schema == table.schema
    assert found["row"].to_pylist() == order
    assert found["face_id"].to_pylist() == [names[i] for i in order]
    assert sort_faces(table.slice(0, 0)).equals(table.slice(0, 0))


def test_what_is_no_manifest(tmp_path):
    path = tmp_path / "m.parquet"
    table = manifest_table(GOOD)

    def with_column(name, values):
        return table.set_column(table.column_names.index(name), name, values)

    for bad, line in [
        (
            table.drop_columns(["source"]),
            f"{path} has no column source; a manifest has the string columns face_id, identity, source",
        ),
        (
            with_column("identity", pa.array([1, 1, 2])),
            f"{path}: column identity is int64, not string; cast it and write the file again",
        ),
        (
            with_column("source", pa.array(["x", None, None])),
            f"{path}: column source has 2 nulls; every face needs one",
        ),
        (
            with_column("face_id", pa.array(["x", "x", "x"])),
            f"{path}: 2 faces repeat the face_id of another; each face needs its own",
        ),
        (
            with_column("face_id", pa.array(["", "x", "y"])),
            f"{path}: column face_id is empty for 1 faces; every face needs one",
        ),
        (
            with_column("identity", pa.array(["", "b", ""])),
            f"{path}: column identity is empty for 2 faces; every face needs one",
        ),
    ]:
        assert refusal(check_manifest, bad, path) == line
        assert refusal(write_manifest, bad, path, MADE) == line
        assert not list(tmp_path.iterdir())
        pq.write_table(bad, path)
        assert refusal(read_manifest, path) == line
        path.unlink()


def test_no_file(tmp_path):
    assert refusal(read_manifest, tmp_path / "x") == f"no manifest at {tmp_path / 'x'}; facecore nms writes one"
    assert refusal(read_manifest, tmp_path) == f"{tmp_path} is a folder, not a manifest; facecore nms writes one"


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "subset.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may be allowed everything
    assert refusal(read_manifest, path) == f"{path} may not be read; change its permissions"


def test_not_parquet(tmp_path):
    (tmp_path / "x").write_bytes(b"a,b\n1,2\n" * 10)
    line = refusal(read_manifest, tmp_path / "x")
    assert line == (
        f"{tmp_path / 'x'} is no Parquet file; facecore nms writes manifests, and embed, export, quantize and train "
        "take lists (.txt, .lst), too"
    )


@pytest.mark.parametrize("footer", [None, {b"facecore": b"{}"}, {b"facecore": b"not JSON"}, {b"pandas": b"{}"}])
def test_a_manifest_of_another_maker(tmp_path, footer):
    path = tmp_path / "m.parquet"
    pq.write_table(manifest_table(GOOD).replace_schema_metadata(footer), path)
    assert provenance_of(path) is None
    found, made = read_manifest(path)
    assert made is None
    assert found.equals(manifest_table(GOOD))
    assert found.schema.metadata is None


def test_dictionaries_and_views_are_read_as_what_they_hold(tmp_path):
    table = manifest_table({**GOOD, "note": ["p", "q", "p"]})
    pq.write_table(
        table.cast(pa.schema({name: "string_view" for name in table.column_names})), tmp_path / "views.parquet"
    )
    table.to_pandas().astype("category").to_parquet(tmp_path / "categories.parquet")
    for name in ("views", "categories"):
        found, _ = read_manifest(tmp_path / f"{name}.parquet")
        assert sort_faces(found).equals(table), name


@pytest.mark.parametrize(
    ("nested", "plain"),
    [
        (pa.list_(pa.string_view()), pa.list_(pa.string())),
        (pa.large_list(pa.string_view()), pa.large_list(pa.string())),
        (pa.list_(pa.binary_view(), 1), pa.list_(pa.binary(), 1)),
        (pa.struct([("a", pa.list_(pa.string_view()))]), pa.struct([("a", pa.list_(pa.string()))])),
        (pa.map_(pa.string(), pa.string_view()), pa.map_(pa.string(), pa.string())),
    ],
    ids=str,
)
def test_columns_that_ride_along_may_be_nested(nested, plain, tmp_path):
    table = manifest_table(GOOD)
    pq.write_table(table.append_column("note", pa.nulls(len(table), nested)), tmp_path / "m.parquet")
    found, _ = read_manifest(tmp_path / "m.parquet")
    assert sort_faces(found).schema.field("note").type == plain
    assert sort_faces(found).select(table.column_names).equals(table)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    write_manifest(manifest_table(GOOD), path, MADE)
    before = path.read_bytes()

    def fail(table, where, **options):
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(manifest.pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_manifest(manifest_table(GOOD), path, Provenance("other"))
    assert [found.name for found in tmp_path.iterdir()] == ["m.parquet"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 35])
def test_row_groups_tell_nothing_of_the_tables(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(RowGroups, "ROWS", 10)
    table = pa.table({"face_id": [str(i) for i in range(rows)], "x": np.arange(rows)})
    found = []
    for number, step in enumerate((1, 3, 10, 100)):
        path = tmp_path / f"{number}.parquet"
        with RowGroups(path, MADE) as groups:
            for start in range(0, max(rows, 1), step):
                groups.write(table.slice(start, step))
        assert pq.read_table(path).replace_schema_metadata().equals(table)
        assert provenance_of(path) == MADE
        found.append(path.read_bytes())
    assert len(set(found)) == 1
