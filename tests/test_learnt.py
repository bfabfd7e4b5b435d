"""What the collectors of trainings say, against figures that one can add up by hand."""

import json
import shutil
from dataclasses import replace

import learnt
import pyarrow as pa
import pytest
import which_rank
from learnt import headline, sources
from learnt import which_rank as which_rank_told
from plots import _lines
from sources import is_of

from facecore.accuracy import Check
from facecore.manifest import COLUMNS, write_manifest
from facecore.provenance import Provenance, sha256_of_file
from facecore.quantize import Bits, QuantizeOptions

FOLDS = (0.70, 0.80)
FACES = ("ann/1.jpg", "ann/1_burst0.jpg", "ann/1_burst10.jpg", "ann/2.jpg")  # two pictures
FACES_KEPT = pa.table({name: FACES for name in COLUMNS})


def point(folder, method, keep, seed, more, steps=10, faces=10):
    """A finished training whose folds are each so many points above FOLDS."""
    path = folder / f"{method}-{keep}-{seed}-{steps}" / "point.json"
    path.parent.mkdir(parents=True)
    told = {"method": method, "fraction": keep, "seed": seed, "steps": steps, "faces": faces}
    how = {
        "protocol": "pairs",
        "min_per_identity": None,
        "accuracy": 0.5,
        "folds": [fold + more / 100 for fold in FOLDS],
    }
    path.write_text(json.dumps({**told, **how}))
    made = Provenance("nms" if method.startswith("nms") else method, {}, {}, {"max_cosine": 0.8 + seed / 100})
    write_manifest(FACES_KEPT, path.with_name("subset.parquet"), made)


def below_floor(folder, method, keep, seed):
    """A finished training on a choice that may leave an identity no face."""
    point(folder, method, keep, seed, 0)
    path = folder / f"{method}-{keep}-{seed}-10" / "point.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"min_per_identity": 0}))


@pytest.fixture
def pool(tmp_path):
    for seed in (0, 1):
        point(tmp_path, "all", 1.0, seed, 4)
        point(tmp_path, "random", 0.5, seed, 0, faces=5)
        point(tmp_path, "nms", 0.5, seed, 1 + seed, faces=5)
        point(tmp_path, "random-per-identity", 0.5, seed, 0.5, faces=5)
        point(tmp_path, "random", 0.5, seed, -6, steps=5, faces=5)
        point(tmp_path, "nms", 0.5, seed, -9, steps=5, faces=5)
    point(tmp_path, "kcenter", 0.5, 0, 3, faces=5)
    return which_rank.found("made up", [tmp_path])


def test_every_place_is_compared_with_random_and_with_the_whole_pool(pool):
    rows = [(row["keep"], row["steps"], row["method"], round(row["accuracy"], 9)) for row in pool["rows"]]
    assert rows == [
        (1.0, 10, "all", 79.0),
        (0.5, 10, "kcenter", 78.0),
        (0.5, 10, "nms", 76.5),
        (0.5, 10, "random-per-identity", 75.5),
        (0.5, 10, "random", 75.0),
        (0.5, 5, "random", 69.0),
        (0.5, 5, "nms", 66.0),
    ]
    assert {row["method"]: row["max_cosine"] for row in pool["rows"]} == {
        **{"nms": 0.805},  # the median of two seeds
        **{"all": None, "kcenter": None, "random": None, "random-per-identity": None},
    }
    assert {row["pictures"] for row in pool["rows"]} == {2}
    above = {(row["method"], row["steps"]): row.get("above_random") for row in pool["rows"]}
    assert above[("nms", 10)] == pytest.approx(1.5)
    assert above[("nms", 5)] == pytest.approx(-3.0)
    assert above[("random", 10)] is above[("all", 10)] is above[("kcenter", 10)] is None  # of itself; one seed
    default = {row["method"]: row.get("above_nms") for row in pool["rows"] if row["steps"] == 10}
    assert default["random-per-identity"] == pytest.approx(-1.0)
    assert default["nms"] is default["all"] is default["kcenter"] is None  # itself; not compared; one seed
    fair = {(row["method"], row["steps"]): row.get("above_random_per_identity") for row in pool["rows"]}
    assert fair[("nms", 10)] == pytest.approx(1.0)
    assert fair[("random", 10)] == pytest.approx(-0.5)
    assert fair[("random-per-identity", 10)] is fair[("nms", 5)] is fair[("all", 10)] is None
    steps = {(row["method"], row["steps"]): row.get("above_whole_steps") for row in pool["rows"]}
    epochs = {(row["method"], row["steps"]): row.get("above_whole_epochs") for row in pool["rows"]}
    assert steps[("nms", 10)] == pytest.approx(-2.5)
    assert epochs[("random", 5)] == pytest.approx(-10.0)
    assert steps[("random", 5)] is epochs[("nms", 10)] is None  # the whole was not run at 5 or 20 steps


