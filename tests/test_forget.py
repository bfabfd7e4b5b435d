"""Forgetting: what is left is as if they had never been there, everywhere or nowhere, and the receipt says so."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from geometry import random_faces, split, write_store

from facecore.cli import main
from facecore.embeddings import Embeddings, metadata_path, vectors_path, write_meta
from facecore.errors import DataError, OptionError
from facecore.forget import FileEntry, Receipt, forget, read_names
from facecore.importing import ImportOptions, import_vectors
from facecore.manifest import manifest_table, provenance_of, read_manifest, write_manifest
from facecore.provenance import Provenance, sha256_of, sha256_of_file
from facecore.select import Nms, dropped_path, select

SIZES = [5, 1, 8, 3, 6, 4]


@pytest.fixture
def store(tmp_path):
    """Six identities in three shards, and a subset of them."""
    faces = random_faces(0, SIZES)
    path = write_store(tmp_path / "store", split(faces, [2, 4]))
    select(path, Nms(), keep=0.6, out=tmp_path / "subset.parquet")
    return path


def rows_of(path):
    return pq.read_table(path).replace_schema_metadata()


def all_files(folder, *, but=()):
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name not in but}


def traces(folder, name, *, but=()):
    """The files below a folder that hold a name: in their own bytes, or in any column once it is decompressed."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in but:
            text = path.read_bytes()
            if path.suffix == ".parquet":
                text += repr(rows_of(path).to_pydict()).encode()
                file = pq.ParquetFile(path)
                text += (
                    repr(file.metadata.metadata).encode()
                    + repr(
                        [
                            file.metadata.row_group(group).column(column).statistics
                            for group in range(file.num_row_groups)
                            for column in range(file.metadata.num_columns)
                        ]
                    ).encode()
                )
            if name.encode() in text:
                found.append(path.name)
    return found


def refusal(*arguments, error=DataError, **options):
    with pytest.raises(error) as caught:
        forget(*arguments, **options)
    return str(caught.value)


# What is left


def imported(folder, rows):
    """A store of the rows given, of forty faces of nine people, one of each of which has no direction."""
    folder.mkdir()
    vectors = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    vectors[:9] = 0
    table = pa.table(
        {
            "identity": [f"person {row % 9}" for row in range(40)],
            "face_id": [f"face {row:02d}" for row in range(40)],
            "v": pa.array(list(vectors), pa.list_(pa.float32())),
        }
    )
    pq.write_table(table.take(list(rows)), folder / "in.parquet")
    import_vectors(folder / "in.parquet", folder / "store", ImportOptions(shard_rows=10, max_rejected=0.25))
    return folder / "store"


def test_the_store_is_as_if_they_had_never_been_there(tmp_path):
    store = imported(tmp_path / "all", range(40))
    gone = [row for row in range(40) if row % 9 == 8 or row in (9, 16)]
    never = imported(tmp_path / "never", [row for row in range(40) if row not in gone])
    # so that both are cut alike: forgetting does not move anyone to another shard
    assert [len(Embeddings.open(path)) for path in (store, never)] == [4, 4]
    forget(["person 8", "face 09", "face 16"], stores=[store], receipt=tmp_path / "r.json")
    own = ["meta.json", "rejected.parquet"]
    assert all_files(store, but=own) == all_files(never, but=own)
    assert rows_of(store / "rejected.parquet").equals(rows_of(never / "rejected.parquet"))
    found, wanted = (json.loads((path / "meta.json").read_text()) for path in (store, never))
    assert found.pop("forgotten") == len(gone)
    assert {**found, "inputs": {}, "normalised": 0} == {**wanted, "inputs": {}, "normalised": 0}


