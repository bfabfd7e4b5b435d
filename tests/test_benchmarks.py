"""Every benchmark runs at its smoke size and says what it measured, on what."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark_runs(path, tmp_path):
    out = tmp_path / "result.json"
    subprocess.run([sys.executable, str(path), "--smoke", "--out", str(out)], check=True)
    result = json.loads(out.read_text())
    assert set(result["made_with"]) == {"commit", "machine", "versions"}
    assert result["faces"] >= 2000
    assert all(value > 0 for value in result.values() if isinstance(value, float))
