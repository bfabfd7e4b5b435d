"""The page: what it counts and samples, and what it says and does not say of a folder."""

import base64
import io
import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from geometry import random_faces, split, write_store
from pictures import encoded, folder_of, jpeg, pixels
from PIL import Image

from facecore.cli import main
from facecore.errors import DataError, OptionError
from facecore.manifest import with_provenance
from facecore.provenance import Provenance
from facecore.report import ReportOptions, report
from facecore.report.charts import chart
from facecore.report.faces import SIDE, thumbnail
from facecore.report.numbers import doubling_bins, nearest, spread
from facecore.report.subset import Subset, rows_at, rows_where
from facecore.review import ConflictOptions, conflicts
from facecore.select import Nms, select

EVIL = "<script>window.pwned = 1</script>\"'&"
T = 0.6


def row(identity, number, suppression, **more):
    source = f"{'evil' if identity == EVIL else identity}/{number}.jpg"
    face = {"face_id": f"{identity}/{number}", "identity": identity, "source": source}
    return {**face, "sparsity": 1.0 - number / 8, "suppression_cosine": suppression, **more}


def gone(identity, number, cosine, reason="near-duplicate", rival=0):
    name = None if rival is None else f"{identity}/{rival}"
    return row(identity, number, cosine, rival=name, cosine=None if rival is None else cosine, reason=reason)


KEPT = [row("ann", 0, -1.0), row("ann", 3, 0.5), row("ann", 4, 0.875), row("bob", 0, -1.0), row(EVIL, 0, -1.0)]
DROPPED = [gone("ann", 1, 0.875), gone("ann", 2, 0.75), gone("bob", 1, 0.5, "trimmed"), gone(EVIL, 1, 0.8125)]


def write_subset_of(path, kept, dropped, /, *, stage="nms", rows=None, **facts):
    """A subset and its dropped faces by hand, in row groups of so many rows."""
    made = Provenance(stage, {"keep": 0.5}, {"embeddings": "e" * 64}, {"max_cosine": T, "format": "folder", **facts})
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = ("face_id", "identity", "source", "rival", "reason")
    for file, listed in ((path, kept), (path.with_name(f"{path.stem}.dropped.parquet"), dropped)):
        names = [*row("a", 0, 0.0), *(["rival", "cosine", "reason"] if listed is dropped else [])]
        fields = [(name, pa.string() if name in texts else pa.float32()) for name in names]
        table = pa.Table.from_pylist(listed, pa.schema(fields))
        pq.write_table(table.cast(with_provenance(table.schema, made)), file, row_group_size=rows or 1 << 17)
    return path


def images_at(root):
    """A picture for every face but bob/1, which is missing, and ann/2, which is none."""
    people = {f"{who}/{number}.jpg": number for who in ("ann", "bob", "evil") for number in range(5)}
    del people["bob/1.jpg"]
    return folder_of(root, {name: jpeg(seed, 112) for name, seed in people.items()} | {"ann/2.jpg": b"none"})


def quantized(folder, **more):
    """What quantize leaves of a network, as far as the page looks at it."""
    found = {"accuracy": 0.9, "standard_error": 0.01, "pairs": 100, "tar": {}}
    whole = {
        "bits": "w6a6",
        "bytes": {"float": 4_000_000, "quantized": 1_100_000, "packed": 800_000},
        "checkpoints": [{"step": 0, "cosine": 0.99}, {"step": 20, "cosine": 0.995}],
        "computation": {"multiply_adds": 2e8, "integer_share": 1.0, "kernels": {}, "float_products": 0},
        "cosine_to_teacher": {stage: {"mean": 0.995, "p01": 0.98} for stage in ("calibrated", "fine_tuned")},
        "decibels": {**{f"conv_{number}": 20.0 + number for number in range(12)}, EVIL: 40.0},
        "faces": 100,
        "faces_used": 90,
        "inputs": {"dataset": "d" * 64, "model": "m" * 64},
        "latency_ms": {"batch_1": {"float": 8.0, "quantized": 4.0}, "batch_64": {"float": 9.0, "quantized": 3.0}},
        "parameters": 1000,
        "schedule": {"steps": 20, "seed": 0},
        "seconds": {"calibrate": 1.0, "fine_tune": 2.0},
        "accuracy": {"lfw $1$ " + EVIL: {stage: found for stage in ("float", "calibrated", "fine_tuned")}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps({**whole, **more}))


def curve(folder):
    """A sweep of two methods, two fractions and two seeds."""
    rows = [
        {"protocol": "lfw", "method": method, "fraction": fraction, "seed": seed, "budget": "steps", "faces": 10,
         "steps": 5, "seconds_quantize": 2.0, "accuracy": 0.9 + fraction / 20 + seed / 100, "standard_error": 0.01}
        for method in ("nms", EVIL) for fraction in (0.1, 1.0) for seed in (0, 1)
    ]  # fmt: skip
    rows += [{"protocol": "lfw", "method": "teacher", "fraction": 1.0, "accuracy": 0.99, "standard_error": 0.001}]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "curve.parquet")
    header = "protocol,method,fraction,points_above_random,half_interval,noise"
    (folder / "differences.csv").write_text(f"{header}\nlfw,nms,0.1,0.5,0.25,false\n")


