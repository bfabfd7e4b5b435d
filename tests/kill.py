"""Kill real commands at any moment, run them again, and compare what they leave with what an undisturbed run does.

python tests/kill.py --kills 120 [--seed 0] [--stages embed nms ...] [--folder DIR]

A run is `python -m facecore ...` in a process that is forked off this one, where all packages are imported already: the
moments are thereby of the work, and not of its imports. Two kills of three come at an operation on files, just before
it is done (seen by an audit hook: what is opened for writing, renamed, removed or made); the others at a time. Both are
drawn, from the operations and the seconds of the undisturbed run. Exits with 1 if anything is not as it should be.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import mmap
import os
import re
import runpy
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

PRELOADED = (
    "facecore.cli facecore.accuracy facecore.curve facecore.embed facecore.export facecore.importing facecore.readers "
    "facecore.select facecore.select.audit facecore.synthesis facecore.train facecore.verify matplotlib.pyplot "
    "torch.onnx onnxscript torch._dynamo torch._export torch.onnx._internal.exporter._core"
).split()
TEMPORARY = re.compile(r"(.*\.(part|lock|tmp)|checkpoint\.pt|recovery\.pt|best\.pt|teacher\.npz)$")
TIMES = {"seconds", "latency_ms", "waiting_share", "faces_per_second"}  # of reports: the only facts about the clock
DOUBLE = 0.25  # of the kills are followed by a second one, of the run that was to mend it


@dataclass(frozen=True)
class Stage:
    """A command, what counts as one unit of its work by the file that completes it, and what is there before."""

    words: str  # beside the data, in ../data
    unit: str | None = None  # None: the whole run is one
    before: str | None = None  # another command, whose output is to be overwritten


NMS = "--embeddings ../data/store"
QUANTIZE = "--model ../data/net.onnx --steps 6 --checkpoint-every 2 --batch-size 8 --calibration-faces 8 --workers 1"
TRAIN = "train ../data/faces --arch tiny --steps 6 --checkpoint-every 2 --batch-size 8 --scale 24 --margin 0.2"
VERIFY = "--verify near=../data/pairs.csv,../data/faces"
CHECKPOINT, SHARD = r"(checkpoint|recovery)\.pt", r"metadata_\d+\.parquet"
EXPORT = "--out ex --shard-faces 7 --workers 1"
STAGES = {
    "embed": Stage("embed ../data/faces --model ../data/net.onnx --shard-rows 10 --workers 1", SHARD),
    "embed-over": Stage(
        "embed ../data/faces --model ../data/net.onnx --shard-rows 10 --overwrite",
        before="embed ../data/faces --model ../data/net.onnx --shard-rows 20 --flip",
    ),
    "import": Stage("import ../data/rows.npy --labels ../data/rows.csv --memory 0.000002 --shard-rows 10"),
    "import-over": Stage(
        "import ../data/rows.npy --labels ../data/rows.csv --overwrite",
        before="import ../data/rows.npy --labels ../data/rows.csv --shard-rows 10",
    ),
    "nms": Stage(f"nms --keep 0.6 {NMS}"),
    "nms-over": Stage(f"nms --keep 0.6 --overwrite {NMS}", before=f"nms --keep 0.3 {NMS}"),
    "order": Stage(f"nms --order --out order.parquet {NMS}"),
    "select": Stage(f"select herding --keep 0.6 {NMS}"),
    "demo": Stage("demo --identities 2 --steps 1 --overwrite"),  # it begins anew, with what is there replaced
    "train": Stage(TRAIN, CHECKPOINT),
    "train-best": Stage(f"{TRAIN} {VERIFY}", CHECKPOINT),
    "quantize": Stage(f"quantize --manifest ../data/faces {QUANTIZE}", CHECKPOINT),
    "quantize-0": Stage(f"quantize --manifest ../data/faces {QUANTIZE} --epochs 0".replace("--steps 6 ", "")),
    "quantize-4": Stage(
        f"quantize --manifest ../data/faces --bits w4a4 --sparsity 0.2 {VERIFY} {QUANTIZE}", CHECKPOINT
    ),
    "curve": Stage(f"curve {NMS} --fractions 0.5,1 --seeds 2 {VERIFY} {QUANTIZE}", r"report\.json"),
    "export-recordio": Stage(f"export ../data/faces --to recordio {EXPORT}", r"records/\d+\.parquet"),
    "export-folder": Stage(f"export ../data/faces --to folder {EXPORT}", r"records/\d+\.parquet"),
    "export-webdataset": Stage(f"export ../data/faces --to webdataset {EXPORT}", r"records/\d+\.parquet"),
    "export-over": Stage(
        f"export ../data/faces --to parquet {EXPORT} --overwrite", before=f"export ../data/faces --to folder {EXPORT}"
    ),
    "synthesize": Stage("synthesize --parametric --count 14 --batch-size 4 --size 32", r"\.records/\d+\.parquet"),
    "synthesize-over": Stage(
        "synthesize --parametric --count 9 --batch-size 4 --size 32 --overwrite",
        before="synthesize --parametric --count 9 --batch-size 4 --size 24",
    ),
}


def make_data(folder):
    """Forty faces of four people, a network, their store, rows to import and pairs."""
    from pictures import folder_of
    from test_models_onnx import written
    from test_quantize import network

    people = ("ann", "bob", "cy", "dee")
    folder_of(folder / "faces", {f"{who}/{n}.jpg": 10 * k + n for k, who in enumerate(people) for n in range(10)})
    written(network(), folder / "net.onnx")
    lines = [
        f"{who}/{n}.jpg,{other}/{n + 1}.jpg,{int(who == other)},{n % 3}"
        for n in range(9)
        for who in people[:2]
        for other in people[:2]
    ]
    (folder / "pairs.csv").write_text("\n".join(["left,right,same,fold", *lines]) + "\n")
    rows = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    names = [f"p{17 * n % 7},{n:02d}" for n in range(60)]
    (folder / "rows.csv").write_text("\n".join(["identity,face_id", *names]) + "\n")
    os.chdir(folder)
    command("embed ../data/faces --model net.onnx --out store --shard-rows 10")


def command(words):
    """`python -m facecore` in this process."""
    sys.argv = ["facecore", *words.split()]
    with contextlib.suppress(SystemExit):
        runpy.run_module("facecore", run_name="__main__")


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int  # negative: the signal
    said: str
    operations: int  # on files
    units: int  # completed, or about to be when it was killed
    seconds: float


def run(words, folder, *, unit=None, at_operation=None, after=None):
    """Run a command in a folder; kill it at an operation on files, or after so many seconds of its work."""
    counts = mmap.mmap(-1, 16)  # shared with the child, and there when that is gone
    said = folder.parent / f"{folder.name}.log"
    began = time.perf_counter()
    child = os.fork()
    if not child:
        _become(words, folder, said, counts, unit, at_operation)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    operations, units = struct.unpack("qq", counts[:])
    return Run(os.waitstatus_to_exitcode(status), said.read_text(), operations, units, time.perf_counter() - began)


def _become(words, folder, said, counts, unit, at_operation):
    """What a forked child does; does not return."""
    code = 70
    try:
        os.chdir(folder)
        stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        _watch(str(folder), counts, re.compile(unit) if unit else None, at_operation)
        sys.argv = ["facecore", *words.split()]
        runpy.run_module("facecore", run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(folder, counts, unit, at_operation):
    """Count operations on the files of a folder and the units that they complete; kill this process at one of them."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    root = os.path.realpath(folder)

    def hook(event, arguments):
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, (str, bytes)) or not flags & writing:
                return
        elif event == "os.rename":
            path = arguments[1]
        elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
            path = arguments[0]
        else:
            return
        path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else "."
        if not os.path.abspath(path).startswith(root):
            return
        operations, units = struct.unpack("qq", counts[:])
        units += bool(unit and event == "os.rename" and unit.search(path) and not path.endswith(".part"))
        counts[:] = struct.pack("qq", operations + 1, units)
        if operations + 1 == at_operation:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def state(folder):
    """Every file below a folder by its sha256, reports without what they say of the clock; folders are None."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            found[name] = None
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            data = json.dumps(timeless(json.loads(data)), sort_keys=True).encode()
        elif path.stem == "curve" and path.suffix in (".csv", ".parquet"):
            table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
            data = table.drop(columns=[name for name in table if "seconds" in name]).to_csv().encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def timeless(value):
    """JSON without what the clock says."""
    if isinstance(value, dict):
        return {key: timeless(of) for key, of in value.items() if key not in TIMES}
    return [timeless(of) for of in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Undisturbed:
    """What a stage does if nobody kills it."""

    run: Run
    state: dict


class Trial:
    """One stage, killed again and again."""

    def __init__(self, name, folder):
        self.name, self.stage, self._folder = name, STAGES[name], folder
        place = self._fresh("whole")
        self._whole = run(self.stage.words, place, unit=self.stage.unit)
        assert self._whole.code == 0, self._whole.said
        self._state = state(place)
        left = [path for path in self._state if TEMPORARY.match(path)]
        assert not left, f"{name} leaves {left}"
        self.operations, self.seconds = self._whole.operations, self._whole.seconds

    def _fresh(self, name):
        """A folder with what is there before the command is run."""
        place = self._folder / name
        shutil.rmtree(place, ignore_errors=True)
        before = self._folder / f"{self.name}.before"
        if self.stage.before and not before.exists():
            before.mkdir()
            made = run(self.stage.before, before)
            assert made.code == 0, made.said
        if self.stage.before:
            shutil.copytree(before, place)
        else:
            place.mkdir()
        return place

    def moment(self, rng):
        """When to kill: the number of an operation, or seconds."""
        kind = rng.random()
        if kind < 1 / 3:
            return {"after": round(rng.uniform(0, self.seconds), 3)}
        if kind < 2 / 3:  # the beginning and the end, where folders are made, moved and tidied
            near = int(rng.integers(1, 13))
            return {"at_operation": max(1, near if rng.random() < 0.5 else self.operations + 1 - near)}
        return {"at_operation": int(rng.integers(1, self.operations + 1))}

    def kill(self, *moments):
        """Kill at each of the moments, then let it end; returns what is wrong, or None."""
        place, units = self._fresh("killed"), 0
        for moment in moments:
            killed = run(self.stage.words, place, unit=self.stage.unit, **moment)
            units += killed.units
            if killed.code not in (-signal.SIGKILL, 0, 1):
                return f"{moment}: ended with {killed.code}: {killed.said[-600:]}"
        again = run(self.stage.words, place, unit=self.stage.unit)
        if again.code and "exists; choose another" not in again.said:
            return f"run again: {again.said[-600:]}"
        now = state(place)
        if now != self._state:
            differing = sorted(name for name, _ in now.items() ^ self._state.items())
            return f"differs in {differing}; run again: {again.said[-300:]}"
        if self.stage.unit and units + again.units > self._whole.units + len(moments):
            return f"{units} units, then {again.units} more, where an undisturbed run takes {self._whole.units}"
        return None


def main():
    """Kill, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=12, help="of all stages together")
    parser.add_argument("--every", action="store_true", help="instead: once at every single operation on files")
    parser.add_argument("--quick", action="store_true", help="train writes no true ONNX: that takes 20 seconds a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "agg"}
    for name in PRELOADED:
        importlib.import_module(name)
    if asked.quick:
        artefacts = importlib.import_module("facecore.train.artefacts")
        artefacts.to_onnx = lambda network, size: importlib.import_module("onnx").ModelProto()
    with TemporaryDirectory() as folder:
        done = kill_all(Path(folder), asked)
    sys.stdout.write(json.dumps(done, indent=2) + "\n")
    sys.exit(bool(done["wrong"]))


def kill_all(folder, asked):
    """Try the stages in turn; returns how many kills each had, and what was wrong."""
    (folder / "data").mkdir()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        make_data(folder / "data")
        os._exit(0)
    os.waitpid(child, 0)
    rng, trials, kills, wrong = np.random.default_rng(asked.seed), {}, Counter(), []

    def tried(name, *moments):
        trial = trials[name]
        kills[name] += len(moments)
        found = trial.kill(*moments)
        if found:
            sys.stderr.write(f"{name} {moments} of {trial.operations}, {trial.seconds:.1f} s: {found}\n")
            wrong.append(f"{name} {moments}: {found}")

    turn = 0
    while asked.every or kills.total() < asked.kills:
        name = asked.stages[turn % len(asked.stages)]
        turn += 1
        if name not in trials:
            (folder / name).mkdir()
            (folder / name / "data").symlink_to(folder / "data")
            trials[name] = Trial(name, folder / name)
        trial = trials[name]
        if asked.every:
            if turn > len(asked.stages):
                break
            for number in range(1, trial.operations + 1):
                tried(name, {"at_operation": number})
        else:
            tried(name, *(trial.moment(rng) for _ in range(2 if rng.random() < DOUBLE else 1)))
    return {"kills": dict(kills), "all": kills.total(), "wrong": wrong}


if __name__ == "__main__":
    main()
