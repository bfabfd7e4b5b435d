"""Embedding a data set: plan, resume, rejections; against a network small enough to follow."""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import encoded, folder_of, jpeg

from facecore.embed import EmbedOptions, embed, embed_dataset, unit_rows
from facecore.embed.resume import OTHER_FILE, SHARD_FILE
from facecore.embeddings import Embeddings, metadata_path, shard_starts, vectors_path
from facecore.errors import DataError, OptionError
from facecore.images import Preprocess, decode, to_input
from facecore.manifest import manifest_table, provenance_of, read_manifest, with_provenance, write_manifest
from facecore.provenance import Provenance
from facecore.readers import open_dataset


class Tiny:
    """Four numbers of a 16 x 16 image: three channel means and a half's brightness. Fails on demand."""

    size, dimension, preprocess = 16, 4, None
    sha256 = "5" * 64

    def __init__(self, fail_at=math.inf, error=KeyboardInterrupt):
        self.faces, self.batches, self.fail_at, self.error = 0, [], fail_at, error

    def embed(self, batch):
        if self.faces + len(batch) > self.fail_at:
            raise self.error
        self.faces += len(batch)
        self.batches.append(len(batch))
        left = batch[..., :8].mean(axis=(1, 2, 3), dtype=np.float32)
        return np.column_stack([batch.mean(axis=(2, 3), dtype=np.float32), left]).astype(np.float32)


class Odd(Tiny):
    """As Tiny, but a dark face is not finite and a bright one has length zero."""

    def embed(self, batch):
        out = super().embed(batch)
        mean = batch.mean(axis=(1, 2, 3))
        out[mean < -0.99] = np.nan
        out[mean > 0.99] = 0
        return out


def flat(value):
    return encoded(np.full((16, 16, 3), value, np.uint8), "PNG")


PEOPLE = {"al": 3, "bo": 5, "cy": 1, "di": 9, "ed": 2, "fa": 2}
FOUR = EmbedOptions(shard_rows=4, batch_size=2)


@pytest.fixture
def dataset(tmp_path):
    files = {f"{person}/{i}.jpg": 10 * n + i for n, (person, count) in enumerate(PEOPLE.items()) for i in range(count)}
    return open_dataset(folder_of(tmp_path / "images", files))


def run(dataset, out, network=None, options=FOUR, **more):
    return embed_dataset(dataset, network or Tiny(), out, options, model_name="tiny.onnx", **more)


def refusal(*arguments, **more):
    with pytest.raises(DataError) as caught:
        run(*arguments, **more)
    return str(caught.value)


def bytes_of(store):
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def numbers(summary):
    return dataclasses.replace(summary, seconds=0)


# pieces


def plan(counts, shard_rows):
    identity = [str(i) for i, count in enumerate(counts) for _ in range(count)]
    return shard_starts(pa.chunked_array([pa.array(identity, pa.string())]), shard_rows).tolist()


@pytest.mark.parametrize(
    ("counts", "starts"),
    [
        ([], [0]),
        ([1], [0, 1]),
        ([4], [0, 4]),
        ([5], [0, 5]),
        ([2, 2, 2], [0, 4, 6]),
        ([3, 5, 1, 9, 2, 2], [0, 3, 8, 9, 18, 22]),
        ([1, 1, 1, 1, 1], [0, 4, 5]),
        ([9, 9], [0, 9, 18]),
    ],
)
def test_shards_of_at_most_four_rows(counts, starts):
    assert plan(counts, 4) == starts


def test_shards_against_one_identity_at_a_time():
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(1, 9, rng.integers(1, 30)).tolist()
        starts, rows = [0], 0
        for count in counts:
            if rows + count - starts[-1] > 10 and rows > starts[-1]:
                starts.append(rows)
            rows += count
        assert plan(counts, 10) == [*starts, rows]


def test_chunks_of_the_table_do_not_matter():
    pieces = [pa.table({"identity": pa.array(part, pa.string())}) for part in (["a"], ["a", "b"], [], ["b", "c"])]
    assert shard_starts(pa.concat_tables(pieces)["identity"], 2).tolist() == [0, 2, 4, 5]


