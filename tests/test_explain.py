"""Why a face stays or goes, in whole sentences."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from geometry import random_faces, write_store
from test_report import DROPPED, EVIL, KEPT, gone, row, torn_inside, write_subset_of

from facecore.cli import main
from facecore.errors import DataError
from facecore.forget import forget
from facecore.manifest import provenance_of, with_provenance
from facecore.report import explain
from facecore.select import Nms, dropped_path, select, take, write_order

TERMS = """
cosine    how alike two faces are to the network: 1 the same, 0 nothing in common
rank      the order in which faces of an identity are taken: {rank}
t*        0.6000, one limit for the whole data set: 5 of 9 faces stay
"""


@pytest.fixture
def subset(tmp_path):
    return write_subset_of(tmp_path / "subset.parquet", KEPT, DROPPED, rows=2, kept=5, faces=9)


def said(face_id, subset, *more):
    done = CliRunner().invoke(main, ["explain", face_id, "--subset", str(subset), *map(str, more)])
    return done.exit_code, done.output


def test_a_near_duplicate_names_its_rival(subset):
    assert said("ann/1", subset) == (
        0,
        "ann/1 was dropped: near-duplicate\n"
        "It is too much like ann/0, which is kept in its place.\n"
        "Their cosine is 0.8750, above t* = 0.6000, and that one ranks before it: 1 against 2.\n"
        + TERMS.format(rank="as the method ranks them")
        + "\n"
        "ann: 3 of 5 faces kept\n"
        "    rank  what became of it\n"
        "       1  ann/0 kept\n"
        ">      2  ann/1 dropped, near-duplicate of ann/0 (0.8750)\n"
        "       3  ann/2 dropped, near-duplicate of ann/0 (0.7500)\n"
        "       4  ann/3 kept\n"
        "       5  ann/4 kept\n"
        "--embeddings STORE adds the cosine of each to this face\n",
    )


def test_a_subset_without_a_record_says_so(subset):
    for path in (subset, dropped_path(subset)):
        pq.write_table(pq.read_table(path).replace_schema_metadata(), path)
    assert "A selection that left no record chose it; the nearest face ranked before it" in said("ann/4", subset)[1]
    assert "unknown" not in said("ann/4", subset)[1]


def test_a_subset_without_a_record_does_not_blame_the_store(subset, tmp_path):
    store = write_store(tmp_path / "embeddings", [random_faces(0, [3])])
    pq.write_table(pq.read_table(subset).replace_schema_metadata(), subset)
    assert said("ann/4", subset, "--embeddings", store) == (
        1,
        f"Error: {subset} has no record of the store it was selected from; leave --embeddings out\n",
    )


def test_what_was_forgotten_since_is_counted(subset):
    table, made = pq.read_table(subset), provenance_of(subset)
    since = dataclasses.replace(made, facts={**made.facts, "forgotten": 2})
    pq.write_table(table.cast(with_provenance(table.schema, since)), subset)
    assert "for the whole data set: 5 of 9 faces stay; 2 of these were forgotten since\n" in said("ann/0", subset)[1]


def test_a_subset_that_may_not_be_read_is_not_called_damaged(subset, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert said("ann/0", subset) == (1, f"Error: {subset} may not be read; change its permissions\n")


@pytest.mark.parametrize(
    ("face_id", "lines"),
    [
        ("ann/0", ["ann/0 was kept", "It ranks first of the 5 faces of ann: nothing can take its place."]),
        (
            "ann/3",
            [
                "ann/3 was kept",
                "Nothing before it is too much like it: the nearest face ranked before it has a cosine of 0.5000 to "
                "it, not above t* = 0.6000.",
            ],
        ),
        (
            "ann/4",
            [
                "ann/4 was kept",
                "A face does not suppress if it was dropped itself: the nearest face ranked before it has a cosine of "
                "0.8750 to it, above t* = 0.6000,",
                "but that one was dropped. No kept face before it is as near.",
            ],
        ),
        (
            "bob/1",
            [
                "bob/1 was dropped: trimmed",
                "At t* a few faces too many stay; the last ones by rank go, so that the count is exact.",
                "The kept face nearest to it is bob/0, with a cosine of 0.5000.",
            ],
        ),
    ],
)
def test_every_fate_has_its_reason(subset, face_id, lines):
    code, output = said(face_id, subset)
    assert (code, output.split("\n\n")[0].splitlines()) == (0, lines)


@pytest.mark.parametrize(
    ("options", "also"),
    [
        ({"min_per_identity": 1, "min_share": 0.0}, ""),
        ({"min_per_identity": 3}, ", unless it fills up the 3 faces that every identity keeps"),
        (
            {"min_per_identity": 1, "min_share": 0.5},
            ", unless it fills up the 0.5 of its faces that every identity keeps",
        ),
        (
            {"min_per_identity": 2, "min_share": 0.5},
            ", unless it fills up the 2 faces and the 0.5 of its faces that every identity keeps",
        ),
    ],
    ids=str,
)
def test_a_face_may_fill_up_a_floor(options, also, subset):
    for path in (subset, dropped_path(subset)):
        made = dataclasses.replace(provenance_of(path), options=options)
        table = pq.read_table(path)
        pq.write_table(table.cast(with_provenance(table.schema, made)), path)
    assert f"but that one was dropped. No kept face before it is as near{also}.\n" in said("ann/4", subset)[1]


def test_an_only_face_and_other_methods(tmp_path):
    alone = gone("cas", 0, 0.0, "far-from-centre", None)
    listed = [*DROPPED, alone, gone("ann", 5, 0.25, "outranked")]
    path = write_subset_of(tmp_path / "a.parquet", [*KEPT, row("dan", 0, -1.0)], listed, stage="herding")
    assert "It is the only face of dan, so no other can take its place.\n" in said("dan/0", path)[1]
    assert (
        "herding chose it; the nearest face ranked before it has a cosine of 0.5000 to it.\n" in said("ann/3", path)[1]
    )
    assert "herding chose other faces before it.\nThe kept face nearest to it is ann/0" in said("ann/5", path)[1]
    assert "perhaps a wrong label" in said("cas/0", path)[1]
    assert "Which kept face is nearest is not recorded" in said("cas/0", path)[1]
    assert "t* " not in said("ann/3", path)[1]


def test_with_the_store_the_nearest_come_first(tmp_path):
    shard = random_faces(1, [30, 3])
    store = write_store(tmp_path / "embeddings", [shard])
    path = tmp_path / "subset.parquet"
    done = select(store, Nms(), keep=0.5, out=path)
    dropped = pq.read_table(tmp_path / "subset.dropped.parquet")
    name = dropped["face_id"][0].as_py()
    found = explain(name, path, embeddings=store)
    cosines = shard.vectors[:30] @ shard.vectors[int(name.split("/")[1])]
    assert [fate.cosine for fate in sorted(found.relatives, key=lambda fate: fate.face_id)] == pytest.approx(
        cosines.tolist(), abs=1e-3
    )
    assert len(found.relatives) == 30
    lines = found.to_text().splitlines()
    table = lines[next(n for n, line in enumerate(lines) if "what became of it" in line) + 1 :]
    shown = [float(line.lstrip("> ").split()[1]) for line in table if "p000/" in line]
    assert shown[0] == 1
    assert shown[:12] == sorted(shown[:12], reverse=True)
    assert np.isclose(done.max_cosine, found.subset.max_cosine)
    assert any(f"{found.fate.rival} kept" in line for line in table)


def test_places_agree_with_who_suppresses_whom(tmp_path):
    """A near-duplicate's suppressor ranks before it: the first of an identity is never dropped as one."""
    store = write_store(tmp_path / "embeddings", [random_faces(2, [9, 7, 5])])
    path = tmp_path / "subset.parquet"
    select(store, Nms(rank="random"), keep=0.5, out=path)
    for face_id in pq.read_table(path)["face_id"].to_pylist()[:4]:
        first = explain(face_id, path).relatives[0]
        assert first.is_kept
        assert first.suppression_cosine == -1