@pytest.fixture
def folder(tmp_path):
    """A subset and its images."""
    write_subset_of(tmp_path / "results" / "subset.parquet", KEPT, DROPPED, root="/secret/place")
    images_at(tmp_path / "images")
    return tmp_path / "results"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """One of everything but a store and conflicts, and the page about it; not to be changed."""
    root = tmp_path_factory.mktemp("full")
    write_subset_of(root / "results" / "subset.parquet", KEPT, DROPPED, root="/secret/place")
    quantized(root / "results" / "quantized")
    curve(root / "results" / "curve")
    images_at(root / "images")
    return root / "results", *page_of(root / "results")


class Page(HTMLParser):
    """A page taken apart: it must be well-formed."""

    VOID = {"meta", "img", "wbr", "br", "input"}  # noqa: RUF012

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text()
        self.tags, self.open, self.said = [], [], []
        self.feed(self.text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag not in ("b", "span"):
            self.said.append(" ")

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.said.append(data)

    @property
    def words(self):
        return " ".join("".join(self.said).split())

    def all(self, tag, **attrs):
        wanted = {name.rstrip("_"): value for name, value in attrs.items()}
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]


def page_of(folder, **options):
    out = folder.parent / "report.html"
    done = report(folder, out, ReportOptions(**options), images=folder.parent / "images", overwrite=True)
    return done, Page(out)


# What is counted


def test_bins_double():
    names, found = doubling_bins(np.array([0, 1, 1, 2, 3, 4, 5, 8, 9]))
    assert names == ["0", "1", "2", "3-4", "5-8", "9-16"]
    assert found.tolist() == [1, 2, 1, 2, 2, 1]


@pytest.mark.parametrize("counts", [[], [0], [1], [2, 2], [1024], [1025]])
def test_bins_hold_every_count(counts):
    names, found = doubling_bins(np.array(counts, np.int64))
    assert len(names) == len(found)
    assert found.sum() == len(counts)
    if counts:
        assert found[-1] > 0 or counts == [0]


def test_a_sample_spreads_over_the_range():
    values = np.array([0.1, 0.2, 0.3, 0.31, 0.32, 0.33, 0.9, np.nan], np.float32)
    assert spread(values, 3).tolist() == [6, 5, 0]  # 0.1, 0.5, 0.9: the next above 0.5 is taken already
    assert spread(values, 100).tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert spread(values, 0).tolist() == []
    assert spread(np.array([np.nan], np.float32), 4).tolist() == []


def test_a_sample_takes_every_row_once_however_they_crowd():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 40):
        values = rng.choice([0.5, 0.75, 0.875], 40).astype(np.float32)
        rows = spread(values, n)
        assert len(set(rows.tolist())) == n
        assert (np.diff(values[rows]) <= 0).all()


def test_nearest_is_the_slow_obvious_answer():
    values = np.array([0.5, np.nan, 0.7, 0.61, 0.59, 0.61], np.float32)
    assert (
        nearest(values, 0.6, 3).tolist()
        == sorted([0, 2, 3, 4, 5], key=lambda row: (abs(values[row] - np.float32(0.6)), row))[:3]
    )