def test_unit_rows():
    raw = np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1e30], [3e38, 3e38], [1e-40, 0]], np.float32)
    units, length = unit_rows(raw)
    assert units.dtype == np.float16
    np.testing.assert_array_equal(units[[0, 1, 2, 3, 5]], np.float16([[0.6, 0.8], [0, 0], [0, 0], [0, 0], [1, 0]]))
    np.testing.assert_allclose(units[4], np.sqrt(0.5), atol=5e-4)
    np.testing.assert_allclose(length, [5, 0, np.nan, np.inf, 3e38 * math.sqrt(2), 1e-40], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"shard_rows": -1}, "shard_rows must be at least 1, got -1"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"max_rejected": 1.5}, "max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got 1.5"),
        (
            {"max_rejected": math.nan},
            "max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got nan",
        ),
    ],
)
def test_options_out_of_range(options, line):
    with pytest.raises(OptionError) as caught:
        EmbedOptions(**options)
    assert str(caught.value) == line


# the store


def test_the_store_against_one_face_at_a_time(dataset, tmp_path):
    summary = run(dataset, tmp_path / "out")
    assert numbers(summary) == type(summary)(22, 6, 0, 5, 0, 0)
    store = Embeddings.open(tmp_path / "out")
    rows = [row for number in range(len(store)) for row in store.faces(number).to_pylist()]
    assert [{k: row[k] for k in ("face_id", "identity", "source")} for row in rows] == dataset.faces.to_pylist()
    vectors = np.concatenate([shard.vectors for shard in store])
    for row, vector in zip(rows, vectors, strict=True):
        raw = Tiny().embed(to_input(decode(dataset.read(row["source"]), 16)[None], Preprocess()))[0]
        assert row["norm"] == pytest.approx(np.linalg.norm(raw), rel=1e-6)
        np.testing.assert_allclose(vector, raw / np.linalg.norm(raw), atol=5e-4)
    assert [len(shard) for shard in store] == [3, 5, 1, 9, 4]
    assert pq.read_table(tmp_path / "out" / "rejected.parquet").to_pydict() == {
        "face_id": [], "identity": [], "source": [], "reason": []
    }  # fmt: skip


def test_what_meta_says(dataset, tmp_path):
    run(dataset, tmp_path / "out", options=dataclasses.replace(FOUR, flip=True))
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    for name in ("shards", "content"):
        del meta[name]
    assert meta == {
        "stage": "embed",
        "model": {"file": "tiny.onnx", "sha256": "5" * 64},
        "preprocess": {"mean": 127.5, "scale": 127.5, "bgr": False},
        "flip": True,
        "root": str(tmp_path / "images"),
        "format": "folder",
        "dataset": dataset.sha256,
        "rejected": 0,
        "dimension": 4,
        "rows": 22,
        "identities": 6,
    }


def test_flip_adds_the_mirrored_face(dataset, tmp_path):
    run(dataset, tmp_path / "out", options=EmbedOptions(flip=True))
    shard = Embeddings.open(tmp_path / "out").shard(0)
    pixels = decode(dataset.read("al/0.jpg"), 16)[None]
    raw = sum(Tiny().embed(to_input(view, Preprocess()))[0] for view in (pixels, pixels[:, :, ::-1]))
    np.testing.assert_allclose(shard.vectors[0], raw / np.linalg.norm(raw), atol=5e-4)


@pytest.mark.parametrize("recorded", [None, Preprocess(0, 255, True)])
@pytest.mark.parametrize("asked", [None, Preprocess(127.5, 128)])
def test_preprocess_is_what_is_asked_then_recorded_then_usual(dataset, tmp_path, recorded, asked):
    network = Tiny()
    network.preprocess = recorded
    run(dataset, tmp_path / "out", network, EmbedOptions(preprocess=asked))
    used = asked or recorded or Preprocess()
    assert json.loads((tmp_path / "out" / "meta.json").read_text())["preprocess"] == dataclasses.asdict(used)
    norm = Embeddings.open(tmp_path / "out").faces(0)["norm"][0].as_py()
    raw = Tiny().embed(to_input(decode(dataset.read("al/0.jpg"), 16)[None], used))[0]
    assert norm == pytest.approx(np.linalg.norm(raw), rel=1e-6)