def test_a_face_that_is_nowhere(subset, tmp_path):
    start = f"Error: no face {{}} in {subset} or {tmp_path / 'subset.dropped.parquet'}; "
    assert said("ann", subset) == (1, start.format("ann") + "the nearest are ann/0, ann/3, ann/4\n")
    assert said("BOB/0", subset) == (1, start.format("BOB/0") + "the nearest are bob/0\n")
    assert said("bop/1", subset) == (1, start.format("bop/1") + "the nearest are bob/1, bob/0\n")
    assert said("zz", subset) == (1, start.format("zz") + "the column face_id lists those that there are\n")


def test_a_name_is_taken_as_it_is(subset):
    assert said(f"{EVIL}/1", subset)[1].startswith(f"{EVIL}/1 was dropped: near-duplicate\n")


def test_a_subset_without_its_dropped_faces(subset):
    dropped_path(subset).unlink()
    assert said("bob/1", subset) == (
        1,
        f"Error: no {dropped_path(subset)}, which lists the dropped faces of a subset; put it back beside that, "
        "or run facecore nms again\n",
    )


def test_a_store_of_which_faces_were_forgotten(tmp_path):
    store, subset = write_store(tmp_path / "embeddings", [random_faces(0, [3, 3])]), tmp_path / "subset.parquet"
    select(store, Nms(), keep=1, out=subset)
    forget(["p001"], stores=[store], manifests=[subset], receipt=tmp_path / "receipt.json")
    assert said("p000/0000", subset, "--embeddings", store) == (
        1,
        f"Error: {store} is not, or no longer, the store that {subset} was selected from: faces were forgotten; "
        "leave --embeddings out\n",
    )


def test_a_rejected_face_and_a_foreign_store(subset, tmp_path):
    store = write_store(tmp_path / "embeddings", [random_faces(0, [3])])
    assert said("p000/0000", subset, "--embeddings", store) == (
        1,
        f"Error: {store} is not the store that {subset} was selected from; "
        "give --embeddings that one, or leave it out\n",
    )
    path = tmp_path / "own.parquet"
    select(store, Nms(), keep=1, out=path)
    pq.write_table(pa.table({"face_id": ["p000/9"], "reason": ["not an image: torn"]}), store / "rejected.parquet")
    with pytest.raises(
        DataError, match=r"^p000/9 was never selected from: it was rejected before, not an image: torn; mend"
    ):
        explain("p000/9", path, embeddings=store)


