"""The script for Slurm, with an sbatch that runs nothing but notes what it is given: the test runs that, in order."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from pictures import folder_of, jpeg
from test_models_onnx import written
from test_quantize import network

from facecore.cli import main

SCRIPT = Path(__file__).parents[1] / "pipelines" / "slurm.sh"
SBATCH = """#!/bin/bash
printf '%s\\t' "$@" >> "$JOBS"; printf '\\n' >> "$JOBS"
echo "$(grep -c '' "$JOBS");cluster"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def submitted(folder, **settings):
    """What the script submits: a list of (name, dependency, tasks, command)."""
    sbatch = folder / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH)
    sbatch.chmod(0o755)
    jobs = folder / "jobs"
    environment = {**os.environ, "PATH": f"{sbatch.parent}:{os.environ['PATH']}", "JOBS": str(jobs), **settings}
    done = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [of(line.split("\t")[:-1]) for line in jobs.read_text().splitlines()], done.stdout


def of(words):
    given = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
    return given["--job-name"], given.get("--dependency"), given.get("--array"), words[words.index("--wrap") + 1]


def run(command, tasks):
    """The output of the tasks of a job, last first."""
    first, last = map(int, re.fullmatch(r"(\d+)-(\d+)", tasks or "0-0").groups())
    lines = []
    condition, _, otherwise = command.rpartition(" || ")
    if condition:
        _, _, path = shlex.split(condition)
        if Path(path).exists():
            return []
        command = otherwise
    for task in range(last, first - 1, -1):
        program, *arguments = shlex.split(command.replace("$SLURM_ARRAY_TASK_ID", str(task)))
        assert program == "facecore"
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        lines.append(done.output)
    return lines


def test_the_jobs_make_what_one_machine_makes(tmp_path):
    faces = folder_of(tmp_path / "my faces", {f"p{i % 5}/{i:02d}.jpg": jpeg(i, 16) for i in range(20)})
    model, out = written(network(), tmp_path / "net.onnx"), tmp_path / "out"
    names = {"DATASET": str(faces), "MODEL": str(model), "OUT": str(out), "TASKS": "2", "KEEP": "0.5"}
    more = {"EMBED_OPTIONS": "--shard-rows 8", "NMS_OPTIONS": "--rank dataset", "SURVEYS": "1"}
    jobs, told = submitted(tmp_path, **names, **more)
    assert told == (
        "embed: job 1\ncomplete: job 2\nsurvey-1: job 3\nprofile: job 4\nthreshold: job 5\ncut: job 6\nsubset: job 7\n"
    )
    assert [after for _, after, _, _ in jobs] == [None, *(f"afterok:{job}" for job in range(1, 7))]
    assert [tasks for _, _, tasks, _ in jobs] == ["0-1", None, "0-1", "0-1", None, "0-1", None]
    for _, _, tasks, command in jobs[:-2]:
        run(command, tasks)
    run(jobs[-2][3], "1-1")  # and task 0 fails, so that the whole is submitted again
    last = [lines for _, _, tasks, command in jobs if (lines := run(command, tasks))][-1]
    plain, store = tmp_path / "plain", tmp_path / "plain" / "embeddings"
    run(f"facecore embed {shlex.quote(str(faces))} --model {model} --out {store} --shard-rows 8", None)
    select = f"facecore nms --keep 0.5 --rank dataset --embeddings {store} --out {plain / 'subset.parquet'}"
    assert [line.replace(str(plain), str(out)) for line in run(select, None)] == last
    shutil.rmtree(out / "logs")
    assert files_of(out) == files_of(plain)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_missing_is_said(tmp_path):
    done = subprocess.run(["bash", SCRIPT], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert (done.returncode, done.stderr.rpartition(": ")[2]) == (1, "is the data set\n")