def test_the_longest_training_on_60_percent_decides():
    def row(method, keep, steps, accuracy, **above):
        return {"method": method, "keep": keep, "steps": steps, "accuracy": accuracy, "accuracy_half": 1.0, **above}

    more = {"above_random": 2.5, "above_random_half": 0.5}
    noise = {"above_random": 0.2, "above_random_half": 0.5}
    fair = {"above_random_per_identity": 0.6, "above_random_per_identity_half": 0.5}
    one = [
        row("all", 1, 20, 90),
        row("all", 1, 10, 85),
        row("random", 0.6, 10, 80, pictures=1234),
        row("nms", 0.6, 10, 82, max_cosine=0.9, **more),
        row("nms:twin", 0.6, 10, 81, **noise, above_nms=-1.0, above_nms_half=0.5),
    ]
    older = [row("random", 0.6, 5, 70), row("nms", 0.6, 5, 60, **noise), row("random", 0.6, 40, 99)]  # no nms at 40
    other = [row("random", 0.6, 30, 75), row("herding", 0.6, 30, 75.2, **noise, **fair), row("random", 0.2, 40, 50)]
    pools = [("one", [*one, *older]), ("other", other), ("no 60 percent", [row("random", 0.2, 40, 50)])]
    result = {
        "pools": [
            {
                "pool": name,
                "protocol": "P",
                "rows": [of | {"faces": 1, "seeds": 3, "min_per_identity": None} for of in rows],
            }
            for name, rows in pools
        ]
    }
    told = which_rank_told(result)
    assert told[: told.index("")] == [
        "|  | one | other | mean over pools |",
        "| --- | --- | --- | --- |",
        "| steps | 10 | 30 |  |",
        "| all faces, accuracy, % | 85.00 +- 1.00 |  |  |",
        "| 0.6 of them at random, accuracy, % | 80.00 +- 1.00 | 75.00 +- 1.00 |  |",
        "| t* of nms | 0.90 |  |  |",
        "| pictures, nms |  |  |  |",
        "| pictures, random | 1,234 |  |  |",
        "| herding above random |  | +0.20 +- 0.50, noise |  |",
        "| nms above random | +2.50 +- 0.50 |  |  |",
        "| nms:twin above random | +0.20 +- 0.50, noise |  |  |",
        "| nms:twin above nms | -1.00 +- 0.50 |  |  |",
        "| what is above random, beyond noise | nms | nothing |  |",
        "| what is above random-per-identity, beyond noise |  | herding |  |",
    ]


