"""The corpus of the fuzzer, and a short run of it where it is installed (see tests/fuzz)."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import CORPUS, TARGETS, refuses_or_reads  # noqa: E402 (lies in the folder above)

KEPT = sorted(path for path in CORPUS.rglob("*") if path.is_file())
RUNS = 2000


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_stays_mended(path):
    refuses_or_reads(path.parent.name, path.read_bytes())


def test_every_target_starts_from_something():
    assert {path.parent.name for path in KEPT} == TARGETS.keys()


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", TARGETS)
def test_a_short_run_finds_nothing(target, tmp_path):
    shutil.copytree(CORPUS / target, tmp_path / "corpus")
    words = [str(FUZZ / "fuzz.py"), target, str(tmp_path / "corpus"), f"-runs={RUNS}", "-seed=1", "-max_len=4096"]
    ran = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
