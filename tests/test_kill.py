"""Real commands, killed at drawn moments and run again: see kill.py, which says how many times more in a night.

FACECORE_KILLS=120 python -m pytest tests/test_kill.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kill.py")
QUICK = ["nms", "nms-over", "synthesize", "import", "embed", "export-recordio", "quantize", "train-best"]

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