def test_a_tally_counts_people_reasons_and_cosines(tmp_path):
    path = write_subset_of(
        tmp_path / "subset.parquet", KEPT, [*DROPPED, gone("cas", 0, 0.5, "outranked", None)], rows=2
    )
    tally = Subset.open(path).tally()
    assert tally.people.to_pylist() == [
        {"identity": EVIL, "kept": 1, "dropped": 1},
        {"identity": "ann", "kept": 3, "dropped": 2},
        {"identity": "bob", "kept": 1, "dropped": 1},
        {"identity": "cas", "kept": 0, "dropped": 1},
    ]
    assert (tally.kept, tally.dropped) == (5, 5)
    assert tally.reasons == {"near-duplicate": 3, "outranked": 1, "trimmed": 1}
    assert tally.cosine[:4].tolist() == [0.875, 0.75, 0.5, 0.8125]
    assert math.isnan(tally.cosine[4])


def test_rows_are_found_by_number_and_by_name(tmp_path):
    path = write_subset_of(tmp_path / "subset.parquet", KEPT, DROPPED, rows=2)
    found = rows_at(path, np.array([4, 0, 2]), ["face_id"])
    assert [face["face_id"] for face in found] == [f"{EVIL}/0", "ann/0", "ann/4"]
    assert rows_where(path, "identity", ["ann"], ["source"])["source"].to_pylist() == [
        f"ann/{n}.jpg" for n in (0, 3, 4)
    ]


def test_thumbnails_are_small_and_never_larger_than_the_image():
    for size, expected in (((224, 112), (112, 56)), ((16, 16), (16, 16))):
        uri = thumbnail(encoded(np.asarray(Image.fromarray(pixels(0)).resize(size))))
        kind, data = uri.split(",")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert (kind, image.format, image.size) == ("data:image/jpeg;base64", "JPEG", expected)
    assert SIDE == 112
    with pytest.raises(DataError):
        thumbnail(b"not an image")


def test_a_chart_is_inline_named_and_coloured_by_the_page():
    def paint(axes):
        axes.set_xlabel("$1 <b>")
        return [(bar, f"{EVIL} {n}") for n, bar in enumerate(axes.bar([0, 1], [1, 2], color="#010105"))]

    one, other = (chart(name, EVIL, paint) for name in ("one", "other"))
    assert one.values == [f"{EVIL} 0", f"{EVIL} 1"]
    assert "<script" not in one.svg
    assert "&lt;script&gt;window.pwned = 1&lt;/script&gt;" in one.svg
    assert "$1 &lt;b&gt;" in one.svg
    assert "var(--dropped)" in one.svg
    assert "#0101" not in one.svg
    assert not re.search(r"<style|<metadata|font-family|<\?xml", one.svg)
    ids = [set(re.findall(r'id="([^"]*)"', found.svg)) for found in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert chart("one", EVIL, paint) == one


# What the page says


def test_the_page_shows_everything_in_a_folder(full):
    _, done, page = full
    assert done.parts == {"subset": 1, "curve": 1, "model": 1}
    assert (done.faces, done.unreadable) == (len(page.all("img")), 2)
    assert done.bytes == len(page.text.encode())
    assert [title["id"] for title in page.all("section") if "id" in title] == ["subset-0", "curve-0", "model-0"]
    for words in (
        "5 of 9 faces kept", "55.56 % of the faces", "3 of 3 identities kept", "0.6000 t*",
        "trimmed 1 t* lets it in, but the count asked for is exact", "0.8750 near-duplicate", "Why 4 faces went",
        "model.safetensors: 0.80 MB", "w6a6", "90.00 ± 1.00", "conv_0 20.0", "step 20: 0.9950",
        "teacher 99.00", "+0.50 ± 0.25 a difference", "nms, 10 % (10 faces), seed 0: 90.50 ± 1.00 %",
    ):  # fmt: skip
        assert words in f"{page.words} {_figures(page)}", words


def _figures(page):
    """The figures of the page as the eye reads them: what comes second in the source stands above."""
    return " ".join(f"{dd} {dt}" for dt, dd in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.text))


def test_a_face_that_cannot_be_read_has_a_place_and_a_reason(full):
    _, _, page = full
    labels = [found["aria-label"] for found in page.all("div", class_="blank")]
    assert labels == [
        "dropped: bob/1, no picture: no such file",
        "dropped: ann/2, no picture: not an image: unknown image format",
    ]


