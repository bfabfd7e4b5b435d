"""One row order whose every prefix is a subset."""

import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry import faces_at, random_faces, split, write_store

from facecore.errors import DataError, OptionError
from facecore.manifest import read_manifest
from facecore.review import conflicts
from facecore.select import Nms, dropped_path, select, take, write_order
from facecore.select.audit import audit


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", split(random_faces(5, [6, 1, 20, 3, 3, 11, 8]), [2, 5]))


def names(path):
    return pq.read_table(path)["face_id"].to_pylist()


@pytest.mark.parametrize("rank", ["identity", "central", "random", "twin"])
def test_every_prefix_is_the_nested_subset_of_its_size(rank, store, tmp_path):
    done = write_order(store, Nms(rank=rank), out=tmp_path / "order.parquet")
    order = names(tmp_path / "order.parquet")
    assert (done.kept, len(order), len(set(order))) == (52, 52, 52)
    for kept in range(7, 53, 6):
        out = tmp_path / "subset.parquet"
        select(store, Nms(rank=rank, nested=True), keep=kept / 52, out=out, overwrite=True)
        assert set(names(out)) == set(order[:kept])


def test_the_order_by_eye(tmp_path):
    # 90 degrees is the sparsest; then 0, whose cosine to it is 0; 40 has .78 to 1, and 1 nearly 1 to 0
    write_order(write_store(tmp_path / "store", [faces_at(0, 1, 40, 90)]), Nms(), out=tmp_path / "order.parquet")
    assert names(tmp_path / "order.parquet") == ["p000/0003", "p000/0000", "p000/0002", "p000/0001"]
    rows = pq.read_table(tmp_path / "order.parquet")
    assert rows["suppression_cosine"].to_numpy() == pytest.approx(np.cos(np.radians([180, 90, 39, 1])), abs=5e-4)


@pytest.mark.parametrize(
    ("limits", "are_nested"),
    [
        ({}, True),
        ({"min_per_identity": 0}, True),
        ({"min_centre_cosine": 0.1}, True),
        ({"min_per_identity": 2}, False),
        ({"min_share": 0.3}, False),
        ({"max_per_identity": 4}, False),
    ],
    ids=str,
)
def test_nested_subsets_are_nested_unless_identities_keep_more_than_one_or_a_maximum(limits, are_nested, tmp_path):
    store = write_store(tmp_path / "store", [random_faces(1, [9, 8, 7])])
    most = 13 if limits.get("max_per_identity") else 22
    subsets = []
    for kept in range(9, most):
        select(store, Nms(nested=True, **limits), keep=kept / 24, out=tmp_path / f"{kept}.parquet")
        subsets.append(set(names(tmp_path / f"{kept}.parquet")))
    assert all(less < more for less, more in itertools.pairwise(subsets)) == are_nested


def test_what_the_limits_forbid_is_left_out(store, tmp_path):
    done = write_order(store, Nms(max_per_identity=5), out=tmp_path / "order.parquet")
    assert done.kept == 5 + 1 + 5 + 3 + 3 + 5 + 5
    assert done.dropped == {"over-maximum": 52 - done.kept}
    assert len(names(tmp_path / "order.dropped.parquet")) == 52 - done.kept


def test_the_order_does_not_depend_on_shards_or_threads(tmp_path):
    faces = random_faces(5, [6, 1, 20, 3, 3, 11, 8])
    for name, cuts, threads in (("one", [], 1), ("many", [1, 3, 6], 2)):
        store = write_store(tmp_path / f"{name}-store", split(faces, cuts))
        write_order(store, Nms(), out=tmp_path / name / "order.parquet", threads=threads)
    assert (tmp_path / "one/order.parquet").read_bytes() == (tmp_path / "many/order.parquet").read_bytes()