def test_what_is_no_subset(tmp_path):
    assert said("a", tmp_path / "none.parquet") == (
        1,
        f"Error: no manifest at {tmp_path / 'none.parquet'}; facecore nms writes one\n",
    )
    for name in ("list.parquet", "list.dropped.parquet"):
        pq.write_table(pa.table({"face_id": ["a"]}), tmp_path / name)
    assert said("a", tmp_path / "list.parquet") == (
        1,
        f"Error: {tmp_path / 'list.parquet'} has no column identity, so no selection wrote it; give a subset of nms\n",
    )


def test_the_first_rows_of_an_order_have_no_dropped_faces(tmp_path):
    store = write_store(tmp_path / "store", [random_faces(0, [4, 3])])
    write_order(store, Nms(), out=tmp_path / "order.parquet")
    take(tmp_path / "order.parquet", keep=0.5, out=tmp_path / "half.parquet")
    assert said("p000/0000", tmp_path / "half.parquet") == (
        1,
        f"Error: {tmp_path / 'half.parquet'} is the first rows of an order, which have no dropped faces; "
        "facecore nms --nested --keep writes such a subset and its dropped faces\n",
    )


def test_names_with_control_characters_stay_in_their_line(tmp_path):
    ugly = "a\nb\x1b[31m\u2028é"
    path = write_subset_of(tmp_path / "subset.parquet", [row(ugly, 0, -1.0)], [gone(ugly, 1, 0.875)])
    code, output = said(f"{ugly}/1", path)
    name = "a\\nb\\x1b[31m\\u2028é"
    assert code == 0
    assert output.splitlines()[:2] == [
        f"{name}/1 was dropped: near-duplicate",
        f"It is too much like {name}/0, which is kept in its place.",
    ]
    assert output.splitlines()[-5:-1] == [
        f"{name}: 1 of 2 faces kept",
        "    rank  what became of it",
        f"       1  {name}/0 kept",
        f">      2  {name}/1 dropped, near-duplicate of {name}/0 (0.8750)",
    ]
    assert said(f"{ugly}/2", path) == (
        1,
        f"Error: no face {name}/2 in {path} or {tmp_path / 'subset.dropped.parquet'}; "
        f"the nearest are {name}/1, {name}/0\n",
    )


@pytest.mark.parametrize(
    ("face_id", "line"),
    [
        ("", "FACE_ID is empty; give one of the column face_id of {subset}"),
        (" ", "FACE_ID is blank; give one of the column face_id of {subset}"),
        ("\udcff", "no face \\udcff in {subset}, for that is no UTF-8; give one of its column face_id"),
    ],
)
def test_what_names_no_face(subset, face_id, line):
    assert said(face_id, subset) == (1, f"Error: {line.format(subset=subset)}\n")


def test_a_folder_and_the_dropped_faces_are_no_subset(subset, tmp_path):
    assert said("ann/0", tmp_path) == (
        1,
        f"Error: {tmp_path} is a folder; give a subset, which is a Parquet file, such as subset.parquet\n",
    )
    dropped = tmp_path / "subset.dropped.parquet"
    assert said("ann/1", dropped) == (
        1,
        f"Error: {dropped} lists the dropped faces; give the subset itself, {subset}\n",
    )


@pytest.mark.parametrize(
    ("listed", "what"),
    [
        (gone("ann", 1, float("nan")), "suppression_cosine of ann/1 is nan"),
        (gone("ann", 1, 0.75) | {"cosine": float("nan")}, "cosine of ann/1 is nan"),
        (gone("ann", 1, 0.75) | {"cosine": None}, "cosine of ann/1 is None"),
        (gone("ann", 1, 0.75) | {"sparsity": float("inf")}, "sparsity of ann/1 is inf"),
        (gone("ann", 1, 0.75) | {"reason": None}, "reason of ann/1 is None"),
    ],
)
def test_what_no_selection_writes_is_damage(tmp_path, listed, what):
    path = write_subset_of(tmp_path / "subset.parquet", KEPT, [listed])
    assert said("ann/0", path) == (
        1,
        f"Error: {tmp_path / 'subset.dropped.parquet'} is damaged, or facecore did not write it: {what}; "
        "run facecore nms again\n",
    )


def test_damage_inside_and_a_face_listed_twice(tmp_path):
    path = write_subset_of(tmp_path / "subset.parquet", KEPT, [gone("ann", 0, 0.75)])
    dropped = tmp_path / "subset.dropped.parquet"
    assert said("ann/0", path) == (1, f"Error: ann/0 is 2 times in {path} and {dropped}; run facecore nms again\n")
    torn_inside(path)
    code, output = said("ann/0", path)
    assert code == 1
    assert re.fullmatch(rf"Error: {re.escape(str(path))} is damaged \(.*\); write it again, or move it away\n", output)
