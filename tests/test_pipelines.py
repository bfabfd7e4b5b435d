"""The recipes run, and stay short."""

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pictures import folder_of, jpeg
from PIL import Image
from record import recipe
from test_models_onnx import written
from test_quantize import network

from facecore.embed import EmbedOptions, embed
from facecore.errors import DataError
from facecore.images import decode
from facecore.manifest import read_manifest
from facecore.readers import open_dataset
from facecore.review import Against, OverlapOptions, overlap
from facecore.select import SELECTORS, Nms, select
from facecore.synthesis import Origin, SynthesisOptions, synthesize

RECIPES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_under_80_lines(path):
    assert len(path.read_text().splitlines()) < 80


def made(folder):
    """Sixteen faces of four identities, a network, and pairs of the faces."""
    faces = folder_of(folder / "faces", {f"p{i % 4}/{i:02d}.jpg": jpeg(i, 16) for i in range(16)})
    model = written(network(), folder / "net.onnx")
    pairs = folder / "pairs.csv"
    same = [f"p{i}/{i:02d}.jpg,p{i}/{i + 4:02d}.jpg,1,{i % 2}" for i in range(4)]
    different = [f"p{i}/{i:02d}.jpg,p{3 - i}/{3 - i:02d}.jpg,0,{i % 2}" for i in range(4)]
    pairs.write_text("\n".join(["left,right,same,fold", *same, *different]) + "\n")
    return faces, model, pairs


def run(name, *arguments):
    """What a recipe prints."""
    return CliRunner().invoke(recipe(name).main, list(map(str, arguments)), catch_exceptions=False).output


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_one_machine_goes_on_where_it_was(tmp_path):
    one_machine = recipe("one_machine").one_machine
    faces, model, pairs = made(tmp_path)
    first = one_machine(faces, model, pairs, faces, tmp_path / "out", epochs=0.5)
    assert list(first) == ["float", "w8a8"]
    before = times(tmp_path / "out")
    assert one_machine(faces, model, pairs, faces, tmp_path / "out") == first
    assert times(tmp_path / "out") == before
    with pytest.raises(DataError) as error:
        one_machine(faces, model, pairs, faces, tmp_path / "out", keep=0.5)
    subset = tmp_path / "out" / "subset.parquet"
    assert str(error.value) == f"{subset} is not 0.5 of the faces; choose another OUT"


def test_swollen_faces_are_the_old_ones_and_bursts(tmp_path):
    faces, _, _ = made(tmp_path)
    for name in ("once", "again"):
        command = [str(faces), str(tmp_path / name), "--share", "0.25", "--burst", "3", "--seed", "1"]
        told = CliRunner().invoke(recipe("swell").swell, command, catch_exceptions=False).output
        assert told == f"{tmp_path / name}: 16 faces, and 12 near-duplicates of 4 of them\n"
    other = CliRunner().invoke(recipe("swell").swell, [*command[:2], "--share", "0.5"])
    line = f"{tmp_path / 'again'} holds something else, or was made from other faces or options; choose another OUT"
    assert (other.exit_code, other.stderr) == (1, f"Error: {line}\n")
    once, again = (
        {path.relative_to(tmp_path / of): path.read_bytes() for path in (tmp_path / of).rglob("*.jpg")}
        for of in ("once", "again")
    )
    assert once == again
    assert len(once) == 28
    old = {path.read_bytes() for path in faces.rglob("*.jpg")}
    assert sum(content in old for content in once.values()) == 16
    bursts = [path for path in once if "_burst" in path.name]
    assert len({path.name.partition("_")[0] for path in bursts}) == 4
    assert all(Image.open(io.BytesIO(once[path])).size == (112, 112) for path in bursts)


