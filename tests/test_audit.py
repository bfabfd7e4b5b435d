"""The certificate: it holds for whatever the selection writes, and no claim can be tampered with unseen."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from geometry import faces_at, random_faces, shard_of, split, write_store
from hypothesis import given, settings
from hypothesis import strategies as st

import facecore.select.audit
from facecore.errors import DataError
from facecore.forget import forget
from facecore.grid import STEPS
from facecore.manifest import provenance_of, with_provenance
from facecore.provenance import FOOTER_KEY
from facecore.select import SELECTORS, Nms, dropped_path, select
from facecore.select.audit import audit
from facecore.select.audit.report import CLAIMS, Findings

SIZES = [5, 1, 9, 2, 30, 4, 17]
LEVEL = 1 / STEPS


def selected(path, shards, selector=None, **options):
    """A store and a subset of it."""
    shards = list(shards)
    rows = sum(map(len, shards))
    store = write_store(path / "embeddings", shards, probability=np.linspace(0, 1, rows).astype(np.float32))
    options = options or {"keep": 0.6}
    select(store, selector or Nms(), out=path / "subset.parquet", **options)
    return path / "subset.parquet", store


def failed(found):
    return {check.name for check in found.checks if not check.ok}


def line(found, name):
    return next(check.to_text() for check in found.checks if check.name == name)


# What the selection writes holds


@pytest.mark.parametrize(
    ("selector", "options"),
    [
        (Nms(), {"keep": 0.6}),
        (Nms(), {"keep": 1.0}),
        (Nms(), {"max_cosine": 0.5}),
        (Nms(), {"max_cosine": -1}),
        (Nms(rank="random", seed=3), {"keep": 0.5}),
        (Nms(rank="central"), {"keep": 0.7}),
        (Nms(rank="dataset", neighbours=2), {"keep": 0.6}),
        (Nms(rank="confusable", neighbours=2), {"keep": 0.6}),
        (Nms(nested=True), {"keep": 0.6}),
        (Nms(nested=True, min_per_identity=3), {"keep": 0.5}),
        (Nms(nested=True, max_per_identity=4), {"keep": 0.3}),
        (Nms(min_per_identity=0), {"keep": 0.1}),
        (Nms(min_per_identity=2), {"keep": 0.4}),
        (Nms(min_per_identity=3), {"max_cosine": 0.2}),
        (Nms(min_share=0.3), {"keep": 0.5}),
        (Nms(min_share=0.07, min_per_identity=0), {"max_cosine": 0.1}),
        (Nms(min_share=0.5, nested=True, max_per_identity=6, min_centre_cosine=0.5), {"max_cosine": 0.4}),
        (Nms(max_per_identity=5), {"keep": 0.35}),
        (Nms(min_threshold=0.7, min_share=0.3), {"keep": 0.4}),
        (Nms(min_threshold=0.9, max_per_identity=8, min_centre_cosine=0.2, rank="twin"), {"keep": 0.3}),
        (Nms(min_threshold=1.0, nested=True, min_per_identity=2), {"keep": 0.5}),
        (Nms(max_per_identity=3, min_per_identity=3), {"max_cosine": 0.9}),
        (Nms(min_centre_cosine=0.3), {"keep": 0.4}),
        (Nms(min_centre_cosine=0.6, min_per_identity=2, max_per_identity=6), {"max_cosine": 0.8}),
    ],
    ids=str,
)
def test_what_nms_writes_holds(selector, options, tmp_path):
    found = audit(*selected(tmp_path, split(random_faces(4, SIZES), [2, 5]), selector, **options))
    assert found.ok, found.to_text()


@pytest.mark.parametrize("cls", SELECTORS.values(), ids=SELECTORS.keys())
def test_what_every_selector_writes_holds(cls, tmp_path):
    found = audit(*selected(tmp_path, [random_faces(7, SIZES)], cls(), keep=0.6))
    assert found.ok, found.to_text()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    max_cosine=st.floats(-1, 1),
    nested=st.booleans(),
    least=st.integers(0, 3),
    share=st.sampled_from([0, 0.1, 0.3, 2 / 3]),
    more=st.one_of(st.none(), st.integers(1, 4)),
    guard=st.one_of(st.none(), st.floats(-0.5, 0.9)),
)
def test_what_nms_writes_holds_whatever_the_options(
    tmp_path_factory, seed, sizes, max_cosine, nested, least, share, more, guard
):
    selector = Nms(
        nested=nested,
        min_per_identity=least,
        min_share=share,
        max_per_identity=None if more is None else least + more,
        min_centre_cosine=guard,
    )
    faces = random_faces(seed, sizes, dimension=5)
    found = audit(*selected(tmp_path_factory.mktemp("audit"), [faces], selector, max_cosine=max_cosine), threads=1)
    assert found.ok, found.to_text()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 12), min_size=1, max_size=6), st.floats(0.5, 1), st.booleans())
def test_an_exact_count_holds(tmp_path_factory, seed, sizes, keep, nested):
    faces = random_faces(seed, sizes, dimension=3)
    keep = max(keep, len(sizes) / len(faces))
    found = audit(*selected(tmp_path_factory.mktemp("audit"), [faces], Nms(nested=nested), keep=keep), threads=1)
    assert found.ok, found.to_text()


def test_the_count_asked_for_is_of_the_decimal_that_is_written(tmp_path):
    subset, store = selected(tmp_path, [random_faces(3, [50, 50, 50])], keep=0.07)
    assert line(audit(subset, store), "count").startswith("OK      count           10 faces are kept")


def test_an_identity_too_large_for_its_pairs_holds(tmp_path):
    found = audit(*selected(tmp_path, [random_faces(2, [3, 2500], dimension=4)], keep=0.3))
    assert found.ok, found.to_text()


def test_threads_and_shards_change_nothing(tmp_path):
    faces = random_faces(4, SIZES)
    lines = set()
    for number, cuts in enumerate(([], [1, 2, 6])):
        subset, store = selected(tmp_path / str(number), split(faces, cuts))
        lines |= {audit(subset, store, hashes=False, threads=threads).to_text() for threads in (1, 3)}
    assert len(lines) == 1


def test_nothing_comes_from_the_selection():
    own = "facecore.select.audit"
    for path in Path(facecore.select.audit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("facecore.select"):
                assert node.module.startswith(own), f"{path.name} imports {node.module}"


# What it says


def test_the_report_whole(tmp_path):
    subset, store = selected(tmp_path, [faces_at(0, 1, 40, 90)], keep=0.75)
    found = audit(subset, store)
    assert found.to_text().splitlines() == [
        "OK      provenance      2 files carry the record of the selection",
        "OK      contents        4 sha256 of the embeddings agree with the record's",
        "OK      faces           4 faces of the store are kept or dropped, each once and in order, "
        "with their identity and source",
        "OK      facts           6 recorded numbers are those counted",
        "OK      count           3 faces are kept, round(keep x faces)",
        "OK      threshold       3 faces stay at t*; one level below fewer than asked for, or t* is min_threshold",
        "OK      floor           1 identities keep min_per_identity faces or more, and min_share of theirs",
        "-       maximum         no maximum was asked for",
        "OK      pairs           3 kept faces are at most t* near to any other kept face of their identity",
        "OK      near-duplicates 1 near-duplicates are nearer than t* to their rival",
        "OK      rivals          1 dropped faces name the nearest kept face of their identity, and how near it is",
        "-       far-from-centre there are none",
        "OK      suppression     4 faces state their cosine to the nearest better-ranked face of their identity",
        "OK      sparsity        4 faces state what their rank says",
        "OK      reasons         4 faces stay, or go for the reason stated, when the rule is applied again at t*",
        "OK      trimmed         1 faces that only t* lets in: where some are trimmed, they are the last-ranked",
    ]
    assert found.verdict == f"{subset}: all 14 claims checked hold"
    assert audit(subset, store, hashes=False).checks[1].note == "its files were not read for that"


def test_the_verdict_names_what_does_not_hold(tampered):
    tampered.nms()
    recording(tampered.subset, facts={"kept": 27}, inputs={"embeddings": "0"})
    assert audit(tampered.subset, tampered.store).verdict == (
        f"{tampered.subset}: 2 of 14 claims do not hold: contents, facts; do not use it, select again; "
        "if it is of another store, name that with --embeddings; if files were changed, write the store again"
    )


def test_json_says_the_same(tmp_path):
    subset, store = selected(tmp_path, [faces_at(0, 1, 40, 90)], Nms(rank="random"), max_cosine=0.9)
    data = json.loads(json.dumps(audit(subset, store).to_json()))
    assert (data["subset"], data["ok"], len(data["checks"])) == (str(subset), True, len(CLAIMS))
    assert data["checks"][3] == {"name": "facts", "ok": True, "count": 6, "failed": 0, "offenders": []}
    notes = {check["name"]: check["note"] for check in data["checks"] if "note" in check}
    assert notes == {
        "count": "a cosine was asked for, no count",
        "threshold": "a cosine was asked for, no count",
        "maximum": "no maximum was asked for",
        "sparsity": "not recomputed for random",
    }


def test_other_methods_are_not_applied_again(tmp_path):
    found = audit(*selected(tmp_path, [random_faces(0, SIZES)], SELECTORS["herding"](), keep=0.5))
    assert {check.name: check.note for check in found.checks if not check.count} == {
        "threshold": "not applied again for herding",
        "maximum": "no maximum was asked for",
        "pairs": "herding does not promise it",
        "near-duplicates": "",
        "far-from-centre": "",
        "sparsity": "not recomputed for herding",
        "reasons": "not applied again for herding",
        "trimmed": "not applied again for herding",
    }


def test_a_floor_excuses_pairs(tmp_path):
    faces = shard_of(np.concatenate([faces_at(0, 1, 2).vectors, faces_at(0, 90).vectors]), ["a"] * 3 + ["b"] * 2)
    found = audit(*selected(tmp_path, [faces], Nms(min_per_identity=2), max_cosine=0.5))
    assert line(found, "pairs") == (
        "OK      pairs           4 kept faces are at most t* near to any other kept face of their identity; "
        "1 pairs are nearer to hold 2 an identity"
    )


def test_a_share_excuses_pairs_too(tmp_path):
    faces = shard_of(np.concatenate([faces_at(0, 1, 2).vectors, faces_at(0, 90).vectors]), ["a"] * 3 + ["b"] * 2)
    found = audit(*selected(tmp_path, [faces], Nms(min_share=0.6), max_cosine=0.5))
    assert line(found, "pairs") == (
        "OK      pairs           4 kept faces are at most t* near to any other kept face of their identity; "
        "1 pairs are nearer to hold 1 an identity and 0.6 of its faces"
    )


def test_only_the_first_offenders_are_named():
    findings, part = Findings(), Findings()
    findings.add("rivals", 9, list("abcd"))
    part.add("rivals", 4, list("efg"))
    findings.merge(part)
    check = next(check for check in findings.checks() if check.name == "rivals")
    assert check.to_text() == "FAILED  rivals          7 of 13: a; b; c; d; e; 2 more"


# What was tampered with does not


def edit(path, change, record=None):
    """Rewrite a manifest: `change` takes its table to another, `record` its provenance."""
    table, made = pq.read_table(path), provenance_of(path)
    table = change(table)
    schema = with_provenance(table.schema, record(made) if record else made)
    pq.write_table(table.cast(schema), path)


def same(table):
    return table


def put(table, name, row, value):
    """The table with one value changed."""
    values = table[name].to_pylist()
    values[row] = value
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def putting(name, row, value):
    """A change of one value, to what it is or what a function of it gives."""

    def change(table):
        old = table[name][row].as_py()
        return put(table, name, row, value(old) if callable(value) else value)

    return change


def recording(subset, **changes):
    """Change facts, options or inputs in the record of both files."""

    def record(made):
        return replace(made, **{part: {**getattr(made, part), **values} for part, values in changes.items()})

    for path in (subset, dropped_path(subset)):
        edit(path, same, record)


def without(row):
    return lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)])


def twice(row):
    return lambda table: pa.concat_tables([table.slice(0, row + 1), table.slice(row)])


def swapped(a, b):
    def change(table):
        order = np.arange(len(table))
        order[[a, b]] = b, a
        return table.take(order)

    return change


class Tampered:
    """Small subsets, changed in one place each."""

    def __init__(self, path):
        self.path = path

    def nms(self, selector=None, **options):
        """Five identities, p000 to p004; p001 has one face."""
        self.subset, self.store = selected(
            self.path, split(random_faces(4, [5, 1, 9, 2, 30]), [2]), selector, **options
        )
        self.dropped = dropped_path(self.subset)
        return pq.read_table(self.subset), pq.read_table(self.dropped)

    def fails(self, *names, **options):
        found = audit(self.subset, self.store, **options)
        assert failed(found) == set(names), found.to_text()
        return line(found, names[0]) if names else None


@pytest.fixture
def tampered(tmp_path):
    return Tampered(tmp_path)


OWN = ("face_id", "identity", "source", "sparsity", "suppression_cosine")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("file", "column"),
    [("subset", name) for name in OWN] + [("dropped", name) for name in (*OWN, "rival", "cosine", "reason")],
)
def test_no_value_changes_unseen(file, column, nested, tampered):
    table = tampered.nms(Nms(nested=nested, max_per_identity=12), keep=0.5)[file == "dropped"]
    path, values = getattr(tampered, file), table[column].to_pylist()
    for row in range(0, len(table), 5):
        old = values[row]
        other = old + LEVEL if isinstance(old, float) else next(value for value in values[::-1] if value != old)
        pq.write_table(put(table, column, row, other), path)
        found = audit(tampered.subset, tampered.store, hashes=False, threads=1)
        assert not found.ok, f"{column} of row {row}: {other}, was {old}"


def test_another_record_beside(tampered):
    tampered.nms()
    edit(tampered.dropped, same, lambda made: replace(made, stage="random"))
    assert tampered.fails("provenance") == (
        "FAILED  provenance      1 of 2: subset.dropped.parquet carries another record than subset.parquet, or none"
    )


def test_the_record_of_another_store(tampered):
    tampered.nms()
    sha256 = json.loads((tampered.store / "meta.json").read_text())["content"]
    recording(tampered.subset, inputs={"embeddings": "0" * 64})
    assert tampered.fails("contents") == (
        f"FAILED  contents        1 of 6: meta.json of {tampered.store} has {sha256[:12]}, the record 000000000000"
    )


def test_the_store_of_other_faces(tampered, tmp_path):
    tampered.nms()
    tampered.store = tmp_path / "other"
    write_store(tampered.store, [random_faces(5, [2, 3])])
    metadata = tampered.store / "metadata" / "metadata_00000.parquet"
    table = pq.read_table(metadata)
    pq.write_table(table.set_column(0, "face_id", pa.array([f"ann/{row}" for row in range(5)])), metadata)
    assert tampered.fails("faces", "contents", "facts", "count", hashes=False).startswith(
        "FAILED  faces           52 of 52: ann/0 is missing; "
    )
    found = audit(tampered.subset, tampered.store, hashes=False)
    assert line(found, "count") == "FAILED  count           1 of 1: 0 are kept, 3 were asked for"
    assert line(found, "reasons") == "-       reasons         5 faces left out, of identities that lack one"


def turned(store, row):
    """Change a vector of the first shard and keep its length."""
    path = store / "img_emb" / "img_emb_00000.npy"
    vectors = np.load(path)
    vectors[row] = np.roll(vectors[row], 1)
    np.save(path, vectors)


def test_a_vector_that_was_changed(tampered):
    tampered.nms()
    turned(tampered.store, 5)  # the only face of p001: nothing else depends on it
    assert tampered.fails("contents").startswith("FAILED  contents        2 of 6: the files hold ")
    assert tampered.fails("contents").endswith("; img_emb_00000.npy is not the file that meta.json describes")
    assert tampered.fails(hashes=False) is None


def test_a_vector_that_was_changed_beside_others(tampered):
    tampered.nms()
    turned(tampered.store, 2)
    found = audit(tampered.subset, tampered.store, hashes=False)
    assert {"sparsity", "suppression"} <= failed(found)
    assert "p000/0002 states" in line(found, "sparsity")


def test_a_store_whose_sources_were_changed(tampered):
    tampered.nms()
    path = tampered.store / "metadata" / "metadata_00001.parquet"
    edit_store = putting("source", 0, "elsewhere.jpg")
    table = pq.read_table(path)
    pq.write_table(edit_store(table), path)
    tampered.fails("contents", "faces")


@pytest.mark.parametrize("row", [0, 3, -1])
def test_a_dropped_row(row, tampered):
    _, dropped = tampered.nms()
    row %= len(dropped)
    edit(tampered.dropped, without(row))
    name = dropped["face_id"][row]
    assert tampered.fails("faces", "facts") == f"FAILED  faces           1 of 47: {name} is missing"


def test_a_kept_row_dropped(tampered):
    kept, _ = tampered.nms()
    edit(tampered.subset, without(4))
    found = tampered.fails("faces", "facts", "count")
    assert found == f"FAILED  faces           1 of 47: {kept['face_id'][4]} is missing"


def test_a_row_added_twice(tampered):
    _, dropped = tampered.nms()
    edit(tampered.dropped, twice(2))
    assert tampered.fails("faces") == f"FAILED  faces           1 of 47: {dropped['face_id'][2]} is there twice"


def test_a_face_in_both_files(tampered):
    kept, dropped = tampered.nms()
    assert kept["face_id"][0].as_py() < dropped["face_id"][0].as_py() < kept["face_id"][1].as_py()
    extra = dropped.select(kept.column_names).slice(0, 1)
    edit(tampered.subset, lambda table: pa.concat_tables([table.slice(0, 1), extra, table.slice(1)]))
    found = audit(tampered.subset, tampered.store)
    assert line(found, "faces") == f"FAILED  faces           1 of 47: {dropped['face_id'][0]} is there twice"


def test_a_face_nobody_knows(tampered):
    tampered.nms()
    edit(tampered.dropped, lambda table: put(twice(1)(table), "face_id", 1, "p000/9999"))
    assert tampered.fails("faces") == (
        "FAILED  faces           1 of 48: p000/9999 in subset.dropped.parquet is not of the store, or not in its order"
    )


def test_a_face_nobody_knows_at_the_end(tampered):
    kept, _ = tampered.nms()
    edit(tampered.subset, lambda table: put(twice(len(kept) - 1)(table), "face_id", len(kept), "z/0"))
    assert tampered.fails("faces") == (
        "FAILED  faces           1 of 48: z/0 in subset.parquet is not of the store, or not in its order"
    )


def test_rows_out_of_order(tampered):
    kept, _ = tampered.nms()
    edit(tampered.subset, swapped(0, 1))
    assert tampered.fails("faces") == (
        f"FAILED  faces           1 of 47: {kept['face_id'][0]} is out of order in subset.parquet"
    )


@pytest.mark.parametrize("column", ["identity", "source"])
def test_another_identity_or_source(column, tampered):
    _, dropped = tampered.nms()
    edit(tampered.dropped, putting(column, 3, "else"))
    assert tampered.fails("faces") == (
        f"FAILED  faces           1 of 47: {dropped['face_id'][3]} has the {column} {dropped[column][3]}, not else"
    )


def test_recorded_numbers(tampered):
    tampered.nms()
    recording(tampered.subset, facts={"kept": 27, "dropped": {"near-duplicate": 20}})
    assert tampered.fails("facts").startswith("FAILED  facts           2 of 6: kept is 28, not 27; dropped is {'near")


def test_a_threshold_off_the_grid(tampered):
    tampered.nms()
    t = provenance_of(tampered.subset).facts["max_cosine"]
    recording(tampered.subset, facts={"max_cosine": t + LEVEL / 4})
    assert tampered.fails("facts") == f"FAILED  facts           1 of 6: max_cosine is {t}, not {t + LEVEL / 4}"


def test_a_threshold_that_was_not_asked_for(tampered):
    tampered.nms(max_cosine=0.5)
    recording(tampered.subset, options={"max_cosine": 0.7})
    assert tampered.fails("facts").endswith(" not 0.5")


def test_a_count_that_was_not_asked_for(tampered):
    tampered.nms(SELECTORS["random"](), keep=0.6)
    recording(tampered.subset, options={"keep": 0.5})
    assert tampered.fails("count") == "FAILED  count           1 of 28: 28 are kept, 24 were asked for"


def test_a_threshold_higher_than_needed(tampered):
    tampered.nms(keep=0.6)
    t = provenance_of(tampered.subset).facts["max_cosine"]
    recording(tampered.subset, facts={"max_cosine": t + LEVEL})
    assert tampered.fails("threshold") == (
        "FAILED  threshold       1 of 28: 28 stay at t*, 28 one level below, 28 were asked for"
    )


def test_a_threshold_lower_than_it_was(tampered):
    tampered.nms(keep=0.6)
    t = provenance_of(tampered.subset).facts["max_cosine"]
    recording(tampered.subset, facts={"max_cosine": t - LEVEL})
    assert {"pairs", "threshold", "reasons"} <= failed(audit(tampered.subset, tampered.store))


def test_a_higher_floor_than_held(tampered):
    tampered.nms(SELECTORS["random"](min_per_identity=0), keep=0.2)
    recording(tampered.subset, options={"min_per_identity": 2})
    assert tampered.fails("floor") == (
        "FAILED  floor           3 of 5: p001 keeps 0 of 1; p002 keeps 1 of 9; p003 keeps 0 of 2"
    )


def test_a_larger_share_than_held(tampered):
    tampered.nms(SELECTORS["random"](min_per_identity=0), keep=0.2)
    recording(tampered.subset, options={"min_share": 0.5})
    assert tampered.fails("floor") == (
        "FAILED  floor           5 of 5: p000 keeps 2 of 5; p001 keeps 0 of 1; p002 keeps 1 of 9; p003 keeps 0 of 2; "
        "p004 keeps 6 of 30"
    )


def test_a_threshold_lower_than_may_be(tampered):
    tampered.nms(keep=0.4)
    recording(tampered.subset, options={"min_threshold": 0.9})
    assert tampered.fails("facts").startswith("FAILED  facts           1 of 6: max_cosine is 0.9")


def test_a_share_that_is_none(tampered):
    tampered.nms()
    recording(tampered.subset, options={"min_share": "half"})
    with pytest.raises(DataError) as error:
        audit(tampered.subset, tampered.store)
    assert str(error.value) == (
        f"{tampered.subset} carries no record of a selection; audit a file as facecore nms or select wrote it"
    )


def test_a_record_from_before_there_were_shares(tampered):
    tampered.nms()
    for path in (tampered.subset, tampered.dropped):
        made = json.loads(provenance_of(path).to_json())
        assert made["options"].pop("min_share") == 0
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(made)}), path)
    assert audit(tampered.subset, tampered.store).ok


def test_a_lower_maximum_than_held(tampered):
    tampered.nms(SELECTORS["random"](max_per_identity=9), keep=0.5)
    recording(tampered.subset, options={"max_per_identity": 8})
    assert tampered.fails("maximum") == "FAILED  maximum         1 of 5: p004 keeps 9 of 30"


def test_kept_faces_too_near(tampered):
    tampered.nms(SELECTORS["kcenter"](), keep=0.6)
    recording(tampered.subset, facts={"max_cosine": -0.5})
    assert "to another kept face; " in tampered.fails("pairs")


def test_a_near_duplicate_that_is_none(tampered):
    _, dropped = tampered.nms(SELECTORS["kcenter"](), max_cosine=0.5)
    assert set(dropped["reason"].to_pylist()) == {"outranked"}
    edit(tampered.dropped, putting("reason", 0, "near-duplicate"))
    recording(tampered.subset, facts={"dropped": {"near-duplicate": 1, "outranked": len(dropped) - 1}})
    t = provenance_of(tampered.subset).facts["max_cosine"]
    assert dropped["cosine"][0].as_py() > t
    assert tampered.fails() is None
    recording(tampered.subset, facts={"max_cosine": 1.0}, options={"max_cosine": 1.0})
    assert tampered.fails("near-duplicates") == (
        f"FAILED  near-duplicates 1 of 1: {dropped['face_id'][0]} is only {dropped['cosine'][0].as_py():.5f} "
        "near to its rival"
    )


def nearest(dropped, row):
    return f"{dropped['cosine'][row].as_py():.5f}"


@pytest.mark.parametrize("step", [LEVEL, -LEVEL, LEVEL / 8, float("nan"), None], ids=str)
def test_another_cosine(step, tampered):
    _, dropped = tampered.nms()
    row = dropped["reason"].to_pylist().index("near-duplicate", 9)
    edit(tampered.dropped, putting("cosine", row, lambda cosine: None if step is None else cosine + step))
    text = tampered.fails("rivals", *(["near-duplicates"] if step is None or step != step else []))
    name, true = dropped["face_id"][row], nearest(dropped, row)
    assert f"{name} is not as near to its rival as it states (" in text or "has another kept face nearer" in text
    assert text.endswith(f" stated, the nearest kept is at {true})")


def test_a_rival_that_is_not_the_nearest(tampered):
    kept, dropped = tampered.nms()
    row = dropped["identity"].to_pylist().index("p004")
    others = [
        face["face_id"]
        for face in kept.to_pylist()
        if face["identity"] == "p004" and face["face_id"] != dropped["rival"][row].as_py()
    ]
    edit(tampered.dropped, putting("rival", row, others[0]))
    name, true = dropped["face_id"][row], nearest(dropped, row)
    assert tampered.fails("rivals") == (
        f"FAILED  rivals          1 of 19: {name} is not as near to its rival as it states "
        f"({true} stated, the nearest kept is at {true})"
    )


def test_a_rival_that_is_as_near_as_stated_but_not_the_nearest(tampered):
    kept, dropped = tampered.nms(max_cosine=0.0)
    names = [face["face_id"] for face in kept.to_pylist() if face["identity"] == "p004"]
    row = next(
        row for row, face in enumerate(dropped.to_pylist()) if face["identity"] == "p004" and face["rival"] == names[0]
    )
    vectors = np.concatenate([np.load(path) for path in sorted(tampered.store.glob("img_emb/*.npy"))]).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    at = [int(name.split("/")[1]) for name in (dropped["face_id"][row].as_py(), names[1])]
    cosine = np.rint(vectors[at[0]] @ vectors[at[1]] * STEPS) / STEPS
    edit(tampered.dropped, lambda table: put(put(table, "rival", row, names[1]), "cosine", row, cosine))
    found = audit(tampered.subset, tampered.store)
    assert f"{dropped['face_id'][row]} has another kept face nearer than its rival ({cosine:.5f} stated" in line(
        found, "rivals"
    )


@pytest.mark.parametrize(
    ("rival", "what"),
    [
        ("p000/0000", "has a rival that is no face of its identity"),
        ("nobody", "has a rival that is no face of its identity"),
        (None, "names no rival"),
    ],
)
def test_a_rival_from_elsewhere(rival, what, tampered):
    _, dropped = tampered.nms()
    row = len(dropped) - 1
    edit(tampered.dropped, putting("rival", row, rival))
    assert tampered.fails("rivals").startswith(f"FAILED  rivals          1 of 19: {dropped['face_id'][row]} {what} (")


def test_a_rival_that_was_dropped(tampered):
    _, dropped = tampered.nms()
    assert dropped["identity"][-2] == dropped["identity"][-1]
    edit(tampered.dropped, putting("rival", len(dropped) - 1, dropped["face_id"][-2].as_py()))
    name = dropped["face_id"][-1]
    assert tampered.fails("rivals").startswith(
        f"FAILED  rivals          1 of 19: {name} has a rival that is not kept ("
    )


def test_a_rival_where_nobody_is_kept(tampered):
    _, dropped = tampered.nms(Nms(min_per_identity=0), keep=0.06)
    row = dropped["rival"].to_pylist().index(None)
    edit(tampered.dropped, putting("cosine", row, 0.5))
    assert tampered.fails("rivals") == (
        f"FAILED  rivals          1 of 44: {dropped['face_id'][row]} states a cosine to nobody "
        "(0.50000 stated, nobody is kept)"
    )


@pytest.mark.parametrize("file", ["subset", "dropped"])
def test_another_suppression_cosine(file, tampered):
    table = tampered.nms()[file == "dropped"]
    row = len(table) - 1
    edit(getattr(tampered, file), putting("suppression_cosine", row, lambda cosine: cosine + LEVEL))
    true = table["suppression_cosine"][row].as_py()
    assert tampered.fails("suppression") == (
        f"FAILED  suppression     1 of 47: {table['face_id'][row]} states {true + LEVEL:.5f}, not {true:.5f}"
    )


def test_the_best_face_has_nobody_before_it(tampered):
    kept, _ = tampered.nms()
    row = kept["face_id"].to_pylist().index("p001/0005")
    edit(tampered.subset, putting("suppression_cosine", row, -1 + LEVEL))
    assert tampered.fails("suppression").endswith("p001/0005 states -0.99994, not -1.00000")


@pytest.mark.parametrize("rank", ["identity", "central"])
def test_another_sparsity(rank, tampered):
    kept, _ = tampered.nms(Nms(rank=rank))
    row = kept["face_id"].to_pylist().index("p001/0005")
    edit(
        tampered.subset, putting("sparsity", row, lambda sparsity: sparsity + (LEVEL if rank == "identity" else -LEVEL))
    )
    assert tampered.fails("sparsity") == (
        "FAILED  sparsity        1 of 47: p001/0005 states a mean cosine of 0.99994, not 1.00000"
    )


def test_another_order(tampered):
    kept, _ = tampered.nms(Nms(rank="random"))
    edit(tampered.subset, putting("sparsity", len(kept) - 1, 7.0))
    assert "suppression" in failed(audit(tampered.subset, tampered.store))


@pytest.mark.parametrize("nested", [False, True])
def test_another_reason(nested, tampered):
    _, dropped = tampered.nms(Nms(nested=nested), max_cosine=0.4)
    counts = provenance_of(tampered.subset).facts["dropped"]
    edit(tampered.dropped, putting("reason", 0, "trimmed"))
    assert dropped["reason"][0].as_py() == "near-duplicate"
    facts = {**counts, "near-duplicate": counts["near-duplicate"] - 1, "trimmed": 1}
    recording(tampered.subset, facts={"dropped": facts})
    assert tampered.fails("reasons") == (
        f"FAILED  reasons         1 of 47: {dropped['face_id'][0]} is trimmed, should be near-duplicate"
    )


def test_a_reason_that_is_none(tampered):
    tampered.nms(SELECTORS["random"]())
    edit(tampered.dropped, putting("reason", 0, "kept"))
    assert tampered.fails("facts").startswith("FAILED  facts           1 of 6: dropped is {'")


def test_a_cosine_trims_nobody(tampered):
    tampered.subset, tampered.store = selected(tampered.path, [faces_at(0, 90, 180)], max_cosine=0.5)
    tampered.dropped = dropped_path(tampered.subset)
    face = pq.read_table(tampered.subset).to_pylist()[1]
    edit(tampered.subset, without(1))
    gone = {**face, "rival": "p000/0000", "cosine": 0.0, "reason": "trimmed"}
    edit(tampered.dropped, lambda table: pa.Table.from_pylist([gone], table.schema))
    recording(tampered.subset, facts={"kept": 2, "dropped": {"trimmed": 1}})
    assert tampered.fails("reasons") == "FAILED  reasons         1 of 3: p000/0001 is trimmed, should be kept"


def swap(tampered, out, into, **columns):
    """Drop the kept face `out`, for the reason and rival of the dropped face `into`, and keep that one."""
    kept, dropped = pq.read_table(tampered.subset).to_pylist(), pq.read_table(tampered.dropped).to_pylist()
    leaves = next(face for face in kept if face["face_id"] == out)
    comes = next(face for face in dropped if face["face_id"] == into)
    schemas = [pq.read_schema(path) for path in (tampered.subset, tampered.dropped)]
    kept = [face for face in kept if face is not leaves] + [{name: comes[name] for name in leaves}]
    dropped = [face for face in dropped if face is not comes] + [{**comes, **leaves, **columns}]
    for path, faces, schema in zip((tampered.subset, tampered.dropped), (kept, dropped), schemas, strict=True):
        pq.write_table(pa.Table.from_pylist(sorted(faces, key=lambda face: face["face_id"]), schema), path)


def test_kept_and_dropped_faces_swapped(tampered):
    _, dropped = tampered.nms()
    face = dropped.to_pylist()[-1]
    swap(tampered, face["rival"], face["face_id"], rival=face["face_id"])
    assert f"{face['rival']} is near-duplicate, should be kept" in tampered.fails("reasons")


def halves(seed, sizes):
    """Identities of these sizes; four of six coordinates are a half or its negative, so many cosines are equal."""
    rng = np.random.default_rng(seed)
    faces = np.zeros((sum(sizes), 6))
    for face in faces:
        face[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5, 0.5, 0.5], 4)
    return shard_of(faces, np.repeat(np.arange(len(sizes)), sizes))


def test_trimmed_and_over_the_maximum_in_one_identity(tmp_path):
    # ranked 12, 11, 6, 8, 7, 9, 10; 12, 11, 6 and 9 stay at t*, of these 9 is over three and 6 is trimmed
    subset, store = selected(tmp_path, [halves(113, [6, 7, 8])], Nms(max_per_identity=3), keep=0.38)
    dropped = pq.read_table(dropped_path(subset)).to_pandas()
    assert dict(dropped[dropped.identity == "p001"][["face_id", "reason"]].to_numpy().tolist()) == {
        "p001/0006": "trimmed",
        "p001/0007": "trimmed",  # only 6 suppresses it
        "p001/0008": "near-duplicate",  # of 11
        "p001/0009": "over-maximum",
        "p001/0010": "over-maximum",  # only 9 suppresses it: 7 and 8 do not stay
    }
    assert audit(subset, store).ok
    edit(
        dropped_path(subset),
        lambda table: put(table, "reason", len(dropped[dropped.identity <= "p001"]) - 1, "trimmed"),
    )
    assert line(audit(subset, store), "reasons") == (
        "FAILED  reasons         1 of 21: p001/0010 is trimmed, should be over-maximum"
    )


@pytest.mark.parametrize("seed", [40, 50, 51, 63, 74, 148, 161, 225, 342])
def test_where_both_happen_the_reasons_hold(seed, tmp_path):
    subset, store = selected(tmp_path, [halves(seed, [6, 7, 8])], Nms(max_per_identity=3), keep=0.38)
    assert {"trimmed", "over-maximum"} <= set(pq.read_table(dropped_path(subset))["reason"].to_pylist())
    assert audit(subset, store).ok


def test_a_later_face_trimmed(tampered):
    """All alike: the first rows are ranked first, so the last are trimmed."""
    faces = shard_of(np.tile([1.0, 0.0], (4, 1)), ["a"] * 4)
    tampered.subset, tampered.store = selected(tampered.path, [faces], keep=0.5)
    tampered.dropped = dropped_path(tampered.subset)
    swap(tampered, "p000/0001", "p000/0002")
    assert tampered.fails("trimmed") == (
        "FAILED  trimmed         1 of 3: p000/0002 is kept, though ranked after a face that is trimmed"
    )


def test_a_face_trimmed_that_stays_below(tampered):
    """In both identities t* lets in the face in the middle; one of these may be trimmed, but no other."""
    faces = shard_of(np.tile(faces_at(0, 30, 90).vectors, (2, 1)), ["a"] * 3 + ["b"] * 3)
    tampered.subset, tampered.store = selected(tampered.path, [faces], keep=0.83)
    tampered.dropped = dropped_path(tampered.subset)
    assert pq.read_table(tampered.dropped)["reason"].to_pylist() == ["trimmed"]
    swap(tampered, "p001/0005", "p001/0004", rival="p001/0004", cosine=0.5 - LEVEL)
    assert tampered.fails("trimmed") == (
        "FAILED  trimmed         1 of 2: p001/0005 stays one level below, too, and is trimmed"
    )


def test_a_weaker_guard_than_stated(tampered):
    _, dropped = tampered.nms(Nms(min_centre_cosine=0.6), keep=0.4)
    far = dropped["reason"].to_pylist().index("far-from-centre")
    recording(tampered.subset, options={"min_centre_cosine": -1})
    text = tampered.fails("far-from-centre")
    assert f": {dropped['face_id'][far]} is far: " in text
    recording(tampered.subset, options={"min_centre_cosine": None})
    assert tampered.fails("far-from-centre").split(":", 1)[1] == text.split(":", 1)[1]


def test_a_stronger_guard_than_stated(tampered):
    tampered.nms(Nms(min_centre_cosine=0.3), keep=0.4)
    recording(tampered.subset, options={"min_centre_cosine": 0.7})
    assert " is not far: 0." in tampered.fails("far-from-centre")


# What cannot be audited


def test_files_that_are_not_there(tmp_path):
    subset, store = selected(tmp_path, [random_faces(1, [4])])
    with pytest.raises(DataError) as error:
        audit(tmp_path / "other.parquet", store)
    assert str(error.value) == f"no manifest at {tmp_path / 'other.parquet'}; facecore nms writes one"
    with pytest.raises(DataError) as error:
        audit(store, store)
    assert str(error.value) == f"{store} is a folder; audit a file as facecore nms or select wrote it"
    with pytest.raises(DataError) as error:
        audit(dropped_path(subset), store)
    assert str(error.value) == f"{dropped_path(subset)} lists the dropped faces; give the subset itself, {subset}"
    dropped_path(subset).unlink()
    with pytest.raises(DataError) as error:
        audit(subset, store)
    assert str(error.value) == (
        f"no {dropped_path(subset)}, which lists the dropped faces of a subset; put it back beside that, "
        "or run facecore nms again"
    )


def test_a_manifest_that_is_no_subset(tmp_path):
    subset, store = selected(tmp_path, [random_faces(1, [4])])
    edit(subset, lambda table: table.drop_columns(["sparsity"]))
    with pytest.raises(DataError) as error:
        audit(subset, store)
    assert str(error.value) == (f"{subset} has no column sparsity; audit a file as facecore nms or select wrote it")


def test_a_file_that_is_cut_short(tmp_path):
    subset, store = selected(tmp_path, [random_faces(1, [4])])
    subset.write_bytes(subset.read_bytes()[:-9])
    with pytest.raises(DataError) as error:
        audit(subset, store)
    assert str(error.value) == f"{subset} is not a whole Parquet file; copy it again, or run again what wrote it"


def test_a_column_of_another_kind(tmp_path):
    subset, store = selected(tmp_path, [random_faces(1, [4])])
    table = pq.read_table(subset)
    table = table.drop_columns(["sparsity"]).append_column("sparsity", pa.array(["much"] * len(table)))
    pq.write_table(table.replace_schema_metadata(pq.read_schema(subset).metadata), subset)
    with pytest.raises(DataError) as error:
        audit(subset, store)
    assert str(error.value) == f"{subset} is damaged, or its columns are not what they should be"


@pytest.mark.parametrize("changes", [{"options": {}}, {"inputs": {}}, {"facts": {"max_cosine": 1e999}}, None], ids=str)
def test_a_subset_without_a_record(changes, tmp_path):
    subset, store = selected(tmp_path, [random_faces(1, [4])])
    table = pq.read_table(subset).replace_schema_metadata(None)
    if changes:
        made = json.loads(provenance_of(subset).to_json()) | changes
        table = table.replace_schema_metadata({FOOTER_KEY: json.dumps(made)})
    pq.write_table(table, subset)
    with pytest.raises(DataError) as error:
        audit(subset, store)
    assert str(error.value) == (
        f"{subset} carries no record of a selection; audit a file as facecore nms or select wrote it"
    )


def test_a_subset_from_which_people_were_withdrawn_is_not_audited(tmp_path):
    store = write_store(tmp_path / "store", [random_faces(0, [5, 6, 7])])
    subset = tmp_path / "subset.parquet"
    select(store, Nms(), keep=0.6, out=subset)
    forget(["p001"], stores=[store], manifests=[subset], receipt=tmp_path / "receipt.json")
    with pytest.raises(DataError) as error:
        audit(subset, store)
    gone = provenance_of(subset).facts["forgotten"]
    assert gone > 0
    assert str(error.value) == (
        f"{gone} faces of {subset} were forgotten after it was selected, so what it claims held of another set; "
        "run facecore nms again"
    )


def test_metadata_that_is_damaged_inside_is_named(tmp_path):
    subset, store = selected(tmp_path, split(random_faces(4, SIZES), [2, 5]))
    path = store / "metadata" / "metadata_00000.parquet"
    data = bytearray(path.read_bytes())
    data[100:300] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        audit(subset, store, hashes=False)
    assert str(caught.value) == (
        f"{path} is damaged; delete it and run facecore embed again, it redoes only that shard, "
        "or facecore import --overwrite if that wrote it"
    )
