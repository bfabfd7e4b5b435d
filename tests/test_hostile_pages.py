"""Every kind of page about data whose names are scripts: shown, not run; in Chromium, where it is installed."""

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

EVIL = "<script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
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


def test_reports_of_networks_and_curves_are_text(tmp_path):
    results = tmp_path / "results"
    (tmp_path / "images").mkdir()
    quantized(results / "quantized")
    report = json.loads((results / "quantized" / "report.json").read_text())
    (results / "quantized" / "report.json").write_text(json.dumps(_poisoned(report)))
    curve(results / "curve")
    table = pq.read_table(results / "curve" / "curve.parquet")
    for name in ("method", "protocol"):
        if name in table.column_names:
            values = [EVIL if value not in ("teacher", "calibrated") else value for value in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, results / "curve" / "curve.parquet")
    page_of(results)
    page = (tmp_path / "report.html").read_text()
    assert "<script>document" not in page
    assert "<img src=x" not in page


def _poisoned(value):
    """The same report with every text in it followed by a script."""
    if isinstance(value, dict):
        return {key: _poisoned(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_poisoned(one) for one in value]
    return value + EVIL if isinstance(value, str) else value