def test_columns_ride_along_but_for_norm(dataset, tmp_path):
    faces = dataset.faces.append_column("sparsity", pa.array(np.arange(22) / 22)).append_column(
        "norm", pa.array([7] * 22)
    )
    write_manifest(faces, tmp_path / "subset.parquet", Provenance("test"))
    subset = open_dataset(tmp_path / "subset.parquet", images=dataset.root)
    run(subset, tmp_path / "out")
    run(dataset, tmp_path / "plain")
    store, plain = Embeddings.open(tmp_path / "out"), Embeddings.open(tmp_path / "plain")
    assert store.faces(1)["sparsity"].to_pylist() == [3 / 22, 4 / 22, 5 / 22, 6 / 22, 7 / 22]
    assert store.faces(1).drop_columns(["sparsity"]).equals(plain.faces(1))
    changed = dataclasses.replace(subset, faces=faces.set_column(3, "sparsity", pa.array(np.zeros(22))))
    assert "was made from other faces" in refusal(changed, tmp_path / "out")


def test_the_layout_of_the_listing_does_not_show(dataset, tmp_path):
    pieces = [dataset.faces.slice(start, 1) for start in range(22)]
    run(dataset, tmp_path / "one")
    run(dataclasses.replace(dataset, faces=pa.concat_tables(pieces)), tmp_path / "two")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_the_command_loads_the_network(dataset, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("facecore.embed.run.load_backbone", lambda path, *, arch: asked.append((path, arch)) or Tiny())
    embed(dataset, tmp_path / "tiny.onnx", tmp_path / "one", FOUR, arch="r18")
    run(dataset, tmp_path / "two")
    assert asked == [(tmp_path / "tiny.onnx", "r18")]
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


# resume


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(("faces", "finished"), [(0, 0), (2, 0), (3, 1), (9, 3), (12, 3), (18, 4), (21, 4)])
def test_stopped_and_resumed_gives_the_bytes_of_one_run(dataset, tmp_path, faces, finished, error):
    run(dataset, tmp_path / "whole")
    with pytest.raises(error):
        run(dataset, tmp_path / "out", Tiny(fail_at=faces, error=error))
    with pytest.raises(DataError, match=r"no whole store|no embedding store"):
        Embeddings.open(tmp_path / "out")
    assert not list((tmp_path).rglob("*.part"))
    network = Tiny()
    assert run(dataset, tmp_path / "out", network).resumed_shards == finished
    assert network.faces == 22 - sum([3, 5, 1, 9, 4][:finished])
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_every_unfinished_file_is_one_that_a_later_run_removes(dataset, tmp_path, monkeypatch):
    renamed, replace = [], os.replace
    monkeypatch.setattr("os.replace", lambda part, path: (renamed.append(Path(part)), replace(part, path)))
    run(dataset, tmp_path / "out")
    names = [str(part.relative_to(tmp_path / "out")) for part in renamed]
    assert len(names) == 2 * 5 + 2  # two files a shard, rejected.parquet and meta.json
    assert [name for name in names if not (SHARD_FILE.fullmatch(name) or OTHER_FILE.fullmatch(name))] == []


def test_rejections_survive_a_stop(dataset, tmp_path):
    for person in ("al", "di"):
        (dataset.root / person / "1.jpg").write_bytes(b"no image")
    options = dataclasses.replace(FOUR, max_rejected=0.2)
    run(dataset, tmp_path / "whole", options=options)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, tmp_path / "out", Tiny(fail_at=18), options)
    assert run(dataset, tmp_path / "out", options=options).rejected == 2
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_nothing_left_to_do(dataset, tmp_path):
    first = run(dataset, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    network = Tiny(fail_at=0)
    again = run(dataset, tmp_path / "out", network)
    assert numbers(again) == numbers(dataclasses.replace(first, resumed_shards=5))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize("damage", ["cut", "gone", "rows", "metadata cut", "metadata gone", "both gone"])
def test_a_damaged_shard_is_redone_alone(dataset, tmp_path, damage):
    out = tmp_path / "out"
    run(dataset, out)
    before = bytes_of(out)
    vectors, metadata = vectors_path(out, 3), metadata_path(out, 3)
    if damage == "cut":
        vectors.write_bytes(vectors.read_bytes()[:-8])
    if damage == "rows":
        np.save(vectors, np.load(vectors)[1:])
    if damage == "metadata cut":
        metadata.write_bytes(metadata.read_bytes()[:-100])
    if damage in ("gone", "both gone"):
        vectors.unlink()
    if damage in ("metadata gone", "both gone"):
        metadata.unlink()
    network = Tiny()
    assert run(dataset, out, network).resumed_shards == 4
    assert network.faces == 9
    assert bytes_of(out) == before


def test_stale_parts_do_no_harm(dataset, tmp_path):
    run(dataset, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(dataset, out, Tiny(fail_at=3))
    for path in (vectors_path(out, 1), metadata_path(out, 4), out / "meta.json", out / "rejected.parquet"):
        path.with_name(path.name + ".part").write_bytes(b"half")
    run(dataset, out)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_moved_data_set_is_the_same_faces(dataset, tmp_path):
    run(dataset, tmp_path / "out")
    shutil.move(dataset.root, tmp_path / "moved")
    moved = open_dataset(tmp_path / "moved")
    assert run(moved, tmp_path / "out", Tiny(fail_at=0)).resumed_shards == 5
    assert Embeddings.open(tmp_path / "out").meta["root"] == str(tmp_path / "moved")


@pytest.mark.parametrize("stop_at", [12, math.inf])
def test_other_images_of_the_same_names(dataset, tmp_path, stop_at):
    out = tmp_path / "out"
    (dataset.root / "al" / "0.jpg").write_bytes(b"no image")  # a rejected face says nothing of the images
    options = dataclasses.replace(FOUR, max_rejected=0.1)
    with contextlib.suppress(KeyboardInterrupt):
        run(dataset, out, Tiny(fail_at=stop_at), options)
    names = dataset.faces["face_id"].to_pylist()
    others = open_dataset(folder_of(tmp_path / "others", {name: 100 + n for n, name in enumerate(names)}))
    before = bytes_of(out)
    assert refusal(others, out, options=options) == (
        f"{out} was made from other images: al/1.jpg at {tmp_path / 'others'} is not the one embedded; "
        "choose another --out, or add --overwrite to replace it"
    )
    assert bytes_of(out) == before
    run(others, tmp_path / "fresh")
    run(others, out, overwrite=True)
    assert bytes_of(out) == bytes_of(tmp_path / "fresh")


def test_a_store_that_does_not_say_of_which_images(dataset, tmp_path):
    out = tmp_path / "out"
    run(dataset, out)
    for number in range(5):
        path = metadata_path(out, number)
        table, made = pq.read_table(path), provenance_of(path)
        facts = {name: fact for name, fact in made.facts.items() if name != "first_image"}
        pq.write_table(table.cast(with_provenance(table.schema, dataclasses.replace(made, facts=facts))), path)
    assert run(dataset, out, Tiny(fail_at=0)).resumed_shards == 5


def other_model():
    network = Tiny()
    network.sha256 = "6" * 64
    return network


@pytest.mark.parametrize(
    "change",
    [
        {"network": other_model()},
        {"options": dataclasses.replace(FOUR, flip=True)},
        {"options": dataclasses.replace(FOUR, preprocess=Preprocess(0, 1))},
        {"options": dataclasses.replace(FOUR, shard_rows=6)},
        {"options": dataclasses.replace(FOUR, shard_rows=100)},
    ],
)
@pytest.mark.parametrize("stop_at", [3, math.inf])
def test_a_store_of_other_options(dataset, tmp_path, change, stop_at):
    out = tmp_path / "out"
    try:
        run(dataset, out, Tiny(fail_at=stop_at))
    except KeyboardInterrupt:
        pass
    before = bytes_of(out)
    if stop_at == 3 and change == {"options": dataclasses.replace(FOUR, shard_rows=6)}:
        run(dataset, out, **change)  # the one shard that is there would be the same
        return
    assert refusal(dataset, out, **change) == (
        f"{out} was made from other faces or options; choose another --out, or add --overwrite to replace it"
    )
    assert bytes_of(out) == before
    change = {name: other_model() if name == "network" else value for name, value in change.items()}
    run(dataset, tmp_path / "fresh", **change)
    run(dataset, out, **change, overwrite=True)
    assert bytes_of(out) == bytes_of(tmp_path / "fresh")


@pytest.mark.parametrize("rows", [slice(0, 21), slice(0, 9), slice(1, 22)])
def test_a_store_of_other_faces(dataset, tmp_path, rows):
    out = tmp_path / "out"
    run(dataset, out)
    fewer = dataclasses.replace(dataset, faces=dataset.faces.slice(rows.start, rows.stop - rows.start))
    line = f"{out} was made from other faces or options; choose another --out, or add --overwrite to replace it"
    assert refusal(fewer, out) == line
    (out / "meta.json").unlink()
    assert refusal(fewer, out) == line


def test_a_store_of_another_program(dataset, tmp_path):
    out = tmp_path / "out"
    metadata_path(out, 0).parent.mkdir(parents=True)
    vectors_path(out, 0).parent.mkdir()
    np.save(vectors_path(out, 0), np.zeros((3, 4), np.float16))
    pq.write_table(pa.table({"caption": ["a", "b", "c"]}), metadata_path(out, 0))
    assert refusal(dataset, out) == (
        f"{out} was made from other faces or options; choose another --out, or add --overwrite to replace it"
    )


# other people's files


def test_overwrite_removes_nothing_but_the_store(dataset, tmp_path):
    out = tmp_path / "out"
    run(dataset, out, options=EmbedOptions(shard_rows=1))
    for name in ("notes.txt", "img_emb/notes.npy", "metadata/x.parquet", "deep/img_emb/img_emb_00000.npy"):
        (out / name).parent.mkdir(exist_ok=True, parents=True)
        (out / name).write_text("mine")
    run(dataset, out, overwrite=True)
    found = bytes_of(out)
    assert sorted(name for name, data in found.items() if data == b"mine") == [
        "deep/img_emb/img_emb_00000.npy", "img_emb/notes.npy", "metadata/x.parquet", "notes.txt"
    ]  # fmt: skip
    assert len(found) == 4 + 2 * 5 + 2


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "meta.json", "rejected.parquet", "img_emb.txt"])
def test_a_folder_of_other_files(dataset, tmp_path, name, overwrite):
    folder_of(tmp_path / "out", {name: b"{}"})
    assert refusal(dataset, tmp_path / "out", overwrite=overwrite) == (
        f"{tmp_path / 'out'} holds other files and is not an embedding store; choose another --out"
    )
    assert bytes_of(tmp_path / "out") == {name: b"{}"}


