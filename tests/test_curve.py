"""A sweep: its points, its files, what stops it, and that it goes on."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pictures import folder_of
from test_models_onnx import written
from test_quantize import network

from facecore.accuracy import Check
from facecore.cli import main
from facecore.curve import CurveOptions, Order, Point, Store, Sweep, curve, points, text_of
from facecore.embed import EmbedOptions, embed
from facecore.errors import DataError, OptionError
from facecore.manifest import provenance_of
from facecore.models import load_backbone
from facecore.provenance import sha256_of_file
from facecore.quantize import Bits, QuantizeOptions
from facecore.readers import open_dataset
from facecore.select import Nms, select, write_order
from facecore.verify import open_protocol, verify

QUANTIZE = QuantizeOptions(bits=Bits(4, 4), steps=2, batch_size=8, calibration_faces=16, learning_rate=0.5, workers=1)
FILES = ["curve.csv", "curve.parquet", "curve.png", "curve.svg", "differences.csv"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Forty faces of four people, a network, their store, an order, and pairs of them in three folds."""
    root = tmp_path_factory.mktemp("data")
    faces = {f"{name}/{n}.jpg": 10 * k + n for k, name in enumerate(("ann", "bob", "cy", "dee")) for n in range(10)}
    folder_of(root / "faces", faces)
    written(network(), root / "net.onnx")
    embed(open_dataset(root / "faces"), root / "net.onnx", root / "store", EmbedOptions())
    write_order(root / "store", Nms(), out=root / "order.parquet")
    lines = [
        line
        for n in range(9)
        for line in (
            f"ann/{n}.jpg,ann/{n + 1}.jpg,1,{n % 3}",
            f"bob/{n}.jpg,bob/{n + 1}.jpg,1,{n % 3}",
            f"ann/{n}.jpg,bob/{n}.jpg,0,{n % 3}",
            f"cy/{n}.jpg,dee/{n + 1}.jpg,0,{n % 3}",
        )
    ]
    (root / "pairs.csv").write_text("\n".join(["left,right,same,fold", *lines]) + "\n")
    (root / "others.csv").write_text("\n".join(["left,right,same,fold", *lines[:-4]]) + "\n")
    return root


def sweep_of(data, out, *, pool=None, **options):
    quantize = dataclasses.replace(QUANTIZE, **options.pop("quantize", {}))
    options = {"fractions": (0.5, 1.0), "seeds": 2, **options}
    checks = (Check("near", data / "pairs.csv", data / "faces"),)
    pool = pool or Store(data / "store", ("nms", "random"))
    return Sweep(pool, data / "net.onnx", out, CurveOptions(**options, quantize=quantize), checks)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A sweep that was run to its end, what it said, and its results."""
    lines = []
    sweep = sweep_of(data, tmp_path_factory.mktemp("sweep") / "curve")
    return sweep, lines, curve(sweep, on_point=lines.append)


@pytest.fixture
def copied(finished, data, tmp_path):
    """The same sweep in a folder of the test's own."""
    shutil.copytree(finished[0].out, tmp_path / "curve")
    return sweep_of(data, tmp_path / "curve")