def test_a_share_kept_of_every_identity_is_a_method_of_its_own(tmp_path):
    point(tmp_path, "nms", 0.5, 0, 1)
    point(tmp_path / "shared", "nms", 0.5, 0, 1)
    path = next((tmp_path / "shared").glob("*/point.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"min_share": 0.3}))
    found = which_rank.found("made up", [tmp_path, tmp_path / "shared"])
    assert [row["method"] for row in found["rows"]] == ["nms", "nms, min-share 0.3"]


def test_points_of_two_protocols_are_no_pool(tmp_path):
    point(tmp_path, "nms", 0.5, 0, 1)
    point(tmp_path, "nms", 0.5, 1, 1)
    other = tmp_path / "nms-0.5-1-10" / "point.json"
    other.write_text(other.read_text().replace("pairs", "others"))
    with pytest.raises(SystemExit, match="made up: no points, or points of other protocols or floors"):
        which_rank.found("made up", [tmp_path])


def test_a_pool_may_be_without_a_floor_where_it_has_too_many_people(tmp_path):
    point(tmp_path, "nms", 0.5, 0, 1)
    below_floor(tmp_path, "nms", 0.2, 0)
    found = which_rank.found("made up", [tmp_path])
    assert [(row["keep"], row["min_per_identity"]) for row in found["rows"]] == [(0.5, None), (0.2, 0)]
    told = which_rank_told({"pools": [found]})
    assert told[-1] == "Pool made up: tested on pairs; at 0.2 identities may lose all their faces."


def test_points_of_two_floors_are_not_compared(tmp_path):
    point(tmp_path, "nms", 0.5, 0, 1)
    below_floor(tmp_path, "random", 0.5, 0)
    with pytest.raises(SystemExit, match="made up: no points, or points of other protocols or floors"):
        which_rank.found("made up", [tmp_path])


def test_a_result_is_added_to(tmp_path):
    for seed in (0, 1):
        point(tmp_path / "first", "random", 0.6, seed, seed)
        point(tmp_path / "first", "nms", 0.6, seed, 1 / 3)
        point(tmp_path / "later", "nms", 0.6, seed + 1, 2 / 3)  # one seed again, whose new point counts
    first = which_rank.found("made up", [tmp_path / "first"])
    assert which_rank.found("made up", [], first) == first
    both = which_rank.found("made up", [tmp_path / "later"], first)
    (nms,) = [row for row in both["rows"] if row["method"] == "nms"]
    assert nms["folds"] == {0: [70.3333, 80.3333], 1: [70.6667, 80.6667], 2: [70.6667, 80.6667]}
    shutil.rmtree(tmp_path / "first" / "nms-0.6-1-10")
    assert which_rank.found("made up", [tmp_path / "first", tmp_path / "later"])["rows"] == both["rows"]


def test_the_headline_counts_the_selection():
    seconds = {"embed": 8.0, "nms": 2.0, "train_whole": 100.0, "train_part": 60.0, "embed_by_tiny": 1.0}
    row, drawn = {"method": "nms", "relative": 99.5}, {"method": "random", "relative": 98.0}
    longer = {"network": "mbf", "epochs": 20, "proxy": "tiny", "not_counted": 1 / 0.6, "counted": 1.6}
    told = headline(
        {
            "seconds": seconds,
            "selection": 10.0,
            "faces_in_all": 100,
            "kept": 60,
            "methods": [row, drawn],
            "longer": [longer],
        }
    )
    assert "| nms | 60 | 60.0 | 1.67 | 1.43 | 99.5 |" in told
    assert "| random | 60 | 60.0 | 1.67 | 1.67 | 98.0 |" in told  # which takes no embeddings
    assert "| mbf | 20 | tiny | 1.67 | 1.60 |" in told


def test_a_network_made_otherwise_is_made_again(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"network")
    report = {
        "inputs": {"model": sha256_of_file(model)},
        "bits": "w8a8",
        "schedule": {"steps": 60},
        "accuracy": {"pairs": {}},
    }
    options, checks = QuantizeOptions(bits=Bits.parse("w8a8"), steps=60), [Check.parse("pairs=pairs.csv")]
    assert is_of(report, model, options, checks)
    assert not is_of({}, model, options, checks)
    assert not is_of(report, model, replace(options, steps=600), checks)
    assert not is_of(report, model, replace(options, bits=Bits.parse("w4a4")), checks)
    assert not is_of(report, model, options, [Check.parse("others=pairs.csv")])
    model.write_bytes(b"another")
    assert not is_of(report, model, options, checks)


def test_sources_stand_beside_what_was_published():
    accuracy = {"LFW": {"float": 0.99, "calibrated": 0.95, "fine_tuned": 0.98}}
    one = {
        "source": "CFP",
        "bits": "w8a8",
        "faces": 3500,
        "bytes": 1_100_000,
        "times_as_fast": 2.0,
        "accuracy": accuracy,
    }
    told = sources({"networks": [one], "steps": 60, "float_bytes": 4_000_000})
    assert "| w8a8 | CFP | 3,500 | 4.00 | 1.00 | 1.10 | 2.0 |" in told
    assert "| w8a8 | QuantFace, as published | 5,822,653 |  | 0.12 | 1.10 |  |" in told


def test_a_line_has_all_the_fractions_that_random_faces_have():
    rows = [
        {"method": method, "keep": keep, "steps": 720}
        for method, kept in (("random", (0.6, 0.2)), ("nms", (0.6, 0.2, 0.1)), ("nms:0.9", (0.2, 0.1)), ("all", (1.0,)))
        for keep in kept
    ]
    assert list(_lines(rows, 720)) == ["nms", "random"]
    assert [row["keep"] for row in _lines(rows, 720)["nms"]] == [0.6, 0.2, 0.1]
    assert _lines([row for row in rows if row["keep"] in (0.2, 1.0)], 720) == {}
    assert _lines(rows, 400) == {}


def test_the_mean_over_pools_is_of_those_where_it_was_measured():
    rows = [{"above_nms": 1.0, "above_nms_half": 0.5}, {}, {"above_nms": 3.0, "above_nms_half": 4.0}]
    half = 12.706  # 1 and 3: Student's t of one degree, by a standard error of 1
    assert learnt._over_pools(rows, "above_nms") == [
        "+1.00 +- 0.50",
        "",
        "+3.00 +- 4.00, noise",
        f"+2.00 +- {half:.2f}, noise",
    ]
    assert learnt._over_pools(rows[:2], "above_nms") == ["+1.00 +- 0.50", "", ""]