def test_pictures_are_inside_and_alternative_texts_say_who(full):
    _, _, page = full
    assert {found["src"].split(",")[0] for found in page.all("img")} == {"data:image/jpeg;base64"}
    assert {"dropped: ann/1", "kept: ann/0", f"kept: {EVIL}/0"} <= {found["alt"] for found in page.all("img")}


def test_nothing_is_fetched_and_no_path_of_the_machine_is_told(full):
    folder, _, page = full
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    links = [found[name] for _, found in page.tags for name in ("href", "src", "xlink:href") if name in found]
    assert {link[0] for link in links if not link.startswith("data:")} == {"#"}
    assert "/secret/place" not in page.text
    assert str(folder.parent) not in page.text


def test_what_the_data_say_is_shown_and_not_run(full):
    _, _, page = full
    assert len(page.all("script")) == 1
    assert "window.pwned" in page.words
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]


def test_ids_are_unique_and_headings_in_order(full):
    _, _, page = full
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_page_without_faces_has_no_image(folder):
    done, page = page_of(folder, faces=False)
    assert done.faces == 0
    assert page.all("img") == page.all("div", class_="blank") == []
    assert "data:image" not in page.text
    assert "Without pictures of faces." in page.words
    assert "0.8750 near-duplicate" in page.words  # the cosines are there all the same


@pytest.mark.parametrize("most", [0, 1, 5])
def test_there_are_no_more_pictures_than_asked_for(folder, most):
    done, page = page_of(folder, max_faces=most)
    assert done.faces == len(page.all("img")) <= most


def test_equal_files_give_equal_bytes(full):
    folder, _, page = full
    moved = folder.parent / "elsewhere" / folder.name
    shutil.copytree(folder, moved)
    shutil.copytree(folder.parent / "images", moved.parent / "images")
    assert page_of(moved)[1].text == page.text


def test_images_that_moved_leave_places(folder):
    done = report(folder, folder.parent / "report.html")
    assert (done.faces, done.unreadable) == (0, 0)
    page = Page(folder.parent / "report.html")
    assert page.all("div", class_="blank")[0]["aria-label"].endswith(
        "the images are not where they were; give --images"
    )


def test_a_whole_run_with_store_and_conflicts(tmp_path):
    shard = random_faces(3, [6, 5, 4, 3, 2, 1])
    store = write_store(tmp_path / "work" / "embeddings", split(shard, [3]))
    select(store, Nms(), keep=0.5, out=tmp_path / "work" / "subset.parquet")
    conflicts(store, tmp_path / "work" / "conflicts.parquet", ConflictOptions(min_centre_cosine=-1, max_own_cosine=1))
    sources = [
        name for n in (0, 1) for name in pq.read_table(store / "metadata" / f"metadata_0000{n}.parquet")["source"]
    ]
    folder_of(tmp_path / "images", {name.as_py(): 1 for name in sources})
    done, page = page_of(tmp_path / "work")
    assert done.parts == {"subset": 1, "conflicts": 1, "store": 1}
    assert done.unreadable == 0
    assert "in question" in page.words
    assert "21 faces" in _figures(page)
    assert "3-4 faces: 2 identities" in page.words
    assert page_of(tmp_path / "work", faces=False)[1].all("img") == []


def test_a_pruned_network_in_floats_has_no_noise_to_show(tmp_path):
    quantized(tmp_path / "results" / "pruned", bits="float", decibels={}, sparsity=0.5)
    folder_of(tmp_path / "images", {})
    (tmp_path / "images").mkdir()
    done, page = page_of(tmp_path / "results")
    assert done.parts == {"model": 1}
    assert "float pruned only" in _figures(page)
    assert "pruned 50 % of the parameters" in page.words
    assert "Which layer hurts" not in page.words
    assert "calibrated" not in page.words.replace("to calibrate", "")


def test_a_folder_can_be_the_thing_itself(tmp_path):
    quantized(tmp_path / "quantized")
    assert report(tmp_path / "quantized", tmp_path / "a.html").parts == {"model": 1}
    store = write_store(tmp_path / "embeddings", [random_faces(0, [2, 1])])
    assert report(store, tmp_path / "b.html").parts == {"store": 1}
    with pytest.raises(DataError, match="choose another --out"):
        report(store, store / "report.html")