def test_out_is_a_file(dataset, tmp_path):
    (tmp_path / "out").write_text("x")
    assert refusal(dataset, tmp_path / "out", overwrite=True) == (
        f"{tmp_path / 'out'} is a file; choose another --out, a folder to be made"
    )


def test_an_empty_folder_will_do(dataset, tmp_path):
    (tmp_path / "out" / "img_emb").mkdir(parents=True)
    assert run(dataset, tmp_path / "out").faces == 22


# rejections


def odd_files():
    return {
        "al/0.jpg": 1,
        "al/1.jpg": jpeg(2, 16)[:-20],
        "bo/0.png": flat(0),
        "bo/1.jpg": 3,
        "bo/2.png": flat(255),
        "cy/0.jpg": b"GIF? no",
        "di/0.jpg": 4,
    }


REASONS = {
    "al/1.jpg": "not an image: image file is truncated (N bytes not processed)",
    "bo/0.png": "the embedding is not finite",
    "bo/2.png": "the embedding has length zero",
    "cy/0.jpg": "not an image: unknown image format",
}


@pytest.mark.parametrize("batch_size", [1, 2, 64])
@pytest.mark.parametrize("shard_rows", [1, 3, 100])
def test_every_face_that_leaves_has_a_reason(tmp_path, batch_size, shard_rows):
    data = open_dataset(folder_of(tmp_path / "images", odd_files()))
    out = tmp_path / "out"
    options = EmbedOptions(batch_size=batch_size, shard_rows=shard_rows, max_rejected=0.6)
    summary = run(data, out, Odd(), options)
    assert (summary.faces, summary.identities, summary.rejected) == (3, 3, 4)
    rejected, made = read_manifest(out / "rejected.parquet")
    reasons = dict(zip(rejected["face_id"].to_pylist(), rejected["reason"].to_pylist(), strict=True))
    assert {name: re.sub(r"\d+ bytes", "N bytes", reason) for name, reason in reasons.items()} == REASONS
    assert rejected["identity"].to_pylist() == ["al", "bo", "bo", "cy"]
    assert made.stage == "embed"
    store = Embeddings.open(out)
    kept = [face_id for number in range(len(store)) for face_id in store.faces(number)["face_id"].to_pylist()]
    assert kept == ["al/0.jpg", "bo/1.jpg", "di/0.jpg"]
    assert sum(shard.identities for shard in store) == 3
    assert run(data, out, Odd(fail_at=0), options).rejected == 4