def test_only_the_shards_that_hold_them_are_written(store, tmp_path, monkeypatch):
    before = {path: path.stat().st_ino for path in store.rglob("*.*")}
    forget(["p002"], stores=[store], receipt=tmp_path / "r.json")
    changed = {path.name for path, inode in before.items() if path.stat().st_ino != inode}
    assert changed == {"img_emb_00001.npy", "metadata_00001.parquet", "meta.json"}
    assert [entry["rows"] for entry in Embeddings.open(store).meta["shards"]] == [6, 3, 10]


def test_a_shard_and_a_store_may_become_empty(store, tmp_path):
    forget(["p002", "p003"], stores=[store], receipt=tmp_path / "1.json")
    assert [entry["rows"] for entry in Embeddings.open(store).meta["shards"]] == [6, 0, 10]
    others = ["p000", "p001", "p004", "p005"]
    forget(others, stores=[store], manifests=[tmp_path / "subset.parquet"], receipt=tmp_path / "2.json")
    assert Embeddings.open(store).rows == 0
    assert Embeddings.open(store).meta["forgotten"] == sum(SIZES)
    assert list(Embeddings.open(store)) == []


def test_no_trace_of_a_name(store, tmp_path):
    subset = tmp_path / "subset.parquet"
    name = "p002"
    assert len(traces(tmp_path, name)) == 4
    before = {path: rows_of(path) for path in (subset, dropped_path(subset))}
    forget([name], stores=[store], manifests=[subset], receipt=tmp_path / "r.json", hash_names=True)
    assert traces(tmp_path, name) == []
    for path, table in before.items():
        left = [row for row in table.to_pylist() if row["identity"] != name]
        assert rows_of(path).to_pylist() == left
        assert rows_of(path).schema == table.schema


def test_a_face_alone_goes_and_its_rivals_forget_it(store, tmp_path):
    subset = tmp_path / "subset.parquet"
    before = rows_of(dropped_path(subset))
    rival = before["rival"][0].as_py()
    served = [row for row in before.to_pylist() if row["rival"] == rival]
    done = forget([rival], stores=[store], manifests=[subset], receipt=tmp_path / "r.json")
    assert traces(tmp_path, rival, but=["r.json"]) == []
    after = rows_of(dropped_path(subset)).to_pylist()
    cleared = {row["face_id"]: {**row, "rival": None, "cosine": None} for row in served}
    assert after == [cleared.get(row["face_id"], row) for row in before.to_pylist()]
    entries = {Path(entry.file).name: entry for entry in done.files}
    assert entries["subset.parquet"].rows_removed == 1
    assert (entries["subset.dropped.parquet"].rows_removed, entries["subset.dropped.parquet"].rivals_cleared) == (
        0,
        len(served),
    )
    assert (done.identities, Embeddings.open(store).rows) == (0, sum(SIZES) - 1)


def test_rows_that_ride_along_with_a_rival_forget_it_too(tmp_path):
    faces = random_faces(0, [3, 3])
    store = write_store(tmp_path / "store", split(faces, [1]), rival=["p000/0001", *[None] * 4, "p000/0001"])
    forget(["p000/0001"], stores=[store], receipt=tmp_path / "r.json")
    assert [Embeddings.open(store).faces(number)["rival"].to_pylist() for number in (0, 1)] == [
        [None, None],
        [None, None, None],
    ]


def test_what_is_an_identity_anywhere_is_one(tmp_path):
    one, two = tmp_path / "1.parquet", tmp_path / "2.parquet"
    columns = {"face_id": ["x", "y"], "identity": ["a", "b"], "source": ["1", "2"]}
    write_manifest(manifest_table(columns), one, Provenance("test"))
    write_manifest(manifest_table({**columns, "identity": ["x", "y"], "face_id": ["p", "q"]}), two, Provenance("test"))
    done = forget(["x", "q"], manifests=[one, two], receipt=tmp_path / "r.json")
    assert rows_of(one)["face_id"].to_pylist() == ["x", "y"]
    assert rows_of(two).num_rows == 0
    assert (done.identities, done.rows_removed) == (1, 2)