def torn_inside(path):
    """Zeros where the data are; the footer stays."""
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)


def test_damage_inside_a_file_takes_back_its_pictures(folder):
    write_subset_of(folder / "other.parquet", KEPT, DROPPED, root="/secret/place")
    torn_inside(folder / "other.parquet")
    before, _ = page_of(folder)
    for name in ("other.parquet", "other.dropped.parquet"):
        (folder / name).unlink()
    after, _ = page_of(folder)
    assert (before.faces, before.unreadable) == (after.faces, after.unreadable)
    ((name, reason),) = before.left_out
    assert name == "other.parquet"
    assert re.fullmatch(r"damaged \(.*\); write it again, or move it away", reason)


def test_what_is_left_out_is_named_on_the_page_and_by_the_command(folder):
    pq.write_table(pa.table({"face_id": ["a"]}), folder / "list.parquet")
    (folder / "<b>\n.parquet").write_bytes(b"PAR1")
    for place, name, text in (
        ("embeddings", "meta.json", "{"),
        ("quantized", "report.json", "{bad"),
        ("torn", "curve.parquet", "junk"),
    ):
        (folder / place).mkdir()
        (folder / place / name).write_text(text)
    (folder / "curve").mkdir()
    pq.write_table(pa.table({"method": ["nms"]}), folder / "curve" / "curve.parquet")
    (folder / "store" / "img_emb").mkdir(parents=True)
    out = folder.parent / "page.html"
    done = CliRunner().invoke(main, ["report", str(folder), "--out", str(out)])
    lines = [
        "<b>\\n.parquet: not a whole Parquet file; run what wrote it again",
        "list.parquet: no table that a report shows; to show a subset, a curve or conflicts, write it again",
        "curve/curve.parquet: has no column fraction; run facecore curve again",
        "embeddings/meta.json: not of a whole store, no img_emb is beside it; run facecore embed again",
        "quantized/report.json: not whole JSON; run facecore quantize again",
        "store: no whole store, meta.json is missing; run facecore embed again, with --overwrite if it refuses",
        "torn/curve.parquet: not a whole Parquet file; run facecore curve again",
    ]
    assert done.exit_code == 0
    assert done.stderr == "".join(f"left out {line}\n" for line in lines)
    page = Page(out)
    assert f"Left out {' '.join(lines)}" in page.words
    assert str(folder.parent) not in page.text


def test_the_command_says_why_there_are_no_pictures(folder):
    write_subset_of(folder / "none.parquet", KEPT, DROPPED)
    out = folder.parent / "page.html"
    done = CliRunner().invoke(main, ["report", str(folder), "--out", str(out)])
    assert (done.exit_code, done.output) == (
        0,
        f"{out}: 2 subsets; 0 pictures of faces, {out.stat().st_size / 1e6:.1f} MB\n"
        "no pictures: the root of the images is not recorded; give --images\n"
        "no pictures: the images are not where they were; give --images\n",
    )


def edited(folder, change):
    quantized(folder)
    report = json.loads((folder / "report.json").read_text())
    change(report)
    (folder / "report.json").write_text(json.dumps(report))


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda of: of.pop("parameters"), "parameters"),
        (lambda of: of["bytes"].pop("float"), "bytes.float"),
        (lambda of: of["bytes"].update(float=0), "bytes.float"),
        (lambda of: of["decibels"].update(conv_1=math.nan), "decibels.conv_1"),
        (lambda of: of["checkpoints"][1].update(step="x"), "checkpoints.1.step"),
        (lambda of: of.update(latency_ms=[]), "latency_ms"),
        (lambda of: of["cosine_to_teacher"].pop("calibrated"), "cosine_to_teacher.calibrated"),
    ],
)
def test_a_report_that_lacks_something_is_named(tmp_path, change, missing):
    edited(tmp_path, change)
    assert failing(tmp_path) == (
        f"nothing to report on in {tmp_path}: report.json: has no {missing}, or none that can be shown; "
        "run facecore quantize again"
    )