def test_take_cuts_an_order(store, tmp_path):
    write_order(store, Nms(), out=tmp_path / "order.parquet")
    assert take(tmp_path / "order.parquet", keep=0.25, out=tmp_path / "quarter.parquet") == 13
    table, made = read_manifest(tmp_path / "quarter.parquet")
    assert table["face_id"].to_pylist() == names(tmp_path / "order.parquet")[:13]
    assert (made.stage, made.options, made.facts["kept"], made.facts["root"]) == ("take", {"keep": 0.25}, 13, "images")


def test_what_cannot_be(store, tmp_path):
    with pytest.raises(OptionError) as error:
        write_order(store, Nms(min_per_identity=2), out=tmp_path / "order.parquet")
    assert str(error.value) == ("an order keeps one face of every identity first, not 2; leave --min-per-identity out")
    with pytest.raises(OptionError) as error:
        write_order(store, Nms(min_share=0.25), out=tmp_path / "order.parquet")
    assert str(error.value) == (
        "an order keeps one face of every identity first, not 0.25 of its faces; leave --min-share out"
    )
    write_order(store, Nms(), out=tmp_path / "order.parquet")
    with pytest.raises(OptionError) as error:
        take(tmp_path / "order.parquet", keep=0.001, out=tmp_path / "none.parquet")
    assert str(error.value) == "keep 0.001 asks for 0 of 52 faces, but that is none; use --keep 0.019231 or more"
    with pytest.raises(DataError) as error:
        take(tmp_path / "order.parquet", keep=0.5, out=tmp_path / "order.parquet", overwrite=True)
    assert str(error.value) == (
        f"{tmp_path / 'order.parquet'} is {tmp_path / 'order.parquet'}, from which it would be made; "
        "choose another --out"
    )
    select(store, Nms(), keep=0.5, out=tmp_path / "subset.parquet")
    with pytest.raises(DataError) as error:
        take(tmp_path / "subset.parquet", keep=0.5, out=tmp_path / "half.parquet")
    assert str(error.value) == (
        f"{tmp_path / 'subset.parquet'} is no order, so its first rows are no subset; facecore nms --order writes one"
    )
    with pytest.raises(DataError) as error:
        take(tmp_path / "gone.parquet", keep=0.5, out=tmp_path / "half.parquet")
    assert str(error.value) == f"no order at {tmp_path / 'gone.parquet'}; facecore nms --order writes one"


def test_what_is_taken_is_never_beside_the_dropped_faces_of_another(store, tmp_path):
    order, out = tmp_path / "order.parquet", tmp_path / "subset.parquet"
    write_order(store, Nms(), out=order)
    select(store, Nms(), keep=0.5, out=out)
    out.unlink()
    with pytest.raises(DataError) as error:
        take(order, keep=0.25, out=out)
    assert str(error.value) == (f"{dropped_path(out)} exists; choose another --out, or add --overwrite to replace it")
    assert (out.exists(), dropped_path(out).exists()) == (False, True)
    take(order, keep=0.25, out=out, overwrite=True)
    assert (out.exists(), dropped_path(out).exists()) == (True, False)


def test_an_order_and_what_was_taken_of_it_are_not_audited(store, tmp_path):
    write_order(store, Nms(), out=tmp_path / "order.parquet")
    take(tmp_path / "order.parquet", keep=0.5, out=tmp_path / "half.parquet")
    for name in ("order", "half"):
        with pytest.raises(DataError) as error:
            audit(tmp_path / f"{name}.parquet", store)
        assert str(error.value) == (
            f"{tmp_path / name}.parquet is an order, or the first rows of one, and is not audited; "
            "its subsets are those of facecore nms --nested --keep, which are"
        )


def test_no_input_is_overwritten(store, tmp_path):
    for out, where in ((store / "meta.json", "lies in"), (store / "img_emb" / "x.parquet", "lies in")):
        for make in (
            lambda out: select(store, Nms(), keep=0.5, out=out, overwrite=True),
            lambda out: write_order(store, Nms(), out=out, overwrite=True),
            lambda out: conflicts(store, out, overwrite=True),
        ):
            with pytest.raises(DataError) as error:
                make(out)
            assert str(error.value) == f"{out} {where} {store}, from which it would be made; choose another --out"