def test_large_strings_and_foreign_manifests(tmp_path):
    path = tmp_path / "m.parquet"
    table = pa.table({"face_id": ["x", "y"], "identity": ["a", "b"], "source": ["1", "2"], "rival": ["y", "x"]})
    pq.write_table(table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names])), path)
    forget(["a"], manifests=[path], receipt=tmp_path / "r.json")
    left, made = read_manifest(path)
    assert left.to_pylist() == [{"face_id": "y", "identity": "b", "source": "2", "rival": None}]
    assert made.stage == "forget"


def test_a_manifest_keeps_its_record(store, tmp_path):
    subset = tmp_path / "subset.parquet"
    made, before = provenance_of(subset), sha256_of_file(subset)
    removed = pq.read_table(subset)["identity"].to_pylist().count("p000")
    forget(["p000"], manifests=[subset], receipt=tmp_path / "1.json")
    known = provenance_of(subset)
    assert (known.stage, known.options, known.inputs) == (made.stage, made.options, made.inputs)
    assert known.facts == {**made.facts, "forgotten": removed, "before": before}
    forget(["p001"], manifests=[subset], receipt=tmp_path / "2.json")
    assert provenance_of(subset).facts["forgotten"] == removed + 1


def test_embed_does_not_bring_them_back(store, tmp_path):
    made = provenance_of(metadata_path(store, 0))
    path = metadata_path(store, 0)
    table = pq.read_table(path)
    facts = {"fingerprint": "x", "rejected": []}
    pq.write_table(
        table.replace_schema_metadata({b"facecore": Provenance(made.stage, facts=facts).to_json().encode()}), path
    )
    opened = Embeddings.open(store)
    write_meta(store, opened.meta, dimension=opened.dimension, shards=len(opened))
    forget(["p000"], stores=[store], receipt=tmp_path / "r.json")
    assert provenance_of(path) == made


@pytest.mark.parametrize("also", [[], ["subset.parquet"]], ids=["the link alone", "the file, too"])
def test_what_a_link_leads_to_forgets_them_too(store, tmp_path, also):
    subset, link = tmp_path / "subset.parquet", tmp_path / "links" / "mine.parquet"
    link.parent.mkdir()
    link.symlink_to(subset)
    manifests = [link, *(tmp_path / name for name in also)]
    done = forget(["p002"], manifests=manifests, receipt=tmp_path / "r.json")
    assert [entry.file for entry in done.files] == [subset.as_posix(), dropped_path(subset).as_posix()]
    assert traces(tmp_path, "p002", but=["r.json"]) == traces(store, "p002")
    assert link.is_symlink()


# The receipt


def test_the_receipt(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [
        Path("store/img_emb/img_emb_00000.npy"),
        Path("store/metadata/metadata_00000.parquet"),
        Path("store/meta.json"),
        Path("subset.parquet"),
        Path("subset.dropped.parquet"),
    ]
    kept, dropped = (rows_of(path)["identity"].to_pylist().count("p000") for path in files[3:])
    assert kept + dropped == 5
    before = [sha256_of_file(path) for path in files]
    done = forget(["p000"], stores=[Path("store")], manifests=[Path("subset.parquet")], receipt=Path("new/r.json"))
    rows = [5, 5, 0, kept, dropped]
    entries = [
        FileEntry(path.as_posix(), count, 0, was, sha256_of_file(path))
        for path, count, was in zip(files, rows, before, strict=True)
    ]
    assert done == Receipt(("p000",), False, 1, tuple(entries))
    assert done.rows_removed == 10
    text = Path("new/r.json").read_text()
    assert Receipt.from_json(text) == done
    assert json.loads(text)["stage"] == "forget"
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) + "\n"
    assert [path.name for path in Path("new").iterdir()] == ["r.json"]