def test_a_shard_without_rows(tmp_path):
    data = open_dataset(folder_of(tmp_path / "images", {"al/0.jpg": 1, "bo/0.jpg": b"x", "cy/0.jpg": 2}))
    run(data, tmp_path / "out", options=EmbedOptions(shard_rows=1, max_rejected=0.5))
    store = Embeddings.open(tmp_path / "out")
    assert [(len(shard), shard.identities) for shard in map(store.shard, range(3))] == [(1, 1), (0, 0), (1, 1)]
    assert store.shard(1).vectors.shape == (0, 4)


def test_a_store_without_rows(tmp_path):
    data = open_dataset(folder_of(tmp_path / "images", {"al/0.jpg": b"x", "bo/0.jpg": b"y"}))
    summary = run(data, tmp_path / "out", options=EmbedOptions(max_rejected=1))
    assert (summary.faces, summary.identities, summary.rejected) == (0, 0, 2)
    assert len(Embeddings.open(tmp_path / "out")) == 1


def test_too_many_rejected(dataset, tmp_path):
    out = tmp_path / "out"
    for i in (0, 2, 4):
        (dataset.root / "bo" / f"{i}.jpg").write_bytes(b"")
    network = Tiny()
    assert refusal(dataset, out, network, dataclasses.replace(FOUR, max_rejected=0.1)) == (
        "3 of 22 faces rejected so far, more than --max-rejected 0.1 allows; first bo/0.jpg: not an image: "
        f"it is empty; see {out / 'rejected.parquet'}, then run again with a larger --max-rejected, "
        "it goes on where it was"
    )
    assert network.faces == 3 + 2  # not the shards after
    assert read_manifest(out / "rejected.parquet")[0]["face_id"].to_pylist() == ["bo/0.jpg", "bo/2.jpg", "bo/4.jpg"]
    assert not (out / "meta.json").exists()
    options = dataclasses.replace(FOUR, max_rejected=0.14)
    assert run(dataset, out, options=options).resumed_shards == 2
    run(dataset, tmp_path / "whole", options=options)
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


