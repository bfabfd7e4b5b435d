"""Every kind of page about data whose names are scripts: shown, not run; in Chromium, where it is installed."""

import csv
import html
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from geometry import shard_of
from pictures import folder_of
from test_cli import facecore
from test_report import curve, page_of, quantized
from test_report_browser import browser  # noqa: F401 (a fixture)

from facecore.embeddings import write_meta, write_shard
from facecore.manifest import with_provenance
from facecore.provenance import Provenance
from facecore.report.found import CURVE

EVIL = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
BREAKING_OUT = "\"'><img src=x onerror=\"document.title='ran'\">"  # of an attribute
PEOPLE = (EVIL, "ann", "bob")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A store, a subset and conflicts of people one of whom is a script, and what was rejected."""
    root = tmp_path_factory.mktemp("evil")
    people = sorted(PEOPLE)
    identities = [who for who in people for _ in range(4)]
    angle = np.radians([90 * (i // 4) + 10 * (i % 4) for i in range(12)])
    vectors = np.stack([np.cos(angle), np.sin(angle)], 1)
    shard = shard_of(vectors, identities)
    face_id = [f"{who}#{n % 4}" for n, who in enumerate(identities)]
    faces = pa.table({"face_id": face_id, "identity": identities, "source": [f"x/{EVIL.replace('/', '')}"] * 12})
    store = root / "embeddings"
    write_shard(store, 0, shard.vectors.astype(np.float16), faces, Provenance("embed"))
    rejected = pa.table({"face_id": [EVIL], "identity": [EVIL], "source": ["x"], "reason": [f"not an image: {EVIL}"]})
    pq.write_table(rejected.cast(with_provenance(rejected.schema, Provenance("embed"))), store / "rejected.parquet")
    facts = {"root": str(folder_of(root / "images", {"ann/1.png": 1})), "format": "folder", "model": {"file": EVIL}}
    write_meta(store, facts, dimension=2, shards=1)
    for words in (
        ("nms", "--keep", "0.5", "--embeddings", store, "--out", root / "subset.parquet"),
        ("conflicts", "--embeddings", store, "--out", root / "conflicts.parquet", "--max-own-cosine", "0.99"),
        ("report", root, "--out", root / "report.html"),
    ):
        code, output = facecore(*words)
        assert code == 0, output
    return root


def test_names_are_text_in_every_section(root):
    page = (root / "report.html").read_text()
    assert html.escape("<script>document.title") in page
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert page.count("<script") == 1  # the page's own


def test_the_browser_shows_them(root, browser):  # noqa: F811
    browser.get((root / "report.html").as_uri())
    assert browser.title != "ran"
    text = browser.execute_script("return document.body.textContent")
    assert "<script>document.title='ran'</script>" in text
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1
    assert browser.execute_script("return document.querySelectorAll('img[onerror]').length") == 0
    assert browser.get_log("browser") == []


def network(folder):
    """A quantized network whose report has a script in every text, and among the names of its tensors."""
    quantized(folder)
    report = json.loads((folder / "report.json").read_text())
    more = {"accuracy": {EVIL: report["accuracy"].popitem()[1]}, "decibels": {BREAKING_OUT: 1.0, **report["decibels"]}}
    (folder / "report.json").write_text(json.dumps(_poisoned({**report, **more})))


def sweep(folder):
    """A curve of methods and protocols that are scripts, beside what is above chance."""
    curve(folder)
    table = pq.read_table(folder / "curve.parquet")
    for name, to in (("method", BREAKING_OUT), ("protocol", EVIL)):
        values = [value if value == "teacher" else to for value in table[name].to_pylist()]
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table.cast(with_provenance(table.schema, Provenance(EVIL, {"method": EVIL}))), folder / CURVE)
    with (folder / "differences.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow([EVIL, BREAKING_OUT, 0.1, 0.5, 0.25, "false"])


@pytest.fixture(scope="module", params=[network, sweep], ids=lambda write: write.__name__)
def page(request, tmp_path_factory):
    """The page about a network or a curve, in a folder whose name would end the attribute that it stands in."""
    root = tmp_path_factory.mktemp("results")
    (root / "images").mkdir()
    request.param(root / "results" / BREAKING_OUT)
    page_of(root / "results")
    return root / "report.html"


def test_reports_of_networks_and_curves_are_text(page):
    text = page.read_text()
    assert html.escape("<script>document.title") in text
    assert "<script>document" not in text
    assert "<img src=x" not in text
    assert text.count("<script") == 1


def test_the_browser_shows_networks_and_curves(page, browser):  # noqa: F811
    browser.get(page.as_uri())
    assert browser.title != "ran"
    seen = browser.execute_script("return document.body.innerText")
    assert EVIL in seen
    assert BREAKING_OUT in seen
    assert browser.execute_script("return document.querySelectorAll('script').length") == 1
    assert browser.execute_script("return document.querySelectorAll('[onerror], [onload], img[src=x]').length") == 0
    assert browser.get_log("browser") == []  # where a script that the page's policy refused would be


def _poisoned(value):
    """The same report with every text in it followed by a script."""
    if isinstance(value, dict):
        return {key: _poisoned(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_poisoned(one) for one in value]
    return value + EVIL if isinstance(value, str) else value
