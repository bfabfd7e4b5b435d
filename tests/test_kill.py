"""Real commands, killed at drawn moments and run again: see kill.py, which says how many times more in a night.

FACECORE_KILLS=120 python -m pytest tests/test_kill.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import facecore

PROGRAM = Path(__file__).with_name("kill.py")
QUICK = ["nms", "nms-over", "synthesize", "import", "embed", "export-recordio", "quantize", "train-best"]
NOT_A_DEMO = "demo/faces is not a drawn data set, so it is not replaced; choose another --out"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")


def killed(*words):
    """What kill.py found."""
    done = subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return json.loads(done.stdout)


def test_killed_runs_end_as_undisturbed_ones():
    kills = int(os.environ.get("FACECORE_KILLS", "0"))
    found = killed("--kills", str(kills)) if kills else killed("--kills", "12", "--quick", "--stages", *QUICK)
    assert found["wrong"] == []
    assert found["all"] >= (kills or 12)


def test_a_selection_is_killed_at_every_operation_on_its_files():
    found = killed("--every", "--stages", "nms")
    assert found["wrong"] == []
    assert found["all"] > 5


@pytest.mark.parametrize(
    ("there", "words", "line"),
    [
        ("faces/images/a/1.jpg", "", "demo exists; choose another --out, or add --overwrite to replace it"),
        ("faces/images/a/1.jpg", "--overwrite", NOT_A_DEMO),
        ("faces/truth.parquet", "--overwrite", NOT_A_DEMO),
    ],
)
def test_a_demo_does_not_go_on(tmp_path, monkeypatch, there, words, line):
    """It takes two minutes, so it begins anew, with --overwrite, and then replaces nothing but a demo."""
    monkeypatch.chdir(tmp_path)
    place = Path("demo", there)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    assert facecore("demo", *words.split()) == (1, f"Error: {line}\n")
    assert [path for path in Path("demo").rglob("*") if path.is_file()] == [place]