def failing(folder, *more):
    """The one line of a failing command, without its beginning."""
    done = CliRunner().invoke(main, ["report", str(folder), "--out", str(folder / "page.html"), *more])
    assert done.exit_code == 1
    assert not (folder / "page.html").exists()
    (line,) = done.output.splitlines()
    return line.removeprefix("Error: ")


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            {"report.json": b"[1, 2]"},
            "report.json: not the report of a quantized network; facecore quantize writes one",
        ),
        ({"report.json": b"\xff\x00"}, "report.json: not whole JSON; run facecore quantize again"),
        ({"curve.parquet": b"junk"}, "curve.parquet: not a whole Parquet file; run facecore curve again"),
        (
            {"meta.json": b"{}"},
            "meta.json: not of a whole store, no img_emb is beside it; run facecore embed again",
        ),
        (
            {"img_emb/a": b"", "meta.json": b"{}"},
            "{name}: meta.json is damaged; run facecore embed again, with --overwrite if it refuses",
        ),
    ],
)
def test_only_damage_is_an_error_that_names_the_file(tmp_path, files, line):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert failing(tmp_path) == f"nothing to report on in {tmp_path}: {line.format(name=tmp_path.name)}"


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def made_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "name", "line"),
    [
        (cut, "subset", "subset.parquet: not a whole Parquet file; run facecore nms again"),
        (cut, "subset.dropped", "subset.parquet: subset.dropped.parquet is not a whole Parquet file; "
         "run facecore nms again"),
        (Path.unlink, "subset.dropped", "subset.parquet: without its dropped faces, subset.dropped.parquet; "
         "run facecore nms again, it writes both"),
        (Path.unlink, "subset", "subset.dropped.parquet: without its subset, subset.parquet; "
         "run facecore nms again, it writes both"),
        (made_a_folder, "subset", "subset.parquet: a folder, not a Parquet file; move it away, "
         "and run facecore nms again"),
    ],
)  # fmt: skip
def test_half_a_subset_is_an_error_that_names_the_file(folder, change, name, line):
    change(folder / f"{name}.parquet")
    assert failing(folder) == f"nothing to report on in {folder}: {line}"


def test_the_first_rows_of_an_order_have_no_dropped_faces(folder):
    write_subset_of(folder / "subset.parquet", KEPT, DROPPED, stage="take")
    line = (
        "subset.parquet: the first rows of an order, which have no dropped faces; "
        "facecore nms --nested --keep writes such a subset and its dropped faces"
    )
    assert failing(folder) == f"nothing to report on in {folder}: {line}"  # those beside it are of another
    (folder / "subset.dropped.parquet").unlink()
    assert failing(folder) == f"nothing to report on in {folder}: {line}"


def test_a_damaged_file_of_a_store_is_named(tmp_path):
    store = write_store(tmp_path / "store", [random_faces(0, [2, 1])])
    (store / "rejected.parquet").write_bytes(b"PAR1")
    start = f"nothing to report on in {tmp_path}: store: "
    assert re.fullmatch(
        re.escape(f"{start}store/rejected.parquet is damaged (") + r".*\); write it again, or move it away",
        failing(tmp_path),
    )
    (store / "meta.json").unlink()
    (store / "meta.json").mkdir()
    assert failing(tmp_path) == (f"{start}store/meta.json cannot be read (Is a directory); check its permissions")