def test_learning_from_scratch_goes_on_where_it_was(tmp_path):
    faces, model, pairs = made(tmp_path)
    embed(open_dataset(faces), model, tmp_path / "store", EmbedOptions())
    command = [tmp_path / "store", tmp_path / "out", "--verify", f"P={pairs},{faces}", "--keep", "0.5,1", "--seeds", 1]
    told = run("from_scratch", *command, "--steps", 1, "--batch-size", 4)
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        "nms 0.5, seed 0",
        "random 0.5, seed 0",
        "all 1, seed 0",
    ]
    point = json.loads((tmp_path / "out" / "nms-0.5-s0-1" / "point.json").read_text())
    assert {key: point[key] for key in ("method", "fraction", "seed", "faces", "protocol")} == {
        "method": "nms",
        "fraction": 0.5,
        "seed": 0,
        "faces": 8,
        "protocol": "P",
    }
    assert np.mean(point["folds"]) == pytest.approx(point["accuracy"])
    before = times(tmp_path / "out")
    assert run("from_scratch", *command, "--steps", 1, "--batch-size", 4) == told
    assert times(tmp_path / "out") == before
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:-1]) + "\n")  # another test by the same name
    run("from_scratch", *command, "--steps", 1, "--batch-size", 4)
    changed = {path.name for path, time in times(tmp_path / "out").items() if before.get(path) != time}
    assert changed == {"point.json"}
    again = json.loads((tmp_path / "out" / "nms-0.5-s0-1" / "point.json").read_text())
    assert {key for key in point if point[key] != again[key]} >= {"pairs_sha256"}
    assert again["faces"] == point["faces"]
    for more in (["--steps", 1, "--batch-size", 2], ["--steps", 1, "--batch-size", 4, "--min-share", 0.1]):
        done = CliRunner().invoke(recipe("from_scratch").main, list(map(str, [*command, *more])))
        line = f"{tmp_path / 'out' / 'nms-0.5-s0-1'} holds what other faces, options or pairs gave; choose another OUT"
        assert (done.exit_code, done.stderr) == (1, f"Error: {line}\n")


def test_a_test_that_is_none_costs_no_training(tmp_path):
    faces, model, pairs = made(tmp_path)
    embed(open_dataset(faces), model, tmp_path / "store", EmbedOptions())
    command = [tmp_path / "store", tmp_path / "out", "--steps", 1, "--batch-size", 4, "--seeds", 1]
    bad = CliRunner().invoke(recipe("from_scratch").main, [*map(str, command), "--verify", f"P={pairs},{tmp_path}"])
    assert "are not under" in bad.stderr
    assert not (tmp_path / "out").exists()


def test_eigenfaces_are_the_mean_and_the_principal_components(tmp_path):
    faces, _, _ = made(tmp_path)
    out = tmp_path / "generator.onnx"
    told = run("eigenfaces", faces, out, "--components", 15)
    assert told == f"{out}: 15 directions of 16 faces, 100.0 % of their variance\n"

    images = [open_dataset(faces).read(source) for source in open_dataset(faces).faces["source"].to_pylist()]
    pixels = np.stack([decode(image, 112) for image in images]).transpose(0, 3, 1, 2).reshape(16, -1).astype(float)
    generate = onnxruntime.InferenceSession(out).run
    (mean,) = generate(None, {"latent": np.zeros((1, 15), np.float32)})
    assert mean.reshape(-1) == pytest.approx(pixels.mean(0), abs=0.01)

    _, spread, directions = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    (made_of_one,) = generate(None, {"latent": np.eye(15, dtype=np.float32)[[1]]})
    moved = (made_of_one - mean).reshape(-1)
    expected = spread[1] / 15**0.5 * directions[1]
    within = (made_of_one.reshape(-1) > 0) & (made_of_one.reshape(-1) < 255)  # others were cut off at black and white
    assert abs(moved[within]) == pytest.approx(abs(expected[within]), abs=0.05)

    run("eigenfaces", faces, tmp_path / "again.onnx", "--components", 15)
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()
    synthesize(Origin(generator=out), tmp_path / "synthetic", SynthesisOptions(), count=4)
    assert len(read_manifest(tmp_path / "synthetic" / "manifest.parquet")[0]) == 4


def test_strangers_are_the_pairs_without_people_of_the_pool(tmp_path):
    faces, model, pairs = made(tmp_path)
    pool = folder_of(tmp_path / "pool", {f"somebody/{i}.jpg": jpeg(i, 16) for i in range(1, 16, 4)})  # who is p1
    for name, folder in (("store", pool), ("benchmark", faces)):
        embed(open_dataset(folder), model, tmp_path / name, EmbedOptions())
    as_good_as_equal = OverlapOptions(min_identity_cosine=0.9999, min_image_cosine=0.9999)
    overlap(tmp_path / "store", Against(tmp_path / "benchmark"), tmp_path / "overlap.parquet", as_good_as_equal)
    command = [pairs, faces, tmp_path / "out.csv", "--overlap", tmp_path / "overlap.parquet"]
    assert run("strangers", *command) == f"{tmp_path / 'out.csv'}: 5 of 8 pairs, without 1 identity of 4\n"
    assert run("strangers", *command, "--overwrite").startswith(f"{tmp_path / 'out.csv'}: 5 of 8 pairs")
    of_others = [line for line in pairs.read_text().splitlines() if "p1/" not in line]
    assert (tmp_path / "out.csv").read_text().splitlines() == of_others
    nobody = pq.read_table(tmp_path / "overlap.parquet").slice(0, 0)
    pq.write_table(nobody, tmp_path / "overlap.parquet")
    told = run("strangers", *command, "--overwrite")
    assert told == f"{tmp_path / 'out.csv'}: 8 of 8 pairs, without 0 identities of 4\n"


