"""Importing: the store against the slow obvious one, whatever the form, the order and the memory; every refusal."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facecore.embeddings import Embeddings, metadata_path, vectors_path
from facecore.errors import DataError, OptionError
from facecore.importing import ImportOptions, groups, import_vectors, run
from facecore.importing import labels as labels_module
from facecore.importing.units import unit_rows
from facecore.manifest import provenance_of, read_manifest
from facecore.select import Nms, select

TINY = 2e-6  # GB: some twenty of the rows below at a time


def unit(n, dimension=4, seed=0, dtype=np.float32):
    rows = np.random.default_rng(seed).standard_normal((n, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def people(n, identities, seed=0):
    """Names of n faces in no order."""
    rng = np.random.default_rng(seed)
    identity = [f"p{number:02d}" for number in rng.integers(0, identities, n)]
    face_id = [f"{person}/{row:03d}" for person, row in zip(identity, rng.permutation(n), strict=True)]
    return pa.table({"identity": identity, "face_id": face_id, "source": [f"{name}.jpg" for name in face_id]})


def in_order_of(names):
    """The rows as a store has them: by identity, then face_id, as UTF-8 bytes."""
    keys = list(zip(names["identity"].to_pylist(), names["face_id"].to_pylist(), strict=True))
    return sorted(range(len(keys)), key=lambda row: (keys[row][0].encode(), keys[row][1].encode()))


def as_csv(path, names):
    pa.csv.write_csv(names, path)
    return path


def as_npy(path, array):
    np.save(path, array)
    return path


def imported(folder, vectors, names, **options):
    """A store of these rows by way of .npy and .csv, and the report."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = as_csv(folder / "labels.csv", names)
    report = import_vectors(
        as_npy(folder / "v.npy", vectors), folder / "store", ImportOptions(**options), labels=labels, overwrite=True
    )
    return folder / "store", report


def files_of(store, *, but=()):
    """The bytes of every file of a store."""
    files = {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*.*")}
    return {name: data for name, data in files.items() if name not in but}


def check_store(store, vectors, names):
    """The store holds these rows, sorted, and what the names say of them."""
    found, order = Embeddings.open(store), in_order_of(names)
    faces = pa.concat_tables([found.faces(number) for number in range(len(found))])
    assert faces.drop_columns(["norm"]).equals(names.take(order).select(faces.column_names[:-1]))
    halves = np.concatenate([np.load(vectors_path(store, number)) for number in range(len(found))])
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    np.testing.assert_allclose(halves, (vectors / lengths[:, None])[order], atol=2e-3)
    np.testing.assert_allclose(faces["norm"].to_numpy(), lengths[order], rtol=3e-4)
    assert found.identities == len(set(names["identity"].to_pylist()))


def refusal(*arguments, error=DataError, **options):
    with pytest.raises(error) as caught:
        import_vectors(*arguments, **options)
    return str(caught.value)


# What goes in, in every form


LISTS = {
    "list": lambda rows: pa.array(list(rows), pa.list_(pa.float32())),
    "list of halves": lambda rows: pa.array(list(rows.astype(np.float16)), pa.list_(pa.float16())),
    "large list of doubles": lambda rows: pa.array(list(rows), pa.large_list(pa.float64())),
    "fixed-size list": lambda rows: pa.array(list(rows), pa.list_(pa.float32(), rows.shape[1])),
    "binary": lambda rows: pa.array([row.tobytes() for row in rows], pa.binary()),
    "large binary of halves": lambda rows: pa.array([r.tobytes() for r in rows.astype(np.float16)], pa.large_binary()),
    "fixed-size binary": lambda rows: pa.array([row.tobytes() for row in rows], pa.binary(4 * rows.shape[1])),
}


@pytest.mark.parametrize("form", LISTS.values(), ids=LISTS.keys())
def test_parquet_with_a_column_of_vectors(tmp_path, form):
    vectors, names = unit(50), people(50, 7)
    table = names.append_column("quality", pa.array(np.arange(50.0))).append_column("v", form(vectors))
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=13)
    report = import_vectors(tmp_path / "in.parquet", tmp_path / "store", ImportOptions())
    check_store(tmp_path / "store", vectors, table.drop_columns(["v"]))
    assert (report.rows, report.faces, report.rejected, report.normalised, report.buckets) == (50, 50, 0, 0, 1)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_and_a_csv(tmp_path, dtype, order):
    vectors, names = 3 * unit(50), people(50, 7)
    store, report = imported(tmp_path, np.asarray(vectors, dtype, order=order), names)
    check_store(store, vectors.astype(dtype).astype(np.float64), names)
    assert report.normalised == 50


def test_a_folder_of_parquet(tmp_path):
    vectors, names = unit(50), people(50, 7)
    table = names.append_column("v", LISTS["list"](vectors))
    for number, start in enumerate(range(0, 50, 20)):
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(table.slice(start, 20), tmp_path / "in" / f"{number}.parquet")
    import_vectors(tmp_path / "in", tmp_path / "store", ImportOptions())
    check_store(tmp_path / "store", vectors, names)
    assert sorted(Embeddings.open(tmp_path / "store").meta["inputs"]) == ["0.parquet", "1.parquet", "2.parquet"]