def test_equal_requests_have_equal_receipts(store, tmp_path, monkeypatch):
    shutil.copytree(store, tmp_path / "2" / "store")
    texts = []
    for folder, names in ((tmp_path, ["p000", "p003"]), (tmp_path / "2", ["p003", "p000", "p003"])):
        monkeypatch.chdir(folder)
        forget(names, stores=[Path("store"), folder / "store"], receipt=Path("r.json"))
        texts.append(Path("r.json").read_bytes())
    assert texts[0] == texts[1]


def test_a_receipt_without_names(store, tmp_path):
    done = forget(["p000", "p001"], stores=[store], receipt=tmp_path / "r.json", hash_names=True)
    assert done.hashed
    assert done.names == tuple(sorted([sha256_of("p000"), sha256_of("p001")]))
    assert "p00" not in (tmp_path / "r.json").read_text()


def test_names_that_are_nowhere_may_be_listed_in_the_receipt(store, tmp_path):
    names, options = ["p000", "nobody", "Nobody"], {"stores": [store], "allow_absent": True}
    with_hashes = forget(names, **options, receipt=tmp_path / "dry.json", hash_names=True, dry_run=True)
    assert with_hashes.absent == tuple(sorted([sha256_of("nobody"), sha256_of("Nobody")]))
    done = forget(names, **options, receipt=tmp_path / "r.json")
    assert (done.names, done.absent) == (("Nobody", "nobody", "p000"), ("Nobody", "nobody"))
    assert (done.identities, done.rows_removed) == (1, 5)
    assert Receipt.from_json((tmp_path / "r.json").read_text()) == done
    before = all_files(store)
    again = forget(names, **options, receipt=tmp_path / "again.json")
    assert again == Receipt(("Nobody", "nobody", "p000"), False, 0, (), ("Nobody", "nobody", "p000"))
    assert all_files(store) == before


def test_the_command_counts_who_was_nowhere(store, tmp_path):
    command = ["forget", "p000", "p001", "x", "--embeddings", str(store), "--receipt", str(tmp_path / "r.json")]
    done = CliRunner().invoke(main, [*command, "--allow-absent"])
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == f"{tmp_path / 'r.json'}: receipt of 2 forgotten, and 1 who were nowhere"


def test_who_stays_in_dropped_faces_that_are_elsewhere_is_said(store, tmp_path, caplog):
    subset, elsewhere = tmp_path / "subset.parquet", tmp_path / "away" / "subset.dropped.parquet"
    elsewhere.parent.mkdir()
    dropped_path(subset).rename(elsewhere)
    forget(["p000"], manifests=[subset], receipt=tmp_path / "r.json", dry_run=True)
    assert caplog.messages == [
        f"{subset} is without its dropped faces, in which people stay; name subset.dropped.parquet with --manifest"
    ]
    assert "p000" in rows_of(elsewhere)["identity"].to_pylist()
    caplog.clear()
    forget(["p000"], manifests=[subset, elsewhere], receipt=tmp_path / "r.json")
    assert caplog.messages == []
    assert "p000" not in rows_of(elsewhere)["identity"].to_pylist()


def test_dropped_faces_are_of_one_subset_where_two_are_called_alike(store, tmp_path, caplog):
    one, other = tmp_path / "one" / "subset.parquet", tmp_path / "other" / "subset.parquet"
    for subset in (one, other):
        select(store, Nms(), keep=0.6, out=subset)
    dropped_path(other).unlink()
    forget(["p000"], manifests=[one, other], receipt=tmp_path / "r.json", dry_run=True)
    assert caplog.messages == [
        f"{other} is without its dropped faces, in which people stay; name subset.dropped.parquet with --manifest"
    ]


def test_a_dry_run_touches_nothing(store, tmp_path):
    before = all_files(tmp_path)
    options = {"stores": [store], "manifests": [tmp_path / "subset.parquet"], "receipt": tmp_path / "r.json"}
    would = forget(["p000", "p002/0007"], **options, dry_run=True)
    assert all_files(tmp_path) == before
    did = forget(["p000", "p002/0007"], **options)
    assert [(entry.file, entry.rows_removed, entry.rivals_cleared) for entry in would.files] == [
        (entry.file, entry.rows_removed, entry.rivals_cleared) for entry in did.files
    ]
    assert {(entry.before, entry.after) for entry in would.files} == {(None, None)}


