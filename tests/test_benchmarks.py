"""Every benchmark runs at its smoke size and says what it measured, on what; the README tells the results."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import above_chance
import click
import foreign
import how_few
import numpy as np
import pytest
import record
import rivals_100k
import tables

from facecore.cli import main

FOLDER = Path(__file__).parents[1] / "benchmarks"
# what the benchmarks share
HELPERS = {"above_chance", "foreign", "generator", "learnt", "plots", "record", "space", "tables", "told"}
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if path.stem not in HELPERS)
SECTIONS = {section.result: section for section in tables.SECTIONS}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Each benchmark as run at its smoke size, two at a time, and where its result is."""
    folder = tmp_path_factory.mktemp("results")

    def run(path):
        out = folder / f"{path.stem}.json"
        return subprocess.run([sys.executable, path, "--smoke", "--out", out], capture_output=True, text=True), out

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(BENCHMARKS, pool.map(run, BENCHMARKS), strict=True))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark_runs(path, smoke):
    done, out = smoke[path]
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert set(result["made_with"]) == {"commit", "machine", "versions"}
    assert all(result[name] >= 2000 for name in ("faces", "centres") if name in result)
    assert all(value > 0 for value in result.values() if isinstance(value, float))
    rows = SECTIONS[path.stem].table(result)
    assert rows[1].startswith("| ---")
    assert any(character.isdigit() for character in rows[2])


@pytest.mark.parametrize("command", [name for name in rivals_100k.methods(None) if name not in foreign.METHODS])
def test_every_command_of_ours_parses(command):
    name, *words = command.split()
    found = main.commands[name]
    if isinstance(found, click.Group):
        found = found.get_command(click.Context(found), words.pop(0))
    options = ["--keep", "0.6", "--embeddings", "s", "--out", "o", "--overwrite", "--threads", "1"]
    assert found.make_context(name, [*words, *options]).params["keep"] == 0.6


def test_the_readme_is_what_the_results_say():
    assert (FOLDER / "README.md").read_text() == tables.readme(FOLDER / "results")


def test_points_count_beside_those_of_an_earlier_result(tmp_path):
    way = {"bits": "w4a4", "faces": 500, "loss": "cosine", "method": "nms"}
    earlier = {**way, "seeds": 2, "points_lost": 3.0, "points_lost_calibrated": 10.0}
    stages = {
        stage: {"accuracy": 0.75 - lost} for stage, lost in (("float", 0), ("fine_tuned", 0.06), ("calibrated", 0.25))
    }
    point = {**way, "protocol": "CFP-FP", "steps": 60, "seed": 2, "accuracy": stages}
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "point.json").write_text(json.dumps(point))
    found = how_few.found([tmp_path], {"protocol": "CFP-FP", "steps": 60, "points": [earlier]})
    assert found["points"] == [
        {**way, "seeds": 3, "points_lost": pytest.approx(4), "points_lost_calibrated": pytest.approx(15)}
    ]
    with pytest.raises(SystemExit, match="other steps or protocols"):
        how_few.found([tmp_path], {"protocol": "LFW", "steps": 60, "points": [earlier]})


def row(method, keep, steps, above, threshold, floor=None):
    told = {"above_random": above, "above_random_half": 1.0, "above_nms": 3.5} if above is not None else {}
    return {"method": method, "keep": keep, "steps": steps, "max_cosine": threshold, "min_per_identity": floor, **told}


def test_the_mean_over_places_is_of_the_longest_trainings():
    first = [row("nms", 0.6, 240, -9.0, 0.95), row("nms", 0.6, 720, 1.0, 0.95), row("random", 0.6, 720, None, None)]
    second = [row("nms", 0.4, 720, -3.0, 0.5), row("nms:0.9", 0.4, 720, 0.5, 0.9), row("nms", 0.2, 720, -7, -1, 0)]
    result = {"pools": [{"pool": "a", "rows": first}, {"pool": "b", "rows": [*second, row("nms", 0.8, 720, 3, 0.9)]}]}
    found = above_chance.places(result)
    assert [(place.pool, place.nms["keep"], place.guarded and place.guarded["above_random"]) for place in found] == [
        ("a", 0.6, None),
        ("b", 0.8, None),
        ("b", 0.4, 0.5),
    ]
    assert above_chance.by_threshold(result)[2:] == [
        "| 0.9 or more | 2 | +2.00 +- 12.71, noise | 0 |  |  |  |",  # 1 and 3: Student's t of one degree is 12.71
        "| 0.7 to 0.9 | 0 |  | 0 |  |  |  |",
        "| below 0.7 | 1 | -3.00, noise | 1 | -3.00, noise | +0.50, noise | +3.50, noise |",
    ]


def at(*degrees):
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def test_the_greedy_rival_drops_the_later_twin():
    kept = foreign.numpy_greedy(at(0, 1, 90), np.zeros(3, np.int64), 2 / 3)
    assert kept.tolist() == [True, False, True]


def test_k_center_begins_in_the_middle_and_goes_far():
    kept = foreign.k_center(at(0, 2, 90), np.zeros(3, np.int64), 2 / 3)
    assert kept.tolist() == [False, True, True]


def test_k_center_leaves_every_identity_a_face_and_keeps_the_exact_number():
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    identity = np.sort(np.random.default_rng(1).integers(30, size=100))
    kept = foreign.k_center(rows / np.linalg.norm(rows, axis=1, keepdims=True), identity, 0.4)
    assert kept.sum() == 40
    assert set(identity[kept]) == set(identity)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return rivals_100k.prepare(tmp_path_factory.mktemp("planted"), faces=1_000, identities=50, pairs=150)


@pytest.mark.parametrize("name", sorted(foreign.METHODS.keys() - {"semhash"}))
def test_a_rival_comes_near_the_ratio_and_breaks_planted_pairs(name, faces):
    kept = foreign.METHODS[name](faces.rows, faces.identity, 0.6)
    assert abs(int(kept.sum()) - 600) <= 5
    assert rivals_100k.judge(faces, kept)["broken"] >= 140


def test_a_choice_is_judged_by_what_is_left_of_each_face(faces):
    first, twin = faces.pairs[0]
    kept = np.ones(1_000, np.bool_)
    kept[faces.pairs[:, 1]] = False  # every near-duplicate, but one instead of which its original goes
    kept[first], kept[twin] = False, True
    judged = rivals_100k.judge(faces, kept)
    assert 0.95 < judged.pop("cover") < 1
    assert judged == {"kept": 850, "broken": 150, "lost_pairs": 0, "lost_faces": 0, "lost_identities": 0}
    kept[twin] = False
    judged = rivals_100k.judge(faces, kept)
    assert (judged["broken"], judged["lost_pairs"], judged["lost_faces"]) == (150, 1, 1)


def test_a_childs_peak_is_its_own():
    mine = np.ones(50_000_000)  # the tests hold far more than the child
    run = record.child(sys.executable, "-I", "-S", "-c", "held = bytearray(100_000_000)")
    assert 0.1 < run.peak_gb < 0.15 < mine.nbytes / 1e9


def test_a_child_that_fails_is_told():
    with pytest.raises(RuntimeError, match=r"failed with 3: so it goes"):
        record.child(sys.executable, "-c", "import sys; sys.stderr.write('so it goes'); sys.exit(3)")


def test_of_several_turns_the_first_does_not_count():
    calls = []

    def work(name):
        calls.append(name)
        return len(calls)

    assert record.in_turns(3, lambda: work("a"), lambda: work("b")) == [[3, 5], [4, 6]]
    assert calls == ["a", "b"] * 3
    assert record.in_turns(1, lambda: work("a")) == [[7]]
