"""The embedding store: its invariants, and the line for each way to break one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from geometry import random_faces, shard_of, split, write_store

from facecore.compiled import widen_rows
from facecore.embeddings import (
    Buffers,
    Embeddings,
    identity_starts,
    metadata_path,
    vectors_path,
    write_meta,
    write_shard,
)
from facecore.errors import DataError
from facecore.provenance import Provenance

MADE = Provenance("test")
PEOPLE = [["a", "a", "b"], [], ["c"]]  # of each shard

WRITE_AGAIN = "run facecore embed again, with --overwrite if it refuses"


def unit(n, seed=0, dimension=8):
    rows = np.random.default_rng(seed).standard_normal((n, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def faces_of(people, start=0):
    names = [f"{person}/{start + i}" for i, person in enumerate(people)]
    columns = {"face_id": names, "identity": people, "source": names}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return table.append_column("norm", pa.array(np.ones(len(people)), pa.float32()))


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "store"
    for number, people in enumerate(PEOPLE):
        write_shard(path, number, unit(len(people), number), faces_of(people), MADE)
    write_meta(path, {"model": "x"}, dimension=8, shards=3)
    return path


def refusal(do, *arguments):
    with pytest.raises(DataError) as caught:
        do(*arguments)
    return str(caught.value)


def test_there_and_back(store):
    found = Embeddings.open(store)
    assert (found.rows, found.identities, found.dimension, len(found)) == (4, 3, 8, 3)
    assert found.meta["model"] == "x"
    shards = [found.shard(number) for number in range(3)]
    assert [(len(shard), shard.identities) for shard in shards] == [(3, 2), (0, 0), (1, 1)]
    assert [shard.starts.tolist() for shard in shards] == [[0, 2, 3], [0], [0, 1]]
    for number, (shard, people) in enumerate(zip(shards, PEOPLE, strict=True)):
        assert shard.vectors.dtype == np.float32
        np.testing.assert_allclose(shard.vectors, unit(len(people), number), atol=1e-3)
        assert found.faces(number).equals(faces_of(people))
        assert found.faces(number).schema.metadata is None
    assert found.faces(0, ["identity"]).to_pydict() == {"identity": ["a", "a", "b"]}
    assert [(shard.first, shard.first_identity) for shard in shards] == [(0, 0), (3, 2), (3, 2)]


def test_other_tools_can_read_the_layout(store):
    assert sorted(path.relative_to(store).as_posix() for path in store.rglob("*.*")) == [
        "img_emb/img_emb_00000.npy",
        "img_emb/img_emb_00001.npy",
        "img_emb/img_emb_00002.npy",
        "meta.json",
        "metadata/metadata_00000.parquet",
        "metadata/metadata_00001.parquet",
        "metadata/metadata_00002.parquet",
    ]
    vectors = np.load(vectors_path(store, 0))
    assert (vectors.dtype, vectors.flags.c_contiguous) == (np.float16, True)


def test_equal_stores_have_equal_bytes(store, tmp_path):
    other = tmp_path / "other"
    for number, people in enumerate(PEOPLE):
        write_shard(other, number, np.asfortranarray(unit(len(people), number)), faces_of(people), MADE)
    write_meta(other, {"model": "x"}, dimension=8, shards=3)
    for path in store.rglob("*.*"):
        assert (other / path.relative_to(store)).read_bytes() == path.read_bytes()
    assert Embeddings.open(other).sha256 == Embeddings.open(store).sha256


def test_sha256_is_of_the_content_not_of_the_cut(store, tmp_path):
    other = tmp_path / "other"
    write_shard(other, 0, np.concatenate([unit(3, 0), unit(1, 2)]), pa.concat_tables(map(faces_of, PEOPLE)), MADE)
    write_meta(other, {}, dimension=8, shards=1)
    assert Embeddings.open(other).sha256 == Embeddings.open(store).sha256
    write_shard(other, 0, np.concatenate([unit(3, 0), unit(1, 3)]), pa.concat_tables(map(faces_of, PEOPLE)), MADE)
    write_meta(other, {}, dimension=8, shards=1)
    assert Embeddings.open(other).sha256 != Embeddings.open(store).sha256


def test_no_store(tmp_path):
    assert (
        refusal(Embeddings.open, tmp_path / "x") == f"no embedding store at {tmp_path / 'x'}; facecore embed writes one"
    )


def test_no_meta(store):
    (store / "meta.json").unlink()
    assert refusal(Embeddings.open, store) == (f"{store} is no whole store, meta.json is missing; {WRITE_AGAIN}")


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.pop("rows"),
        lambda meta: meta.pop("shards"),
        lambda meta: meta.pop("identities"),
        lambda meta: meta.pop("content"),
        lambda meta: meta.update(rows=5),
        lambda meta: meta.update(dimension=0),
        lambda meta: meta.update(shards=[{}]),
        lambda meta: meta.update(shards=3),
    ],
)
def test_damaged_meta(store, change):
    meta = json.loads((store / "meta.json").read_text())
    change(meta)
    (store / "meta.json").write_text(json.dumps(meta))
    assert refusal(Embeddings.open, store) == (f"{store / 'meta.json'} is damaged; {WRITE_AGAIN}")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"'])
def test_meta_of_something_else(store, text):
    (store / "meta.json").write_text(text)
    assert refusal(Embeddings.open, store) == (f"{store / 'meta.json'} is damaged; {WRITE_AGAIN}")


@pytest.mark.parametrize("where", [vectors_path, metadata_path])
@pytest.mark.parametrize("what", ["gone", "cut", "junk"])
def test_a_damaged_shard(store, where, what):
    path = where(store, 2)
    data = path.read_bytes()
    path.unlink()
    if what != "gone":
        path.write_bytes(data[:-5] if what == "cut" else b"junk")
    left = metadata_path(store, 2) if metadata_path(store, 2).exists() else "what is left of it"
    assert refusal(Embeddings.open, store) == (
        f"shard 2 of {store} is missing or damaged; "
        f"delete {left} and run facecore embed again, it redoes only that shard"
    )


def test_rows_that_do_not_match(store):
    np.save(vectors_path(store, 0), unit(2))
    assert refusal(Embeddings.open, store) == (
        f"{vectors_path(store, 0)} holds 2 rows and metadata_00000.parquet 3, but meta.json says 3; "
        "delete both and run facecore embed again, it redoes only that shard"
    )
    np.save(vectors_path(store, 0), unit(3))
    pq.write_table(faces_of(["a"]), metadata_path(store, 0))
    assert refusal(Embeddings.open, store) == (
        f"{vectors_path(store, 0)} holds 3 rows and metadata_00000.parquet 1, but meta.json says 3; "
        "delete both and run facecore embed again, it redoes only that shard"
    )


@pytest.mark.parametrize("shape", [(3, 4), (3,), (), (3, 8, 1)])
def test_vectors_of_another_dimension(store, shape):
    np.save(vectors_path(store, 0), np.zeros(shape, np.float16))
    assert refusal(Embeddings.open, store) == (
        f"{vectors_path(store, 0)} has the shape {shape} of float16, but meta.json says 8 float16 numbers a face; "
        "delete it and run facecore embed again, it redoes only that shard"
    )


@pytest.mark.parametrize(("row", "length"), [(0, 0.5), (1, 0), (2, np.nan), (1, 1.01)])
def test_rows_that_are_not_unit_length(store, row, length):
    vectors = unit(3).astype(np.float32)
    vectors[row] *= length
    np.save(vectors_path(store, 0), vectors.astype(np.float16))
    found = np.linalg.norm(vectors.astype(np.float16).astype(np.float32), axis=1)[row]
    assert refusal(Embeddings.open(store).shard, 0) == (
        f"{vectors_path(store, 0)}: row {row} has length {found:.4f}, not 1; "
        "delete it and run facecore embed again, it redoes only that shard"
    )


def test_a_store_that_may_not_be_read_is_not_called_damaged(store, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: "img_emb_00002" not in str(path))
    assert refusal(Embeddings.open, store) == f"{vectors_path(store, 2)} may not be read; change its permissions"


def test_an_imported_store_without_meta_json_is_not_embedded_again(store):
    faces = faces_of(PEOPLE[0])
    write_shard(store, 0, unit(len(faces)), faces, Provenance("import", {}))
    again = "delete the store and run facecore import again"
    (store / "meta.json").write_text("{")
    assert refusal(Embeddings.open, store) == f"{store / 'meta.json'} is damaged; {again}"
    (store / "meta.json").unlink()
    assert refusal(Embeddings.open, store) == f"{store} is no whole store, meta.json is missing; {again}"
    metadata_path(store, 0).write_bytes(b"")  # which tells no more
    assert refusal(Embeddings.open, store) == f"{store} is no whole store, meta.json is missing; {WRITE_AGAIN}"


def test_a_store_of_nobody(tmp_path):
    def nobody(**facts):
        write_meta(tmp_path, facts, dimension=8, shards=0)
        return refusal(Embeddings.check_faces, Embeddings.open(tmp_path))

    (tmp_path / "img_emb").mkdir()
    rejected = f"{tmp_path} holds no faces; see {tmp_path / 'rejected.parquet'} for why"
    assert nobody() == nobody(rejected=2) == nobody(rejected=1, forgotten=3) == rejected
    assert nobody(rejected=0, forgotten=3) == f"{tmp_path} holds no faces; all were forgotten, so choose another"


def test_an_imported_store_is_not_embedded_again(store):
    write_meta(store, {"stage": "import"}, dimension=8, shards=3)
    sound, again = vectors_path(store, 2).read_bytes(), "run facecore import --overwrite"
    vectors_path(store, 2).write_bytes(sound[:-1])
    assert refusal(Embeddings.open, store) == f"shard 2 of {store} is missing or damaged; {again}"
    vectors_path(store, 2).write_bytes(sound)
    np.save(vectors_path(store, 0), unit(2).astype(np.float16))
    assert refusal(Embeddings.open, store) == (
        f"{vectors_path(store, 0)} holds 2 rows and metadata_00000.parquet 3, but meta.json says 3; {again}"
    )
    np.save(vectors_path(store, 0), np.zeros((3, 8), np.float16))
    line = f"{vectors_path(store, 0)}: row 0 has length 0.0000, not 1; {again}"
    assert refusal(Embeddings.open(store).shard, 0) == line


def test_halves_of_many_dimensions_are_near_enough_to_unit_length(tmp_path):
    for dimension in (2, 128, 512, 2048):
        store = tmp_path / str(dimension)
        write_shard(store, 0, unit(500, 1, dimension), faces_of(["a"] * 500), MADE)
        write_meta(store, {}, dimension=dimension, shards=1)
        np.testing.assert_allclose(np.linalg.norm(Embeddings.open(store).shard(0).vectors, axis=1), 1, atol=1e-6)


def test_a_scattered_identity(store, tmp_path):
    pq.write_table(faces_of(["a", "b", "a"]), metadata_path(store, 0))
    assert refusal(Embeddings.open(store).shard, 0) == (
        f"{metadata_path(store, 0)}: an identity is not in one piece; sort the rows by identity"
    )


def test_a_column_short(store):
    pq.write_table(faces_of(["a", "a", "b"]).drop_columns(["source"]), metadata_path(store, 0))
    assert refusal(Embeddings.open(store).shard, 0) == (
        f"{metadata_path(store, 0)} has no column source; run facecore embed --overwrite"
    )


def test_identity_starts_against_counting(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, 30)
    people = [f"{i:02d}" for i, count in enumerate(counts) for _ in range(count)]
    assert identity_starts(faces_of(people)["identity"], tmp_path).tolist() == [0, *np.cumsum(counts).tolist()]


def test_an_identity_over_two_shards_is_refused(tmp_path):
    faces = random_faces(0, [3, 4])
    left, right = split(faces, [1])
    store = write_store(tmp_path / "store", [right, left])
    with pytest.raises(DataError) as error:
        Embeddings.open(store)
    assert str(error.value) == (
        f"{store}: identity p000 comes after p001 of the shard before, so it may span both; "
        "run facecore embed --overwrite"
    )


def test_the_hash_is_of_what_is_stored_not_of_the_shards(tmp_path):
    faces = random_faces(0, [3, 4, 2])
    whole = Embeddings.open(write_store(tmp_path / "whole", [faces]))
    cut = Embeddings.open(write_store(tmp_path / "cut", split(faces, [1, 2])))
    other = Embeddings.open(write_store(tmp_path / "other", [shard_of(faces.vectors, "aaabbbbbc")]))
    assert whole.sha256 == cut.sha256 != other.sha256


@pytest.mark.parametrize("rows", [1, 4, 7, 100])
def test_pieces_are_whole_identities_and_together_the_store(tmp_path, rows):
    faces = random_faces(0, [3, 4, 1, 9, 2])
    store = Embeddings.open(write_store(tmp_path / "store", split(faces, [2, 3])))
    pieces = store.pieces(rows=rows)
    assert all(len(piece) <= rows or len(piece.starts) == 2 for piece in pieces)
    buffers, row, identity = Buffers(), 0, 0
    for piece in pieces:
        shard = store.read(piece, buffers)
        assert (shard.first, shard.first_identity) == (row, identity)
        assert (shard.starts + row).tolist() == faces.starts[identity : identity + shard.identities + 1].tolist()
        stored = faces.vectors[row : row + len(shard)].astype(np.float16).astype(np.float64)
        np.testing.assert_allclose(
            shard.vectors, stored / np.linalg.norm(stored, axis=1, keepdims=True), atol=2e-7, rtol=0
        )
        row, identity = row + len(shard), identity + shard.identities
    assert (row, identity) == (19, 5)


def test_every_half_is_widened_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = bits.view(np.float16)[np.isfinite(bits.view(np.float16))]
    rows = np.empty((len(finite), 2), np.float32)
    assert widen_rows(np.stack([finite, np.ones_like(finite)], 1), rows, tolerance=np.inf) == -1
    np.testing.assert_allclose(rows[:, 0] / rows[:, 1], finite.astype(np.float32), rtol=3e-7)  # normalising rounds


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_found(value):
    halves = np.array([[0.6, 0.8], [0.6, value], [1, 0]], np.float16)
    assert widen_rows(halves, np.empty((3, 2), np.float32), tolerance=2e-3) == 1


def test_an_identity_renamed_behind_our_back(store):
    faces = pq.read_table(metadata_path(store, 0))
    pq.write_table(faces.set_column(1, "identity", pa.array(["a", "b", "c"])), metadata_path(store, 0))
    assert refusal(Embeddings.open(store).pieces) == (
        f"{metadata_path(store, 0)} holds 3 identities, but meta.json says 2: it was changed; put back what it was"
    )