def test_names_from_a_file(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffann\r\nbob \n\n  \n\u2028x\n".encode())
    assert read_names(tmp_path / "names.txt") == ["ann", "bob ", "\u2028x"]
    (tmp_path / "names.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError) as caught:
        read_names(tmp_path / "names.txt")
    assert str(caught.value) == f"{tmp_path / 'names.txt'} is not UTF-8 text; write it again, one name a line"


# Everywhere or nowhere


class Killed(BaseException):
    """The process is no more."""


class Life:
    """Lets the process change files so many times, and then never again."""

    def __init__(self, monkeypatch, changes):
        self.left = changes
        for module, name in ((os, "replace"), (os, "symlink"), (os, "unlink"), (os, "rmdir"), (shutil, "rmtree")):
            monkeypatch.setattr(module, name, self._mortal(getattr(module, name)))
        monkeypatch.setattr(Path, "unlink", self._mortal(Path.unlink))

    def _mortal(self, function):
        def change(*arguments, **options):
            if self.left <= 0:
                raise Killed
            self.left -= 1
            return function(*arguments, **options)

        return change


def test_killed_at_any_moment_and_run_again_it_ends_the_same(store, tmp_path, monkeypatch):
    def run(folder, changes=None):
        """Run in a copy of everything; True unless it was killed."""
        monkeypatch.chdir(folder)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            if changes is not None:
                Life(patch, changes)
            names = ["p000", "p004/0020"]
            forget(names, stores=[Path("store")], manifests=[Path("subset.parquet")], receipt=Path("r.json"))
            return True
        return False

    def copy(name):
        return Path(shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-{name}")))

    run(whole := copy("whole"))
    wanted = all_files(whole)
    assert wanted != all_files(tmp_path)
    moment = 0
    while not run(folder := copy(moment), moment):
        if moment % 2:
            run(folder, 2)  # killed again
        if not (folder / "r.json").exists():
            assert run(folder)
        assert all_files(folder) == wanted, moment
        moment += 1
    assert moment > 20


def test_a_failure_leaves_everything_as_it_was(store, tmp_path, monkeypatch):
    before = all_files(tmp_path)

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("facecore.forget.run.write_journal", fail)
    with pytest.raises(OSError, match="disk full"):
        forget(["p000"], stores=[store], manifests=[tmp_path / "subset.parquet"], receipt=tmp_path / "r.json")
    assert all_files(tmp_path) == before


def half_way(store, tmp_path):
    """A run that was killed when the journal was written and the vectors had taken their place."""

    def dies(path):
        os.replace(store / "img_emb" / "img_emb_00000.npy.forgetting", vectors_path(store, 0))
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facecore.forget.run.finish", dies)
        with pytest.raises(Killed):
            forget(["p000"], stores=[store], receipt=tmp_path / "r.json")


def test_another_request_finishes_the_one_that_was_stopped_and_says_so(store, tmp_path):
    half_way(store, tmp_path)
    assert refusal(["p001"], stores=[store], receipt=tmp_path / "r.json", dry_run=True) == (
        f"{tmp_path / 'r.json.unfinished'} is of a run that was stopped; run it again first, without --dry-run"
    )
    assert refusal(["p001"], stores=[store], receipt=tmp_path / "r.json") == (
        f"{tmp_path / 'r.json'} was of a run that was stopped, and is finished now; "
        "choose another --receipt for this one"
    )
    assert Embeddings.open(store).rows == sum(SIZES) - 5
    assert Receipt.from_json((tmp_path / "r.json").read_text()).names == ("p000",)


def test_half_way_is_said_to_be_so(store, tmp_path):
    half_way(store, tmp_path)
    assert refusal(["p001"], stores=[store], receipt=tmp_path / "other.json") == (
        f"{store} was left half-way by a facecore forget that was stopped; "
        "run it again as it was, with the same --receipt, and it goes on"
    )


def test_a_file_that_was_changed_meanwhile(store, tmp_path):
    half_way(store, tmp_path)
    waiting = store / "metadata" / "metadata_00000.parquet.forgetting"
    waiting.write_bytes(b"something else")
    assert refusal(["p000"], stores=[store], receipt=tmp_path / "r.json") == (
        f"{metadata_path(store, 0)} is not what an unfinished facecore forget made of it; "
        f"delete {tmp_path / 'r.json.unfinished'} and run it again"
    )


# Every refusal is one line, before anything is touched


def test_refusals(store, tmp_path):
    before = all_files(tmp_path)
    receipt = tmp_path / "r.json"
    assert refusal([], stores=[store], receipt=receipt, error=OptionError) == (
        "nobody is named; give identities or face_ids, or a file of them by --from"
    )
    assert refusal(["p000", " "], stores=[store], receipt=receipt, error=OptionError) == (
        "a name is blank; give identities or face_ids, or a file of them by --from"
    )
    assert refusal(["x"], receipt=receipt, error=OptionError) == (
        "there is nothing to remove them from; give --embeddings or --manifest"
    )
    assert refusal(["p000", "nobody", "p00"], stores=[store], receipt=receipt) == (
        "nobody is no identity and no face_id in any of the files (2 of 3 names are none); "
        "nothing was touched: mend the names, or give --allow-absent"
    )
    assert refusal(["p000"], stores=[store], manifests=[tmp_path / "x"], receipt=receipt) == (
        f"no manifest at {tmp_path / 'x'}; facecore nms writes one"
    )
    assert refusal(["p000"], stores=[tmp_path / "x"], receipt=receipt) == (
        f"no embedding store at {tmp_path / 'x'}; facecore embed writes one"
    )
    assert refusal(["p000"], manifests=[store / "meta.json"], receipt=receipt) == (
        f"{store / 'meta.json'} is no Parquet file; facecore nms writes manifests, and embed, export, quantize and "
        "train take lists (.txt, .lst), too"
    )
    assert all_files(tmp_path) == before
    receipt.write_text("{}")
    assert refusal(["p000"], stores=[store], receipt=receipt) == (
        f"{receipt} exists, and receipts are kept; choose another --receipt"
    )


def test_a_folder_that_may_not_be_written(store, tmp_path, monkeypatch):
    before = all_files(tmp_path)
    monkeypatch.setattr("facecore.forget.run.os.access", lambda path, mode: path != store)
    assert refusal(["p000"], stores=[store], receipt=tmp_path / "r.json") == (
        f"{store} is not writable, so nothing was removed anywhere; change its permissions"
    )
    assert all_files(tmp_path) == before


@pytest.mark.parametrize("name", ["img_emb/img_emb_00000.npy", "metadata/metadata_00000.parquet", "meta.json"])
def test_a_store_of_links(store, tmp_path, name):
    (store / name).rename(tmp_path / "elsewhere")
    (store / name).symlink_to(tmp_path / "elsewhere")
    before = all_files(tmp_path)
    for dry_run in (True, False):
        assert refusal(["p000"], stores=[store], receipt=tmp_path / "r.json", dry_run=dry_run) == (
            f"{store / name} is a link, and what it leads to would keep them, so nothing was removed anywhere; "
            "put the file itself in its place and run again"
        )
    assert all_files(tmp_path) == before


def test_a_table_that_is_no_manifest(tmp_path):
    pq.write_table(pa.table({"face_id": ["a"], "identity": ["a"]}), tmp_path / "m.parquet")
    assert refusal(["a"], manifests=[tmp_path / "m.parquet"], receipt=tmp_path / "r.json") == (
        f"{tmp_path / 'm.parquet'} has no column source; a manifest has the string columns face_id, identity, source"
    )