def test_names_with_commas_are_quoted(tmp_path):
    faces = folder_of(tmp_path / "faces", {"a,b/1.jpg": jpeg(1, 16), "a,b/2.jpg": jpeg(2, 16), "c/1.jpg": jpeg(3, 16)})
    (tmp_path / "pairs.csv").write_text('left,right,same,fold\n"a,b/1.jpg","a,b/2.jpg",1,1\n"a,b/1.jpg",c/1.jpg,0,2\n')
    pq.write_table(pa.table({"benchmark_identity": ["c"]}), tmp_path / "overlap.parquet")
    run("strangers", tmp_path / "pairs.csv", faces, tmp_path / "out.csv", "--overlap", tmp_path / "overlap.parquet")
    assert (tmp_path / "out.csv").read_text() == 'left,right,same,fold\n"a,b/1.jpg","a,b/2.jpg",1,1\n'


def test_who_is_dropped_is_what_one_counts(tmp_path):
    faces, model, _ = made(tmp_path)
    embed(open_dataset(faces), model, tmp_path / "store", EmbedOptions())
    select(tmp_path / "store", Nms(), keep=0.5, out=tmp_path / "subset.parquet")
    told = run(
        "who_is_dropped",
        tmp_path / "subset.parquet",
        "--images",
        faces,
        "--part",
        "p1/",
        "--out",
        tmp_path / "who.json",
    )
    groups = {
        of["group"]: (of["faces"], of["kept"]) for of in json.loads((tmp_path / "who.json").read_text())["groups"]
    }
    kept = read_manifest(tmp_path / "subset.parquet")[0]
    of_p1 = sum(source.startswith("p1/") for source in kept["source"].to_pylist())
    assert groups["all"] == (16, 0.5)
    assert groups["p1/"] == (4, of_p1 / 4)
    assert groups["identity of 3 to 4 faces"] == (16, 0.5)
    stores = read_manifest(tmp_path / "subset.parquet")[0], read_manifest(tmp_path / "subset.dropped.parquet")[0]
    norms = sorted(norm for table in stores for norm in table["norm"].to_pylist())
    low = sum(norm < np.quantile(norms, 0.25) for norm in kept["norm"].to_pylist())
    assert groups["length of the embedding, quarter 1"] == (4, low / 4)
    assert sum(groups[f"brightness, quarter {n}"][0] for n in (1, 2, 3, 4)) == 16
    assert told.splitlines()[0] == f"{'all':<32} {16:>9,} faces,  50.0 % kept"


def test_small_data_goes_on_where_it_was(tmp_path):
    faces, model, pairs = made(tmp_path)
    embed(open_dataset(faces), model, tmp_path / "store", EmbedOptions())
    command = [tmp_path / "store", tmp_path / "out", "--model", model, "--verify", f"P={pairs},{faces}"]
    command += ["--faces", "8,16", "--losses", "cosine", "--methods", "nms", "--steps", 1, "--bits", "w8a8"]
    told = run("small_data", *command)
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        f"{n} faces by nms, cosine, seed 0" for n in (8, 16)
    ]
    before = times(tmp_path / "out")
    assert run("small_data", *command) == told
    pairs.write_text(pairs.read_text().replace(",0,0", ",0,1"))  # another test
    refused = CliRunner().invoke(recipe("small_data").main, list(map(str, command))).stderr
    point = tmp_path / "out" / "nms-8-cosine-w8a8-1-s0"
    assert refused == f"Error: {point} holds what other faces, options or pairs gave; choose another OUT\n"
    assert times(tmp_path / "out") == before