def test_an_error_names_three_files_and_counts_the_others(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.parquet").write_bytes(b"PAR1")
    said = " | ".join(f"{name}.parquet: not a whole Parquet file; run what wrote it again" for name in "abc")
    assert failing(tmp_path) == f"nothing to report on in {tmp_path}: {said} | and 2 more"


def test_a_curve_of_other_values_is_left_out(tmp_path):
    start = f"nothing to report on in {tmp_path}: curve.parquet: "
    for rows, line in (
        ({"accuracy": ["x"]}, "curve.parquet: column accuracy is string, no numbers"),
        ({"accuracy": [math.nan]}, "has rows that are no point"),
        ({"accuracy": [None]}, "has no points"),
        ({"fraction": [0.0]}, "has rows that are no point"),
        ({"seconds_quantize": ["x"]}, "curve.parquet: column seconds_quantize is string, no numbers"),
    ):
        table = {"method": ["nms"], "fraction": [0.5], "accuracy": [0.5], **rows}
        pq.write_table(pa.table(table), tmp_path / "curve.parquet")
        assert failing(tmp_path) == f"{start}{line}; run facecore curve again"
    curve(tmp_path)
    (tmp_path / "differences.csv").write_text("a,b\n1\n")
    assert failing(tmp_path) == f"{start}differences.csv is no whole table; run facecore curve again"
    (tmp_path / "differences.csv").write_text("protocol,method\nlfw,nms\n")
    assert failing(tmp_path) == f"{start}differences.csv is not what facecore curve wrote; run it again"


def test_a_page_is_not_replaced_unless_asked(folder):
    out = folder.parent / "report.html"
    out.write_text("mine")
    with pytest.raises(DataError, match="exists; choose another --out, or add --overwrite"):
        report(folder, out)
    assert out.read_text() == "mine"


def test_colours_have_contrast_in_both_themes():
    style = (Path(report.__code__.co_filename).parent / "templates" / "page.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in style.split("@media", 2)[:2])
    for theme in (light, light | dark):
        for ground in ("paper", "panel", "blank"):
            for name in ("ink", "soft", "kept", "dropped", "accent", *(f"s{n}" for n in range(6))):
                least = 4.5 if not name.startswith("s") or name == "soft" else 3
                if ground != "blank" or name in ("ink", "soft"):
                    assert _contrast(theme[name], theme[ground]) >= least, (name, ground)


def _contrast(one, other):
    """The contrast ratio of WCAG 2."""
    parts = [[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in (one, other)]
    linear = [[c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour] for colour in parts]
    low, high = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (high + 0.05) / (low + 0.05)


# The command


def test_the_command_says_what_it_made(folder):
    write_subset_of(folder / "other.parquet", KEPT[:1], [])
    out = folder.parent / "page.html"
    done = CliRunner().invoke(
        main, ["report", str(folder), "--out", str(out), "--images", str(folder.parent / "images")]
    )
    size = f"{len(out.read_bytes()) / 1e6:.1f}"
    faces = len(Page(out).all("img"))
    assert (done.exit_code, done.output) == (
        0,
        f"{out}: 2 subsets; {faces} pictures of faces, {size} MB\n"
        "2 images could not be read; the page says of each why\n",
    )


def test_a_folder_of_nothing(tmp_path):
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--out", str(tmp_path / "page.html")])
    assert (done.exit_code, done.output) == (
        1,
        f"Error: nothing to report on in {tmp_path}, nor in its folders: neither a store (meta.json), a subset beside "
        "its .dropped.parquet, a quantized model (report.json), a curve (curve.parquet) or a table of conflicts\n",
    )


def test_mistakes_are_one_line(folder, tmp_path):
    with pytest.raises(DataError, match=r"^no folder .*nowhere; give one that holds a store"):
        report(tmp_path / "nowhere", tmp_path / "page.html")
    with pytest.raises(DataError, match=r"^no images at .*nowhere; --images is the root"):
        report(folder, tmp_path / "page.html", images=tmp_path / "nowhere")
    with pytest.raises(OptionError, match="max_faces must be 0 or more, got -1"):
        ReportOptions(max_faces=-1)


def test_what_is_given_in_the_wrong_place_is_one_line(folder):
    subset, images = folder / "subset.parquet", folder.parent / "images"
    before = subset.read_bytes()
    for arguments, line in (
        ([folder, "--out", subset, "--overwrite"], f"--out is a page, so its name must end in .html, got {subset}"),
        (
            [folder, "--no-faces", "--max-faces", "10"],
            "--max-faces counts pictures, and a page without faces has none; leave out --max-faces or --no-faces",
        ),
        ([subset], f"{subset} is a file; give the folder that it lies in, {folder}"),
        (
            [folder, "--out", folder / "page.html", "--images", images / "ann" / "0.jpg"],
            f"{images / 'ann' / '0.jpg'} is a file; --images is the folder that the faces' sources are relative to",
        ),
    ):
        done = CliRunner().invoke(main, ["report", *map(str, arguments)])
        assert (done.exit_code, done.output) == (1, f"Error: {line}\n")
    assert subset.read_bytes() == before