def clip_retrieval(folder, vectors, names, step=20):
    """Numbered as clip-retrieval does, so that 10 comes after 9."""
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, start in enumerate(range(0, len(vectors), step)):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors[start : start + step])
        pq.write_table(names.slice(start, step), folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def test_a_folder_of_clip_retrieval(tmp_path):
    vectors, names = unit(50, dtype=np.float16), people(50, 7)
    captions = names.append_column("caption", pa.array([f"face {row}" for row in range(50)]))
    clip_retrieval(tmp_path / "in", vectors, captions, step=4)
    import_vectors(tmp_path / "in", tmp_path / "store", ImportOptions())
    check_store(tmp_path / "store", vectors.astype(np.float64), captions)


def test_row_numbers_run_on_from_file_to_file(tmp_path):
    vectors, names = unit(50, dtype=np.float16), people(50, 7)
    clip_retrieval(tmp_path / "in", vectors, names.select(["identity"]), step=4)
    import_vectors(tmp_path / "in", tmp_path / "store", ImportOptions())
    numbers = [f"{row:09d}" for row in range(50)]
    check_store(
        tmp_path / "store",
        vectors.astype(np.float64),
        pa.table({"identity": names["identity"], "face_id": numbers, "source": numbers}),
    )


LABELS = {
    "strings.npy": lambda path, labels: np.save(path, np.array([str(label) for label in labels])),
    "bytes.npy": lambda path, labels: np.save(path, np.array([str(label).encode() for label in labels])),
    "numbers.npy": lambda path, labels: np.save(path, np.array(labels, ">i4")),
    "lines.txt": lambda path, labels: path.write_text("\n".join(map(str, labels)) + "\n"),
    "dos.txt": lambda path, labels: path.write_bytes("\r\n".join(map(str, labels)).encode()),
    "one.csv": lambda path, labels: path.write_text("identity\n" + "\n".join(map(str, labels))),
    "numbers.parquet": lambda path, labels: pq.write_table(pa.table({"identity": labels}), path),
    "category.parquet": lambda path, labels: pq.write_table(
        pa.table({"identity": pa.array(list(map(str, labels))).dictionary_encode()}), path
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_in_every_form(tmp_path, name):
    vectors, labels = unit(30), np.random.default_rng(0).integers(0, 12, 30).tolist()
    LABELS[name](tmp_path / name, labels)
    import_vectors(as_npy(tmp_path / "v.npy", vectors), tmp_path / "s", ImportOptions(), labels=tmp_path / name)
    numbers = [f"{row:09d}" for row in range(30)]
    names = pa.table({"identity": [str(label) for label in labels], "face_id": numbers, "source": numbers})
    check_store(tmp_path / "s", vectors, names)


def test_columns_by_other_names(tmp_path):
    vectors, names = unit(30), people(30, 5)
    table = names.rename_columns(["label", "key", "path"]).append_column("identity", pa.array(["wrong"] * 30))
    table = table.append_column("norm", pa.array(np.full(30, 20.0))).append_column("v", LISTS["list"](vectors))
    pq.write_table(table.append_column("also", LISTS["list"](vectors)), tmp_path / "in.parquet")
    options = ImportOptions(identity_column="label", face_id_column="key", source_column="path", vector_column="v")
    import_vectors(tmp_path / "in.parquet", tmp_path / "store", options)
    found = Embeddings.open(tmp_path / "store").faces(0)
    assert found.column_names == ["face_id", "identity", "source", "also", "norm"]
    check_store(tmp_path / "store", vectors, names.append_column("also", LISTS["list"](vectors)))
    assert provenance_of(metadata_path(tmp_path / "store", 0)).options == {
        "identity_column": "label",
        "face_id_column": "key",
        "source_column": "path",
    }


def test_text_of_a_csv_stays_as_it_is(tmp_path):
    (tmp_path / "l.csv").write_text('identity,face_id\n007,"a\nb"\nnan,"x,y"\n')
    import_vectors(as_npy(tmp_path / "v.npy", unit(2)), tmp_path / "s", ImportOptions(), labels=tmp_path / "l.csv")
    found = Embeddings.open(tmp_path / "s").faces(0).drop_columns(["norm"]).to_pydict()
    assert found == {"face_id": ["a\nb", "x,y"], "identity": ["007", "nan"], "source": ["a\nb", "x,y"]}


# The same bytes


@pytest.mark.parametrize("memory", [1.0, 1e-5, TINY])
def test_order_and_memory_do_not_change_a_byte(tmp_path, memory):
    vectors, names = unit(200), people(200, 30)
    plain, first = imported(tmp_path / "plain", vectors, names, shard_rows=40)
    rows = np.random.default_rng(1).permutation(200)
    other, second = imported(tmp_path / "other", vectors[rows], names.take(rows), shard_rows=40, memory=memory)
    assert first.buckets == 1
    assert (second.buckets == 1) == (memory == 1.0)
    assert files_of(other, but=["meta.json"]) == files_of(plain, but=["meta.json"])
    known, found = (Embeddings.open(store).meta for store in (plain, other))
    assert {**found, "inputs": None} == {**known, "inputs": None}


def test_memory_alone_changes_nothing_at_all(tmp_path):
    vectors, names = unit(200), people(200, 30)
    plain, _ = imported(tmp_path / "plain", vectors, names)
    other, report = imported(tmp_path / "other", vectors, names, memory=TINY)
    assert report.buckets > 1
    assert files_of(other) == files_of(plain)


@pytest.mark.parametrize("batch", [1, 16, 199])
@pytest.mark.parametrize("grouped", [False, True])
def test_batches_change_nothing_at_all(tmp_path, monkeypatch, batch, grouped):
    vectors, names = unit(200), people(200, 30)
    if grouped:
        names = names.sort_by("identity")
    plain, _ = imported(tmp_path / "plain", vectors, names, shard_rows=40)
    monkeypatch.setattr(labels_module, "BATCH", batch)
    monkeypatch.setattr(groups, "PIECE_ROWS", batch)
    other, report = imported(tmp_path / "other", vectors, names, shard_rows=40, memory=1e-5)
    assert (report.buckets == 0) == grouped
    assert report.buckets != 1
    assert files_of(other) == files_of(plain)


def test_grouped_rows_stream_through(tmp_path):
    vectors, names = unit(200), people(200, 30)
    plain, _ = imported(tmp_path / "plain", vectors, names, shard_rows=40)
    by_person = sorted(range(200), key=lambda row: names["identity"][row].as_py())
    other, report = imported(tmp_path / "other", vectors[by_person], names.take(by_person), shard_rows=40)
    assert report.buckets == 0
    assert files_of(other, but=["meta.json"]) == files_of(plain, but=["meta.json"])


ROWS = st.lists(
    st.tuples(st.text("aé\U0001f600ﬀ/\0", min_size=1, max_size=2), st.integers(0, 3)), min_size=1, max_size=40
)


@given(ROWS, st.integers(1, 12), st.sampled_from([1.0, TINY, 1e-7]), st.booleans(), st.randoms())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_make_the_store_they_should(tmp_path, rows, shard_rows, memory, grouped, random):
    identity = [person for person, _ in rows]
    face_id = [f"{kind}{number}" for number, (_, kind) in enumerate(rows)]
    random.shuffle(face_id)
    names = pa.table({"identity": identity, "face_id": face_id, "source": face_id})
    vectors = unit(len(rows))
    if grouped:
        by_person = sorted(range(len(rows)), key=lambda row: identity[row].encode())
        vectors, names = vectors[by_person], names.take(by_person)
    pq.write_table(names.append_column("v", LISTS["list"](vectors)), tmp_path / "in.parquet")
    options = ImportOptions(shard_rows=shard_rows, memory=memory)
    report = import_vectors(tmp_path / "in.parquet", tmp_path / "store", options, overwrite=True)
    check_store(tmp_path / "store", vectors, names)
    assert report.buckets == 0 or not grouped
    sizes = {}
    for person in sorted(identity, key=str.encode):
        sizes[person] = sizes.get(person, 0) + 1
    shards = [0]
    for size in sizes.values():
        if shards[-1] and shards[-1] + size > shard_rows:
            shards.append(0)
        shards[-1] += size
    assert [entry["rows"] for entry in Embeddings.open(tmp_path / "store").meta["shards"]] == shards


def test_an_identity_larger_than_the_memory_and_the_shard(tmp_path):
    vectors, names = unit(300), people(300, 20)
    identity = ["p07" if row % 3 else name for row, name in enumerate(names["identity"].to_pylist())]
    names = names.set_column(0, "identity", pa.array(identity))
    store, _ = imported(tmp_path, vectors, names, shard_rows=10, memory=TINY)
    check_store(store, vectors, names)
    assert max(entry["rows"] for entry in Embeddings.open(store).meta["shards"]) == identity.count("p07")


def test_a_store_comes_back_from_its_own_vectors(tmp_path):
    store, _ = imported(tmp_path / "one", 3 * unit(200, 128), people(200, 30))
    found = Embeddings.open(store)
    halves, faces = np.load(vectors_path(store, 0)), found.faces(0)
    rows = np.random.default_rng(1).permutation(200)
    again, report = imported(tmp_path / "two", halves[rows], faces.take(rows).drop_columns(["norm"]))
    assert Embeddings.open(again).sha256 == found.sha256
    assert report.normalised == 0
    straight = import_vectors(store, tmp_path / "three", ImportOptions())
    assert straight.buckets == 0
    assert Embeddings.open(tmp_path / "three").sha256 == found.sha256


# Vectors of no use


def test_what_has_no_direction_is_rejected_with_a_reason(tmp_path):
    vectors, names = unit(6), people(6, 2)
    vectors[1], vectors[2, 3], vectors[4, 0] = 0, np.nan, -np.inf
    column = pa.array([*vectors[:5], None], pa.list_(pa.float32()))
    pq.write_table(names.append_column("v", column), tmp_path / "in.parquet")
    options = ImportOptions(memory=1e-7, max_rejected=4 / 6)
    report = import_vectors(tmp_path / "in.parquet", tmp_path / "store", options)
    assert (report.rows, report.faces, report.rejected) == (6, 2, 4)
    rejected, _ = read_manifest(tmp_path / "store" / "rejected.parquet")
    reasons = {1: "the vector has length zero"}
    order = [row for row in in_order_of(names) if row not in (0, 3)]
    assert rejected["face_id"].to_pylist() == names["face_id"].take(order).to_pylist()
    assert rejected["reason"].to_pylist() == [reasons.get(row, "the vector is missing or not finite") for row in order]
    check_store(tmp_path / "store", vectors[[0, 3]], names.take([0, 3]))
    assert Embeddings.open(tmp_path / "store").meta["rejected"] == 4


def test_nothing_rejected_is_said_by_an_empty_list(tmp_path):
    store, _ = imported(tmp_path, unit(5), people(5, 2))
    assert read_manifest(store / "rejected.parquet")[0].to_pydict() == {
        "face_id": [],
        "identity": [],
        "source": [],
        "reason": [],
    }


def test_too_many_rejected_are_a_wrong_input(tmp_path):
    labels = as_csv(tmp_path / "l.csv", people(300, 30))
    raw = np.arange(1, 1201, dtype=np.float32).reshape(300, 4)
    raw[[7, 8, 9, 10]] = 0
    vectors = as_npy(tmp_path / "v.npy", raw)
    last = sorted(
        zip(*people(300, 30).select(["identity", "face_id"]).take([7, 8, 9, 10]).to_pydict().values(), strict=True)
    )
    assert refusal(vectors, tmp_path / "store", ImportOptions(), labels=labels) == (
        f"4 of 300 vectors rejected so far, more than --max-rejected 0.01 allows; last {last[-1][1]}: the vector has "
        "length zero; see whether they were written as another type, or allow more: rejected.parquet then lists them"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "v.npy"]
    done = import_vectors(vectors, tmp_path / "store", ImportOptions(max_rejected=4 / 300), labels=labels)
    assert (done.rows, done.rejected) == (300, 4)


def test_all_rejected(tmp_path):
    labels = as_csv(tmp_path / "l.csv", people(5, 2))
    vectors = as_npy(tmp_path / "v.npy", np.zeros((5, 4), np.float32))
    assert refusal(vectors, tmp_path / "store", ImportOptions(max_rejected=1), labels=labels) == (
        f"none of the 5 vectors of {vectors} is finite and not zero; give others"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.csv", "v.npy"]


def test_lengths_at_the_edge_of_what_floats_can_say():
    raw = np.array([[3, 4], [1e30, 0], [1e-30, 1e-30], [0, 0], [np.nan, 1], [1e200, 1e200], [1e-100, 0]])
    with np.errstate(all="raise"):
        halves, norms = unit_rows(raw)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        halves, [[0.6, 0.8], [1, 0], [half, half], [0, 0], [0, 0], [0, 0], [1, 0]], rtol=0, atol=3e-4
    )
    limits = np.finfo(np.float32)
    np.testing.assert_array_equal(
        norms, np.array([5, 1e30, 1e-30 * np.sqrt(2), 0, np.nan, np.nan, limits.tiny], np.float32)
    )


def test_unit_rows_are_left_alone_and_others_are_not():
    raw = np.array([[1.0008, 0], [1.002, 0]], np.float32)
    halves, norms = unit_rows(raw)
    assert halves[:, 0].tolist() == [float(np.float16(1.0008)), 1]
    assert norms.tolist() == raw[:, 0].tolist()


def test_rows_do_not_depend_on_their_neighbours():
    raw = np.random.default_rng(0).standard_normal((1200, 100)).astype(np.float32)
    halves, norms = unit_rows(raw)
    for start, stop in [(0, 1), (3, 700), (1000, 1200)]:
        part = unit_rows(raw[start:stop])
        np.testing.assert_array_equal(part[0], halves[start:stop])
        np.testing.assert_array_equal(part[1], norms[start:stop])


# Whole or not at all


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(run, "write_meta", fail)
    with pytest.raises(OSError, match="disk full"):
        imported(tmp_path, unit(50), people(50, 7), memory=TINY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "v.npy"]


def test_a_failure_leaves_the_old_store(tmp_path, monkeypatch):
    store, _ = imported(tmp_path, unit(50), people(50, 7))
    before = files_of(store)
    monkeypatch.setattr(run, "write_meta", None)
    with pytest.raises(TypeError):
        imported(tmp_path, unit(60), people(60, 7))
    assert files_of(store) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "store", "v.npy"]


def test_what_a_killed_import_left_is_cleared(tmp_path):
    (tmp_path / "store.part" / "buckets").mkdir(parents=True)
    (tmp_path / "store.part" / "buckets" / "0.halves").write_bytes(b"x")
    store, _ = imported(tmp_path, unit(50), people(50, 7))
    check_store(store, unit(50), people(50, 7))
    assert not (tmp_path / "store.part").exists()


def test_where_a_store_cannot_be_made(tmp_path):
    out, labels = tmp_path / "store", as_csv(tmp_path / "l.csv", people(5, 2))
    vectors = as_npy(tmp_path / "v.npy", unit(5))
    import_vectors(vectors, out, ImportOptions(), labels=labels)
    assert refusal(vectors, out, ImportOptions(), labels=labels) == (
        f"{out} exists; choose another --out, or add --overwrite to replace it"
    )
    (out / "notes.txt").write_text("mine")
    for overwrite in (True, False):
        assert refusal(vectors, out, ImportOptions(), labels=labels, overwrite=overwrite) == (
            f"{out} holds other files and is not an embedding store; choose another --out"
        )
    clip = clip_retrieval(tmp_path / "clip", unit(50), people(50, 7))
    assert refusal(clip, clip, ImportOptions(), overwrite=True) == (
        f"{clip} has no meta.json: it may be vectors of clip-retrieval, no store; choose another --out"
    )
    assert refusal(vectors, labels, ImportOptions(), labels=labels) == (
        f"{labels} is a file; choose another --out, a folder to be made"
    )
    (tmp_path / "other.part").mkdir()
    (tmp_path / "other.part" / "mine").write_text("x")
    assert refusal(vectors, tmp_path / "other", ImportOptions(), labels=labels) == (
        f"{tmp_path / 'other.part'}, where the store would be made, holds other files; choose another --out"
    )


def test_no_input_is_replaced(tmp_path):
    store, _ = imported(tmp_path, unit(50), people(50, 7), shard_rows=20)
    before = Embeddings.open(store).sha256
    vectors, labels, out = vectors_path(store, 0), metadata_path(store, 0), tmp_path / "x" / ".." / "store"
    mine = as_npy(tmp_path / "mine.npy", unit(5))
    for inputs, line in (
        ((store, None, None), "is what is imported, and"),
        ((vectors, labels, None), f"holds {vectors}, which is imported, and"),
        ((mine, labels, None), f"holds {labels}, which is imported, and"),
        ((mine, mine, store / "img_emb"), f"holds {store / 'img_emb'}, which is imported, and"),
    ):
        source, names, images = inputs
        assert refusal(source, out, ImportOptions(), labels=names, images=images, overwrite=True) == (
            f"{out} {line} would be replaced; choose another --out"
        )
    killed = tmp_path / "store.part" / "replaced"  # between the two renames
    killed.parent.mkdir()
    store.rename(killed)
    assert refusal(killed, store, ImportOptions()) == (
        f"{killed.parent} holds {killed}, which is imported, and would be replaced; choose another --out"
    )
    assert Embeddings.open(killed).sha256 == before


# Every refusal is one line


def npy_refusal(tmp_path, vectors, names, **options):
    labels = as_csv(tmp_path / "l.csv", names)
    return refusal(as_npy(tmp_path / "v.npy", vectors), tmp_path / "s", ImportOptions(**options), labels=labels)


def test_rows_that_differ(tmp_path):
    for rows in (4, 6):
        assert npy_refusal(tmp_path, unit(rows), people(5, 2)) == (
            f"{tmp_path / 'v.npy'} has {rows} rows, but {tmp_path / 'l.csv'} 5; give as many of both, in one order"
        )


def test_what_is_no_vector(tmp_path):
    for vectors in (np.zeros(5, np.float32), np.zeros((5, 2), np.int8), np.zeros((5, 0), np.float16)):
        assert npy_refusal(tmp_path, vectors, people(5, 2)) == (
            f"{tmp_path / 'v.npy'} is {vectors.dtype} of shape {vectors.shape}; "
            "vectors are float16, float32 or float64 of shape (rows, dimension)"
        )


def test_a_face_id_twice(tmp_path):
    names = people(5, 2)
    twice = names.set_column(1, "face_id", pa.array(["b", "a", "a", "b", "a"]))
    assert npy_refusal(tmp_path, unit(5), twice) == (
        f"2 face_ids more than once in {tmp_path / 'l.csv'}: first a, 3 times; each face needs its own"
    )
    (tmp_path / "set").mkdir()
    for name in ("0.parquet", "1.parquet"):  # once in each, so neither is to blame alone
        pq.write_table(people(1, 1).append_column("v", LISTS["list"](unit(1))), tmp_path / "set" / name)
    options = ImportOptions(vector_column="v")
    assert refusal(tmp_path / "set", tmp_path / "s", options) == (
        f"1 face_id more than once in {tmp_path / 'set' / '0.parquet'} and those beside it: "
        "first p00/000, 2 times; each face needs its own"
    )


def test_equal_hashes_are_not_equal_names(tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.importing.survey.hash", lambda name: 7, raising=False)
    store, _ = imported(tmp_path, unit(50), people(50, 7))
    check_store(store, unit(50), people(50, 7))


@pytest.mark.parametrize("column", ["identity", "face_id", "source"])
@pytest.mark.parametrize("nothing", [None, ""])
def test_a_name_that_is_missing(tmp_path, column, nothing):
    names = people(9000, 20)
    at = names.column_names.index(column)
    values = names[column].to_pylist()
    values[8500] = nothing
    table = names.set_column(at, column, pa.array(values)).append_column("v", LISTS["list"](unit(9000)))
    pq.write_table(table, tmp_path / "in.parquet")
    assert refusal(tmp_path / "in.parquet", tmp_path / "s", ImportOptions()) == (
        f"{tmp_path / 'in.parquet'}: row 8,500, counted from 0, has no {column}; give it one, or leave the row out"
    )


def test_a_name_that_is_no_name(tmp_path):
    table = people(3, 1).set_column(0, "identity", pa.array([1.0, np.nan, 2.0]))
    pq.write_table(table, tmp_path / "l.parquet")
    vectors = as_npy(tmp_path / "v.npy", unit(3))
    assert refusal(vectors, tmp_path / "s", ImportOptions(), labels=tmp_path / "l.parquet") == (
        f"{tmp_path / 'l.parquet'}: column identity is double; names are strings or whole numbers, so cast it"
    )
    np.save(tmp_path / "l.npy", np.array([1.0, np.nan, 2.0]))
    assert refusal(vectors, tmp_path / "s", ImportOptions(), labels=tmp_path / "l.npy") == (
        f"{tmp_path / 'l.npy'} cannot be read: labels are one string or whole number a row, not float64 of shape (3,); "
        "write it again as .npy"
    )


def test_columns_that_are_not_there(tmp_path):
    names = people(3, 1).rename_columns(["who", "face_id", "source"])
    assert npy_refusal(tmp_path, unit(3), names) == (
        f"{tmp_path / 'l.csv'} has no column identity, but who, face_id, source; choose by --identity-column"
    )
    assert npy_refusal(tmp_path, unit(3), names, identity_column="who", face_id_column="key") == (
        f"{tmp_path / 'l.csv'} has no column key, but who, face_id, source; choose by --face-id-column"
    )


def test_which_column_holds_the_vectors(tmp_path):
    path, out, names = tmp_path / "in.parquet", tmp_path / "s", people(3, 1)
    pq.write_table(names, path)
    assert refusal(path, out, ImportOptions()) == (
        f"{path}: columns that can hold vectors: there is none; choose by --vector-column"
    )
    two = names.append_column("a", LISTS["list"](unit(3))).append_column("b", LISTS["binary"](unit(3)))
    pq.write_table(two, path)
    assert refusal(path, out, ImportOptions()) == (
        f"{path}: columns that can hold vectors: a, b; choose by --vector-column"
    )
    assert refusal(path, out, ImportOptions(vector_column="source")) == (
        f"{path}: column source is string; vectors are lists of floats, or bytes: a, b"
    )
    assert refusal(path, out, ImportOptions(vector_column="c")) == (
        f"{path}: column c is not there; vectors are lists of floats, or bytes: a, b"
    )
    assert refusal(path, out, ImportOptions(vector_column="a", dtype="float16"), error=OptionError) == (
        "dtype is of the bytes in a binary column, but a is a list; leave it out"
    )


def test_what_the_bytes_of_a_vector_are(tmp_path):
    path, out, names = tmp_path / "in.parquet", tmp_path / "s", people(30, 5)

    def write(rows):
        pq.write_table(names.append_column("v", pa.array([row.tobytes() for row in rows])), path)

    for dtype in (np.float16, np.float32):  # neither needs to be told
        write(unit(30, 64, dtype=dtype))
        import_vectors(path, out, ImportOptions(), overwrite=True)
        check_store(out, unit(30, 64, dtype=dtype).astype(np.float64), names)
    long = 9 * unit(30, 64)
    write(long)
    assert refusal(path, out, ImportOptions(), overwrite=True) == (
        f"{path}: column v has 256 bytes a row, of float16 or of float32; say which by --dtype"
    )
    import_vectors(path, out, ImportOptions(dtype="float32"), overwrite=True)
    check_store(out, long.astype(np.float64), names)
    for dtype, other in (("float16", "float32"), ("float32", "float16")):
        write(unit(30, 64, dtype=dtype))  # read as the other, what is finite would be nonsense
        assert refusal(path, out, ImportOptions(dtype=other), overwrite=True) == (
            f"{path}: column v holds vectors of unit length as {dtype}, not as {other}; leave --dtype out"
        )
    write(long[:, :5].astype(np.float16))  # 10 bytes are no floats
    import_vectors(path, out, ImportOptions(), overwrite=True)
    check_store(out, long[:, :5].astype(np.float16).astype(np.float64), names)
    assert refusal(path, out, ImportOptions(dtype="float32"), overwrite=True) == (
        f"{path}: column v has 10 bytes a row, no whole number of float32; change --dtype"
    )


@pytest.mark.parametrize("option", ["identity_column", "face_id_column", "source_column"])
def test_vectors_are_no_names(option, tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(people(3, 1).append_column("v", pa.array([[1.0], [2.0], [3.0]])), path)
    assert refusal(path, tmp_path / "s", ImportOptions(**{option: "v"}), error=OptionError) == (
        f"{option} is the column of names, but v holds the vectors; name another"
    )


def test_vectors_of_two_networks(tmp_path):
    path, names = tmp_path / "in.parquet", people(3, 1)
    for column, what in (([[1.0], [2.0], [3.0, 4.0]], "2 numbers, but the first has 1"),):
        pq.write_table(names.append_column("v", pa.array(column)), path)
        assert refusal(path, tmp_path / "s", ImportOptions()) == (
            f"{path}: column v: row 2, counted from 0, has a vector of {what}; "
            "all must come from one network, so leave the row out"
        )
    clip = clip_retrieval(tmp_path / "clip", unit(50), people(50, 7))
    np.save(clip / "img_emb" / "img_emb_1.npy", unit(20, 8))
    assert refusal(clip, tmp_path / "s", ImportOptions()) == (
        f"{clip / 'img_emb' / 'img_emb_1.npy'} has 8 numbers a row, but {clip / 'img_emb' / 'img_emb_0.npy'} 4; "
        "all must come from one network"
    )


def test_no_vectors_at_all(tmp_path):
    path, out = tmp_path / "in.parquet", tmp_path / "s"
    nothing = people(3, 1).append_column("v", pa.array([None] * 3, pa.list_(pa.float32())))
    pq.write_table(nothing, path)
    assert refusal(path, out, ImportOptions()) == f"{path}: column v holds no vectors; choose by --vector-column"
    empty = people(3, 1).append_column("v", pa.array([[]] * 3, pa.list_(pa.float32())))
    pq.write_table(empty, path)
    assert refusal(path, out, ImportOptions()) == (
        f"{path}: column v begins with a vector of no numbers; choose by --vector-column"
    )
    assert (
        npy_refusal(tmp_path, unit(0), people(0, 1))
        == f"{tmp_path / 'v.npy'} holds no rows; there is nothing to import"
    )


FORMS = "give a .npy file with --labels, Parquet (a file or a folder), or a folder with img_emb/ and metadata/"


def test_what_is_no_input(tmp_path):
    out, options, here = tmp_path / "s", ImportOptions(), tmp_path / "in"
    assert refusal(here, out, options) == f"no vectors at {here}; {FORMS}"
    here.mkdir()
    line = f"{here} is none of the forms that are read; {FORMS}"
    assert refusal(here, out, options) == line
    archive = tmp_path / "v.npz"
    np.savez(archive, unit(3))
    for labels in (None, archive):  # to leave the labels out would not help
        assert refusal(archive, out, options, labels=labels) == (
            f"{archive} is none of the forms that are read; {FORMS}"
        )
    (here / "img_emb").mkdir()
    assert refusal(here, out, options) == f"{here / 'img_emb'} holds no img_emb_N.npy; give another folder"
    np.save(here / "img_emb" / "img_emb_3.npy", unit(3))
    assert refusal(here, out, options) == (
        f"{here / 'img_emb' / 'img_emb_3.npy'} has no partner; every img_emb_N.npy needs its metadata_N.parquet"
    )
    vectors = as_npy(tmp_path / "v.npy", unit(3))
    assert refusal(vectors, out, options, error=OptionError) == (
        f"nothing says whose faces are in {vectors}; add --labels FILE"
    )
    assert refusal(here, out, options, labels=vectors, error=OptionError) == (
        f"labels describe a .npy file, but {here} is none; leave --labels out"
    )
    assert refusal(vectors, out, ImportOptions(vector_column="v"), labels=vectors, error=OptionError) == (
        f"vector_column is about a column of Parquet, but {vectors} is an array; leave it out"
    )
    assert refusal(vectors, out, options, labels=here) == (
        f"{here} is no file of labels; give a .npy, .txt, .csv or .parquet file"
    )
    assert refusal(vectors, out, options, labels=here / "x.csv") == (
        f"no labels at {here / 'x.csv'}; give a file that says whose face each row is"
    )
    assert refusal(vectors, out, options, labels=vectors, images=here / "x") == (
        f"no images at {here / 'x'}; --images is the root that sources are relative to"
    )


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".csv", ".txt"])
def test_files_that_are_not_what_they_are_called(tmp_path, suffix):
    labels = tmp_path / f"l{suffix}"
    labels.write_bytes(b"\xff\xfe,\n\x00\xff" * 20)
    line = refusal(as_npy(tmp_path / "v.npy", unit(3)), tmp_path / "s", ImportOptions(), labels=labels)
    if suffix == ".txt":
        assert line == f"{labels} holds names that are not UTF-8; save it as such"
    else:
        assert line.startswith((f"{labels} cannot be read: ", f"{labels} has no column identity, but"))
    assert "\n" not in line
    if suffix in (".npy", ".parquet"):
        assert refusal(labels, tmp_path / "s", ImportOptions(), labels=labels if suffix == ".npy" else None) == line


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt"])
def test_names_that_are_not_utf8(tmp_path, suffix):
    labels = tmp_path / f"l{suffix}"
    labels.write_bytes(b"identity\ncaf\xe9\n")
    if suffix == ".npy":
        as_npy(labels, np.array([b"ann", b"caf\xe9"]))
    vectors = as_npy(tmp_path / "v.npy", unit(1 if suffix == ".csv" else 2))
    line = refusal(vectors, tmp_path / "s", ImportOptions(), labels=labels)
    assert line == f"{labels} holds names that are not UTF-8; save it as such"


def test_vectors_alone(tmp_path):
    pq.write_table(pa.table({"v": LISTS["list"](unit(2))}), tmp_path / "v.parquet")
    assert refusal(tmp_path / "v.parquet", tmp_path / "s", ImportOptions()) == (
        f"{tmp_path / 'v.parquet'} has no column but that of the vectors; add one that says whose face each row is"
    )


def test_a_column_that_is_there_twice(tmp_path):
    labels, vectors = tmp_path / "l.csv", as_npy(tmp_path / "v.npy", unit(2))
    labels.write_text("identity,age,identity\nann,1,bo\nann,2,bo\n")
    line = "has 2 columns identity; leave one of them"
    assert refusal(vectors, tmp_path / "s", ImportOptions(), labels=labels) == f"{labels} {line}"
    twice = pa.table(
        [pa.array(["ann", "ann"]), pa.array(["bo", "bo"]), LISTS["list"](unit(2))], ["identity"] * 2 + ["v"]
    )
    pq.write_table(twice, tmp_path / "v.parquet")
    assert refusal(tmp_path / "v.parquet", tmp_path / "s", ImportOptions()) == f"{tmp_path / 'v.parquet'} {line}"


def test_a_file_without_a_column_of_the_first(tmp_path):
    clip = clip_retrieval(tmp_path / "in", unit(50), people(50, 7))
    path = clip / "metadata" / "metadata_1.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["source"]), path)
    assert refusal(clip, tmp_path / "s", ImportOptions()) == (
        f"{path} cannot be read: it has no column source, as the first file has; write it again as .parquet"
    )


def test_a_column_of_another_type_than_in_the_first_file(tmp_path):
    names = people(50, 7).append_column("age", pa.array(range(50)))
    clip = clip_retrieval(tmp_path / "in", unit(50), names)
    path = clip / "metadata" / "metadata_1.parquet"
    old = names.set_column(3, "age", pa.array([str(age) for age in range(50)]))  # numbers, as text
    pq.write_table(old.slice(20, 20), path)
    import_vectors(clip, tmp_path / "s", ImportOptions())
    check_store(tmp_path / "s", unit(50), names)
    pq.write_table(old.set_column(3, "age", pa.array(["old"] * 50)).slice(20, 20), path)
    assert refusal(clip, tmp_path / "t", ImportOptions()) == (
        f"{path}: column age is string, but int64 in the first file; make it so"
    )


def test_options_that_cannot_be():
    for options, line in [
        ({"dtype": "int8"}, "dtype is one of float16, float32; got int8"),
        ({"shard_rows": 0}, "shard_rows must be at least 1, got 0"),
        ({"memory": 0}, "memory is a finite number of GB, at least 1e-9, a byte; got 0"),
        ({"memory": 1e-12}, "memory is a finite number of GB, at least 1e-9, a byte; got 1e-12"),
        ({"memory": float("inf")}, "memory is a finite number of GB, at least 1e-9, a byte; got inf"),
        ({"memory": float("nan")}, "memory is a finite number of GB, at least 1e-9, a byte; got nan"),
    ]:
        with pytest.raises(OptionError) as caught:
            ImportOptions(**options)
        assert str(caught.value) == line


# What comes after


def test_an_imported_store_is_a_store(tmp_path):
    store, _ = imported(tmp_path, unit(200), people(200, 30))
    labels = tmp_path / "labels.csv"
    import_vectors(tmp_path / "v.npy", store, ImportOptions(), labels=labels, images=tmp_path, overwrite=True)
    select(store, Nms(), keep=0.6, out=tmp_path / "subset.parquet")
    kept, made = read_manifest(tmp_path / "subset.parquet")
    assert len(kept) == 120
    assert made.facts["root"] == tmp_path.as_posix()
    assert "model" not in made.facts


def test_nothing_heavy_is_imported():
    program = (
        "import sys, facecore.importing; print({'torch', 'onnx', 'onnxruntime', 'pandas', 'faiss'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("rows", [200, 301, -30])
def test_a_head_that_tells_of_other_bytes_than_follow_is_not_believed(tmp_path, rows):
    path, labels = tmp_path / "v.npy", tmp_path / "l.txt"
    np.save(path, np.ones((300, 4), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(300, 4), }", f"({rows:>3}, 4), }}".encode()))
    labels.write_text("ann\n" * abs(rows))
    size, told = path.stat().st_size, path.stat().st_size + (rows - 300) * 16
    with pytest.raises(DataError) as error:
        import_vectors(path, tmp_path / "out", ImportOptions(), labels=labels)
    said = f"it has {size:,} bytes, and its head tells of {told:,}; write it again as .npy"
    assert str(error.value) == f"{path} cannot be read: {said}"
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_array_is_not_to_be_trusted(tmp_path):
    (tmp_path / "junk.npy").write_bytes(b"junk, and more of it")
    np.save(tmp_path / "objects.npy", np.array([{}, []], object))
    for name, line in (("junk", "it is no .npy file"), ("objects", "it holds Python objects, which are not loaded")):
        with pytest.raises(DataError) as error:
            import_vectors(tmp_path / f"{name}.npy", tmp_path / "out", ImportOptions(), labels=tmp_path / "labels.txt")
        assert str(error.value) == (f"{tmp_path / name}.npy cannot be read: {line}; write it again as .npy")