def test_a_proxy_of_all_identities_is_compared_with_the_teacher(tmp_path):
    faces, model, _ = made(tmp_path)
    embed(open_dataset(faces), model, tmp_path / "store", EmbedOptions())
    command = [faces, tmp_path / "store", tmp_path / "out", "--shares", "1", "--methods", "nms", "--keep", 0.5]
    told = run("proxy_share", *command, "--steps", 1, "--batch-size", 4)
    (row,) = json.loads((tmp_path / "out" / "agreement.json").read_text())["rows"]
    ours, theirs = (
        set(read_manifest(path)[0]["face_id"].to_pylist())
        for path in (tmp_path / "out" / "1-1" / "nms-0.5.parquet", tmp_path / "out" / "nms-0.5.parquet")
    )
    assert row == {"identities": 1.0, "method": "nms", "keep": 0.5, "agree": len(ours & theirs) / 8}
    assert told == f"1 of the identities, nms: {100 * row['agree']:.1f} % of what the teacher keeps\n"

    def refused(batch_size=4):
        words = [*map(str, command), "--steps", "1", "--batch-size", str(batch_size)]
        return CliRunner().invoke(recipe("proxy_share").main, words).stderr

    folder, before = tmp_path / "out" / "1-1", times(tmp_path / "out")
    other = f"Error: {folder} learnt from other faces, or with another --batch-size; choose another OUT\n"
    assert refused(batch_size=8) == other
    report = folder / "proxy" / "report.json"
    sound = report.read_text()
    report.write_text(sound.replace(open_dataset(faces).sha256, "0" * 64))
    assert refused() == other
    for damaged in ("{", "", "{}", "[]"):
        report.write_text(damaged)
        assert refused() == f"Error: {report} is damaged; delete {folder} and run again\n"
    report.write_text(sound)
    (faces / "p0" / "00.jpg").rename(faces / "p0" / "99.jpg")
    assert (
        refused()
        == f"Error: {tmp_path / 'store'} has a face p0/00.jpg, FACES have none; give the store of these faces\n"
    )
    assert {path: at for path, at in times(tmp_path / "out").items() if path != report} == {
        path: at for path, at in before.items() if path != report
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "from_scratch store out --verify nonsense",
            "a protocol is written as NAME=PAIRS or NAME=PAIRS,IMAGES; got 'nonsense'",
        ),
        (
            "from_scratch store out --verify P=pairs.csv,faces --keep 7",
            "keep is the fraction of faces to keep, in (0, 1]; got 7",
        ),
        (
            "small_data store out --model net.onnx --verify P=pairs.csv,faces --faces x",
            "--faces are numbers from 1 to 16, which store holds; got x",
        ),
        (
            "proxy_share faces store out --methods nms,best",
            f"no method best; there are {', '.join(SELECTORS)}, "
            "and ways of nms as nms:twin, nms:0.9 or nms:twin:0.9:nested",
        ),
        (
            "strangers pairs.csv faces strangers.csv",
            "nobody in overlap.parquet is in pairs.csv; check that it was made with --against faces",
        ),
        (
            "strangers pairs.csv faces new.csv --overlap pairs.csv",
            "pairs.csv is no evidence of overlap; facecore overlap writes it",
        ),
        (
            "strangers pairs.csv faces new.csv --overlap subset.parquet",
            "subset.parquet is no evidence of overlap; facecore overlap writes it",
        ),
        (
            "strangers pairs.csv faces new.csv --overlap all.parquet",
            "every pair of pairs.csv has somebody in all.parquet; nothing is left to test on",
        ),
        (
            "strangers pairs.csv faces subset.parquet",
            "subset.parquet exists; choose another --out, or add --overwrite to replace it",
        ),
        (
            "swell faces store",
            "store holds something else, or was made from other faces or options; choose another OUT",
        ),
        ("swell faces faces/in", "faces/in lies in faces, from which it would be made; choose another folder"),
        (
            "eigenfaces faces generator.onnx",
            "faces: 16 faces make fewer than 256 --components; ask for fewer",
        ),
        ("eigenfaces faces generator.pt", "generator.pt will be an ONNX file; give it a name that ends in .onnx"),
        (
            "who_is_dropped subset.parquet --part zzz",
            "no source in subset.parquet holds 'zzz'; look at its column source",
        ),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line(words, line, tmp_path, monkeypatch):
    faces, model, _ = made(tmp_path)
    monkeypatch.chdir(tmp_path)
    embed(open_dataset(faces), model, Path("store"), EmbedOptions())
    select(Path("store"), Nms(), keep=0.5, out=Path("subset.parquet"))
    for name, people in (("overlap", ["somebody"]), ("all", ["p0", "p1", "p2", "p3"])):
        pq.write_table(pa.table({"benchmark_identity": people}), f"{name}.parquet")
    name, *arguments = words.split()
    found = recipe(name)
    done = CliRunner().invoke(found.swell if name == "swell" else found.main, arguments)
    assert (done.exit_code, done.stderr) == (1, f"Error: {line}\n")