def state(folder):
    """Content and time of every file."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def rows(sweep):
    return pq.read_table(sweep.out / "curve.parquet").to_pylist()


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


# What a sweep writes


def test_every_point_is_a_folder_of_its_own(finished):
    sweep, lines, _ = finished
    names = ["all-1-s0", "all-1-s1", "nms-0.5-s0", "nms-0.5-s1", "random-0.5-s0", "random-0.5-s1"]
    assert sorted(path.name for path in (sweep.out / "points").iterdir()) == names
    assert sorted(path.name for path in sweep.out.iterdir()) == sorted([*FILES, "points", "references", "sweep.json"])
    assert [line.split(": ")[0] for line in lines] == [f"{n} of 6" for n in range(1, 7)]
    assert lines[2].startswith("3 of 6: nms 0.5, seed 0: 20 faces, 2 steps, near ")
    for name in names:
        assert sorted(path.name for path in (sweep.out / "points" / name).iterdir()) == [
            "calibrated.onnx",
            "model.onnx",
            "model.safetensors",
            "pairs-near.parquet",
            "report.json",
            "subset.dropped.parquet",
            "subset.parquet",
        ]


def test_a_point_is_what_the_stages_would_make(finished, data, tmp_path):
    sweep, _, _ = finished
    folder = sweep.out / "points" / "nms-0.5-s1"
    select(data / "store", Nms(seed=1), keep=0.5, out=tmp_path / "subset.parquet")
    assert (folder / "subset.parquet").read_bytes() == (tmp_path / "subset.parquet").read_bytes()
    report = json.loads((folder / "report.json").read_text())
    found = verify(load_backbone(folder / "model.onnx"), open_protocol(data / "pairs.csv", data / "faces"))
    measured = report["accuracy"]["near"]["fine_tuned"]
    assert {name: measured[name] for name in found.to_json()} == found.to_json()
    assert measured["fold_accuracies"] == list(found.fold_accuracies)
    assert (report["faces"], report["schedule"]["steps"], report["schedule"]["seed"]) == (20, 2, 1)
    point = report["point"]
    assert (point["method"], point["fraction"], point["seed"], point["budget"]) == ("nms", 0.5, 1, "steps")
    assert point["made"]["options"]["bits"] == "w4a4"
    pairs = pq.read_table(folder / "pairs-near.parquet").to_pandas()
    assert pairs.groupby("fold")["correct"].mean().tolist() == pytest.approx(list(found.fold_accuracies))
    assert len(pairs) == 36
    assert provenance_of(folder / "pairs-near.parquet").facts == {"protocol": "near"}


def test_the_tidy_table(finished, data):
    sweep, _, _ = finished
    found = rows(sweep)
    places = [(row["method"], row["fraction"], row["seed"]) for row in found]
    assert places == [
        *((method, fraction, seed) for method in ("nms", "random") for fraction in (0.5, 1.0) for seed in (0, 1)),
        ("teacher", 1.0, None),
        ("calibrated", 1.0, None),
    ]
    teacher = verify(load_backbone(data / "net.onnx"), open_protocol(data / "pairs.csv", data / "faces"))
    whole = sweep.out / "points" / "all-1-s0"
    calibrated = verify(load_backbone(whole / "calibrated.onnx"), open_protocol(data / "pairs.csv", data / "faces"))
    assert (found[-2]["accuracy"], found[-2]["points_lost"], found[-2]["cosine_to_teacher"]) == (
        teacher.accuracy,
        0.0,
        1.0,
    )
    assert found[-1]["accuracy"] == calibrated.accuracy
    for row in found[:-2]:
        name = f"{row['method'] if row['fraction'] < 1 else 'all'}-{row['fraction']:g}-s{row['seed']}"
        report = json.loads((sweep.out / "points" / name / "report.json").read_text())
        of = report["accuracy"]["near"]["fine_tuned"]
        assert row["accuracy"] == of["accuracy"]
        assert row["standard_error"] == of["standard_error"]
        assert (row["tar_1e-1"], row["tar_1e-3"]) == (of["tar"]["1e-1"], None)
        assert row["points_lost"] == pytest.approx(100 * (teacher.accuracy - of["accuracy"]))
        assert (row["protocol"], row["budget"], row["bits"], row["steps"]) == ("near", "steps", "w4a4", 2)
        assert (row["faces"], row["identities"]) == (round(40 * row["fraction"]), 4)
        assert row["cosine_to_teacher"] == report["cosine_to_teacher"]["fine_tuned"]["mean"]
        assert row["seconds_select"] == report["seconds"]["select"]
    assert [row["accuracy"] for row in read_csv(sweep.out / "curve.csv")] == [str(row["accuracy"]) for row in found]
    assert provenance_of(sweep.out / "curve.parquet").options["fractions"] == [0.5, 1.0]


def test_differences_are_of_the_folds_at_one_fraction(finished):
    sweep, _, _ = finished
    (row,) = read_csv(sweep.out / "differences.csv")

    def folds(method):
        names = [sweep.out / "points" / f"{method}-0.5-s{seed}" / "report.json" for seed in (0, 1)]
        reports = [json.loads(name.read_text()) for name in names]
        return np.array([report["accuracy"]["near"]["fine_tuned"]["fold_accuracies"] for report in reports])

    assert (row["method"], row["fraction"]) == ("nms", "0.5")
    assert float(row["points_above_random"]) == pytest.approx(100 * (folds("nms") - folds("random")).mean())


def test_the_text_whole(finished):
    sweep, _, results = finished

    def shown(method, fraction):
        values = 100 * np.array(
            [r["accuracy"] for r in rows(sweep) if (r["method"], r["fraction"]) == (method, fraction)]
        )
        return f"{values.mean():.2f} +- {12.7062047 * values.std(ddof=1) / 2**0.5:.2f}"

    (row,) = read_csv(sweep.out / "differences.csv")
    verdict = "noise" if row["noise"] == "true" else "above" if float(row["points_above_random"]) > 0 else "below"
    against = f"{round(float(row['points_above_random']), 2) + 0.0:+.2f} +- {float(row['half_interval']):.2f} {verdict}"
    teacher, calibrated = (100 * r["accuracy"] for r in rows(sweep)[-2:])
    lines = [" ".join(line.split()) for line in text_of(results).split("\n")]
    assert lines == [
        "accuracy in % of w4a4 networks, 2 seeds, +- 95 % interval; equal steps: 2 of 8 faces at every point",
        "",
        f"near: teacher {teacher:.2f}, calibrated only {calibrated:.2f}",
        "fraction faces nms random nms - random",
        f"0.5 20 {shown('nms', 0.5)} {shown('random', 0.5)} {against}",
        f"1 40 {shown('nms', 1.0)} {shown('random', 1.0)} same",
        "",
        "noise: the 95 % interval of the paired difference, over folds and seeds, holds 0",
    ]


# Going on


def test_a_finished_sweep_is_not_run_again_and_draws_the_same_bytes(copied, monkeypatch):
    before = state(copied.out)
    monkeypatch.setattr(points, "quantize", None)
    monkeypatch.setattr(points, "compare", None)
    lines = []
    curve(copied, on_point=lines.append)
    assert lines == ["6 of 6 points were there already"]
    after = state(copied.out)
    assert {path: content for path, (content, _) in before.items()} == {p: content for p, (content, _) in after.items()}
    rewritten = {path.name for path in before if before[path] != after[path]}
    assert rewritten == set(FILES)


def test_a_killed_sweep_goes_on(data, tmp_path, finished, monkeypatch):
    sweep = sweep_of(data, tmp_path / "curve")
    whole = points.quantize
    made = []

    def killed(*arguments, **named):
        made.append(named)
        if len(made) == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(points, "quantize", killed)
    with pytest.raises(KeyboardInterrupt):
        curve(sweep)
    monkeypatch.setattr(points, "quantize", whole)
    done = [sweep.folder(point) for point in sweep.points[:2]]
    before = [state(folder) for folder in done]
    compared = points.compare
    monkeypatch.setattr(points, "compare", lambda *_: pytest.fail("the kill is here"))
    with pytest.raises(pytest.fail.Exception):
        curve(sweep)  # this time with the network of the third written, but not verified
    monkeypatch.setattr(points, "compare", compared)
    lines = []
    curve(sweep, on_point=lines.append)
    assert lines[0] == "2 of 6 points were there already"
    assert [state(folder) for folder in done] == before
    for name in ("subset.parquet", "model.onnx", "calibrated.onnx", "pairs-near.parquet"):
        for point in sweep.points:
            assert (sweep.folder(point) / name).read_bytes() == (finished[0].folder(point) / name).read_bytes(), name


def test_other_jobs_give_the_same(finished, data, tmp_path):
    small = {"fractions": (0.5,), "seeds": 1}
    sweep = sweep_of(data, tmp_path / "curve", **small)
    curve(sweep, jobs=2)
    for point in sweep.points:
        for name in ("subset.parquet", "calibrated.onnx", "model.onnx", "pairs-near.parquet"):
            assert (sweep.folder(point) / name).read_bytes() == (finished[0].folder(point) / name).read_bytes(), name


def test_a_sweep_may_grow(copied, data):
    sweep = sweep_of(data, copied.out, fractions=(0.5, 1.0), seeds=2)
    sweep = dataclasses.replace(sweep, checks=(*sweep.checks, Check("far", data / "others.csv", data / "faces")))
    before = {
        path: content for path, content in state(sweep.out).items() if path.name in ("model.onnx", "pairs-near.parquet")
    }
    curve(sweep)
    assert {path: content for path, content in state(sweep.out).items() if path in before} == before
    assert {row["protocol"] for row in rows(sweep)} == {"near", "far"}
    assert len(rows(sweep)) == 20


def test_the_first_rows_of_an_order(data, tmp_path):
    sweep = sweep_of(data, tmp_path / "curve", pool=Order(data / "order.parquet"), seeds=1)
    results = curve(sweep)
    assert [row["method"] for row in rows(sweep)] == ["order", "order", "teacher", "calibrated"]
    order = pq.read_table(data / "order.parquet")["face_id"].to_pylist()
    assert pq.read_table(sweep.out / "points/order-0.5-s0/subset.parquet")["face_id"].to_pylist() == order[:20]
    assert text_of(results).split("\n")[0] == (
        "accuracy in % of w4a4 networks, 1 seed; equal steps: 2 of 8 faces at every point"
    )


# What is refused, before any work


def refused(kind, sweep):
    with pytest.raises(kind) as error:
        curve(sweep)
    assert not (sweep.out / "points").exists() or not any(sweep.out.rglob("*.part"))
    return str(error.value)


def test_points_made_otherwise(copied, data):
    sweep = sweep_of(data, copied.out, quantize={"bits": Bits(8, 8), "steps": 3})
    before = state(copied.out)
    assert refused(DataError, sweep) == (
        f"{copied.out} holds points made otherwise (bits w4a4, now w8a8, steps 2, now 3); choose another --out"
    )
    assert state(copied.out) == before


def test_weights_in_a_file_beside_the_network(data, tmp_path):
    model = onnx.load(data / "net.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    sweep = dataclasses.replace(sweep_of(data, tmp_path / "curve"), model=tmp_path / "net.onnx")
    sweep.check()
    assert sweep.provenance.inputs["model"] == load_backbone(tmp_path / "net.onnx").sha256
    assert sweep_of(data, tmp_path).provenance.inputs["model"] == sha256_of_file(data / "net.onnx")
    weights = bytearray((tmp_path / "weights").read_bytes())
    weights[0] ^= 1
    (tmp_path / "weights").write_bytes(weights)
    line = refused(DataError, dataclasses.replace(sweep))
    assert line.startswith(f"{tmp_path / 'curve'} holds points made otherwise (model ")


def test_other_pairs_of_the_same_name(copied, data):
    sweep = dataclasses.replace(copied, checks=(Check("near", data / "others.csv", data / "faces"),))
    assert refused(DataError, sweep) == (
        f"{copied.out / 'points' / 'all-1-s0'} was verified on other pairs called near; call these otherwise"
    )


def test_a_folder_of_other_things(data, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    assert refused(DataError, sweep_of(data, tmp_path)) == (
        f"{tmp_path} holds other things than a sweep; choose another --out"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": ()}, "a curve needs at least one fraction, such as --fractions 0.1,0.5,1"),
        ({"fractions": (0.5, 0.0)}, "fractions are of the faces, in (0, 1]; got 0"),
        ({"fractions": (1.5,)}, "fractions are of the faces, in (0, 1]; got 1.5"),
        ({"fractions": (float("nan"),)}, "fractions are of the faces, in (0, 1]; got nan"),
        ({"fractions": (0.5, 0.1, 0.5)}, "every fraction is run once, but 0.5 is there 2 times"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"budget": "money"}, "no budget money; there are epochs, steps"),
        (
            {"budget": "epochs"},
            "--steps is a budget of steps, not of epochs; leave one of --steps and --budget out",
        ),
    ],
)
def test_options_that_are_none(options, message, data, tmp_path):
    with pytest.raises(OptionError) as error:
        sweep_of(data, tmp_path / "curve", **options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (("nms", "nms"), "name one method or more, each once; got nms,nms"),
        (
            ("best",),
            "no method best; there are nms, random, random-per-identity, random-identities, largest-identities, "
            "kcenter, herding, facility-location, central, sparse, semdedup, diffprob, and ways of nms as nms:twin, "
            "nms:0.9 or nms:twin:0.9:nested",
        ),
        (
            ("nms:best",),
            "method nms:best: rank is one of identity, dataset, confusable, central, twin, random; got best",
        ),
        (("nms:7",), "method nms:7: min_threshold must be from -1 to 1, got 7"),
    ],
)
def test_methods_that_are_none(methods, message, data):
    with pytest.raises(OptionError) as error:
        Store(data / "store", methods)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("nms:twin", {"rank": "twin"}),
        ("nms:0.9", {"min_threshold": 0.9}),
        ("nms:nested", {"nested": True}),
        (
            "nms:0.9:largest-identities",
            {"min_threshold": 0.9, "then": "largest-identities", "min_per_identity": 0},
        ),
        ("nms:twin:0.9:nested", {"rank": "twin", "min_threshold": 0.9, "nested": True}),
    ],
)
def test_ways_of_nms(method, options, data):
    assert Store(data / "store", (method,)).selector(method, 7) == Nms(seed=7, **options)


@pytest.mark.parametrize("method", ["nms:nested:twin", "nms:0.9:twin", "nms:", "random:0.9"])
def test_ways_in_another_order_are_none(method, data):
    with pytest.raises(OptionError, match=f"^no method {method}; there are "):
        Store(data / "store", (method,))


def test_fewer_faces_than_a_batch(data, tmp_path):
    sweep = sweep_of(data, tmp_path / "curve", fractions=(0.15, 1.0))
    assert refused(OptionError, sweep) == (
        "the fraction 0.15 of 40 faces is 6, of which 6 are trained on: less than a batch of 8; "
        "leave it out, or lower --batch-size"
    )


def test_fewer_faces_than_identities(data, tmp_path):
    pool = Store(data / "store", ("random",), min_per_identity=6)
    assert refused(OptionError, sweep_of(data, tmp_path / "curve", pool=pool)) == (
        "the fraction 0.5 of 40 faces is 20, but with random every identity keeps at least 6, 24 in all; "
        "use --min-per-identity 0, or fractions from 0.6 on"
    )
    pool = Store(data / "store", ("random",), min_share=0.55)  # 6 of every 10
    assert refused(OptionError, sweep_of(data, tmp_path / "curve", pool=pool)) == (
        "the fraction 0.5 of 40 faces is 20, but with random every identity keeps at least 1 and 0.55 of its faces, "
        "24 in all; use a lower --min-share, or fractions from 0.6 on"
    )


def test_a_share_that_every_identity_keeps(data, tmp_path):
    plain, shared = (Store(data / "store", ("nms",), min_share=share) for share in (0.0, 0.4))
    shared.choose(Point("nms", 0.5, 0), tmp_path / "subset.parquet", threads=1)
    made = provenance_of(tmp_path / "subset.parquet")
    assert made.options["min_share"] == 0.4
    assert shared.record == {**plain.record, "min_share": 0.4}


def test_no_protocol_or_two_of_one_name(data, tmp_path):
    sweep = sweep_of(data, tmp_path / "curve")
    for checks, message in (
        ((), "a curve is of the accuracy on some pairs; add --verify NAME=PAIRS[,IMAGES]"),
        (2 * sweep.checks, "protocols need names of their own; got near, near"),
        (
            (Check("a/b", data / "pairs.csv"),),
            "files are called by the protocol: letters, digits, -, _ and . only; got 'a/b'",
        ),
    ):
        with pytest.raises(OptionError) as error:
            dataclasses.replace(sweep, checks=checks)
        assert str(error.value) == message


def test_pairs_of_one_fold_are_refused_before_any_work(data, tmp_path):
    lines = (data / "pairs.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([lines[0], *(f"{line.rpartition(',')[0]},1" for line in lines[1:])]))
    one = Check("one", tmp_path / "one.csv", data / "faces")
    message = f"{one.pairs} has all 36 pairs in one fold; the cosine for a fold is chosen on the others, so at least 2 "
    assert (
        refused(DataError, dataclasses.replace(sweep_of(data, tmp_path / "curve"), checks=(one,)))
        == message + "are needed"
    )
    assert not (tmp_path / "curve").exists()


def test_a_manifest_that_is_no_order(data, tmp_path):
    select(data / "store", Nms(), keep=0.5, out=tmp_path / "subset.parquet")
    sweep = sweep_of(data, tmp_path / "curve", pool=Order(tmp_path / "subset.parquet"))
    assert refused(DataError, sweep) == (
        f"{tmp_path / 'subset.parquet'} is no order, so its first rows are no subset; facecore nms --order writes one"
    )


# The budget


def test_equal_epochs_cost_what_the_data_cost():
    options = CurveOptions((0.5, 1.0), quantize=QuantizeOptions(epochs=2, batch_size=8))
    assert options.budget == "epochs"
    assert options.resolved(1000) == options.quantize


def test_equal_steps_are_those_of_the_largest_fraction():
    options = CurveOptions((0.25, 0.5), budget="steps", quantize=QuantizeOptions(epochs=2, batch_size=8, held_out=10))
    assert options.resolved(1000).steps == 2 * (500 - 10) // 8 + 1


def test_seeds_begin_with_that_of_quantize():
    assert list(CurveOptions((1.0,), seeds=2, quantize=QuantizeOptions(seed=5)).seed_range) == [5, 6]


def test_the_seed_is_also_the_selectors():
    store = Store(Path("store"), ("random", "nms:twin", "kcenter"), min_per_identity=0)
    assert store.selector("random", 3).seed == 3
    assert (store.selector("nms:twin", 3).rank, store.selector("nms:twin", 3).seed) == ("twin", 3)
    assert store.selector("kcenter", 3).limits.min_per_identity == 0
    assert Point("nms:twin", 0.25, 1).name == "nms-twin-0.25-s1"


# The commands


def facecore(*words):
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="facecore")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


ASKED = ("--bits", "w4a4", "--steps", 2, "--batch-size", 8, "--calibration-faces", 16, "--learning-rate", 0.5)


def test_the_command(finished, copied, data):
    code, out, err = facecore(
        *("curve", "--embeddings", data / "store", "--model", data / "net.onnx", "--fractions", "1,0.5"),
        *("--seeds", 2, "--verify", f"near={data / 'pairs.csv'},{data / 'faces'}", "--out", copied.out, *ASKED),
    )
    files = f"{copied.out}: curve.png, curve.svg, curve.csv, curve.parquet, differences.csv\n"
    assert (code, err) == (0, "6 of 6 points were there already\n")
    assert out == text_of(finished[2]) + "\n" + files


def test_quantize_with_fractions_is_the_curve_of_an_order(data, tmp_path):
    words = ("quantize", "--manifest", data / "order.parquet", "--model", data / "net.onnx", "--fractions", "1")
    words += ("--verify", f"near={data / 'pairs.csv'},{data / 'faces'}", "--out", tmp_path / "curve", *ASKED)
    assert facecore(*words, "--overwrite") == (
        1,
        "",
        "Error: a curve goes on with what is there; leave out --overwrite, or choose another --out\n",
    )
    code, out, err = facecore(*words)
    assert (code, err.startswith("1 of 1: all 1, seed 0: 40 faces, 2 steps, near ")) == (0, True)
    assert out.splitlines()[3].split() == ["fraction", "faces", "order"]


def test_a_mistake_is_one_line(data, tmp_path):
    words = ("curve", "--embeddings", data / "store", "--model", data / "net.onnx", "--out", tmp_path / "curve")
    verify = ("--verify", f"near={data / 'pairs.csv'},{data / 'faces'}")
    for more, message in (
        (("--fractions", "a"), "--fractions are written as 0.1,0.5,1; got 'a'"),
        ((*verify, "--jobs", 0), "--jobs must be at least 1, got 0"),
        ((), "a curve is of the accuracy on some pairs; add --verify NAME=PAIRS[,IMAGES]"),
    ):
        assert facecore(*words, *more) == (1, "", f"Error: {message}\n")