def test_a_stricter_look_at_a_finished_store_loses_nothing(dataset, tmp_path):
    out = tmp_path / "out"
    for name in ("al/0.jpg", "fa/1.jpg"):
        (dataset.root / name).write_bytes(b"")
    run(dataset, out, options=dataclasses.replace(FOUR, max_rejected=0.1))
    before = bytes_of(out)
    assert refusal(dataset, out, options=dataclasses.replace(FOUR, max_rejected=0)).startswith("2 of 22 faces rejected")
    assert bytes_of(out) == before


def test_a_file_that_is_gone(dataset, tmp_path):
    (dataset.root / "al" / "2.jpg").unlink()
    run(dataset, tmp_path / "out", options=dataclasses.replace(FOUR, max_rejected=0.1))
    assert read_manifest(tmp_path / "out" / "rejected.parquet")[0]["reason"].to_pylist() == ["no such file"]
    made = provenance_of(metadata_path(tmp_path / "out", 0))
    assert made.facts["rejected"] == [[2, "no such file"]]


def test_many_faces_in_few_batches(tmp_path):
    data = open_dataset(folder_of(tmp_path / "images", {f"{i // 40}/{i}.jpg": i % 7 for i in range(130)}))
    network = Tiny()
    run(data, tmp_path / "out", network, EmbedOptions())
    assert network.batches == [64, 64, 2]


def test_manifest_and_folder_give_the_same_vectors(dataset, tmp_path):
    faces = manifest_table({name: dataset.faces[name].to_pylist() for name in dataset.faces.column_names})
    write_manifest(
        faces, tmp_path / "all.parquet", Provenance("test", facts={"root": str(dataset.root), "format": "folder"})
    )
    run(dataset, tmp_path / "one")
    run(open_dataset(tmp_path / "all.parquet"), tmp_path / "two")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
