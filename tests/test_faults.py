"""Faults that no run may be lost to: two runs on one output, signals, full and read-only disks, few open files."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from pictures import folder_of, jpeg
from test_models_onnx import written
from test_quantize import network

from facecore import claims
from facecore.claims import claimed
from facecore.cli import main
from facecore.commands import WRITTEN, Command
from facecore.errors import DataError
from facecore.select import SELECTORS
from facecore.signals import INTERRUPTED, end_well

FEW = "--steps 4 --checkpoint-every 2 --batch-size 4 --workers 1"
STAGES = {  # each writes `out` and nothing else
    "embed": "embed faces --model net.onnx --shard-rows 5 --out out",
    "import": "import rows.npy --labels rows.csv --memory 0.000001 --shard-rows 10 --out out",
    "nms": "nms --keep 0.6 --embeddings store --out out.parquet",
    "order": "nms --order --embeddings store --out out.parquet",
    "select": "select random --keep 0.6 --embeddings store --out out.parquet",
    "quantize": f"quantize --manifest faces --model net.onnx {FEW} --calibration-faces 4 --out out",
    "train": f"train faces --arch tiny --scale 24 --margin 0.2 {FEW} --out out",
    "recordio": "export faces --to recordio --shard-faces 3 --out out",
    "list": "export faces --to list --out out",
    "webdataset": "export faces --to webdataset --shard-faces 3 --out out",
    "synthesize": "synthesize --parametric --count 7 --batch-size 3 --size 32 --out out",
}
EVERY = pytest.mark.parametrize("words", STAGES.values(), ids=STAGES.keys())


def facecore(words):
    """Exit code and everything printed; a bug is raised."""
    result = CliRunner().invoke(main, words.split(), prog_name="facecore")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten faces of three people, a network, their store, and rows to import."""
    root = tmp_path_factory.mktemp("data")
    people = {"ann": 5, "bob": 4, "cy": 1}
    folder_of(
        root / "faces", {f"{name}/{n}.jpg": jpeg(7 * n + len(name), 16) for name, k in people.items() for n in range(k)}
    )
    written(network(), root / "net.onnx")
    np.save(root / "rows.npy", np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32))
    names = [f"p{17 * n % 7},{n:02d}" for n in range(40)]
    (root / "rows.csv").write_text("\n".join(["identity,face_id", *names]) + "\n")
    code, said = facecore(f"embed {root}/faces --model {root}/net.onnx --shard-rows 5 --out {root}/store")
    assert code == 0, said
    return root


@pytest.fixture
def here(data, tmp_path, monkeypatch):
    """An empty folder to run in, beside links to the data; training leaves out what takes longer than all else."""
    monkeypatch.setattr("facecore.train.artefacts.to_onnx", lambda network, size: onnx.ModelProto())
    return prepared(data, tmp_path, monkeypatch)


def prepared(data, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for path in data.iterdir():
        Path(path.name).symlink_to(path)
    return folder


def made(folder):
    """What lies in a folder besides the data, as bytes, but for reports: seconds are in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.suffix != ".json" else None
        for top in folder.glob("out*")
        for path in (top, *top.rglob("*"))
        if path.is_file()
    }


def halves(folder):
    """Files that are not whole, but for those in a folder that is none yet, and from which a run goes on."""
    return [path for path in folder.rglob("*.part") if path.is_file() and "out.part" not in path.parts]


# Two runs on one output


def test_the_second_run_says_that_there_is_a_first(here):
    with claimed(Path("out.parquet")):
        assert facecore(STAGES["nms"]) == (
            1,
            "Error: out.parquet is being written by another run; wait until that is done, or choose another --out\n",
        )
        assert facecore(STAGES["nms"].replace("out.parquet", "another.parquet"))[0] == 0
    assert facecore(STAGES["nms"])[0] == 0
    assert not list(here.glob("*.lock"))


def commands():
    for name, command in main.commands.items():
        if isinstance(command, click.Group):
            found = [command.get_command(click.Context(command), of) for of in SELECTORS]
            yield from ((f"{name} {of.name}", of) for of in found)
        else:
            yield name, command


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_no_command_writes_without_a_claim(name, command):
    options = command.get_params(click.Context(command))
    paths = [of for of in options if isinstance(of, click.Option) and isinstance(of.type, click.Path)]
    writing = {of.name for of in paths if re.search(r"\bto (write|go on|work in)\b", of.help)}
    assert writing <= set(WRITTEN)
    assert isinstance(command, Command)


def test_a_run_that_was_stopped_in_the_middle_keeps_the_second_out(here):
    faces = {f"p{n:03d}/1.jpg": jpeg(n % 9, 16) for n in range(200)}
    folder_of(here / "many", faces)
    words = [sys.executable, "-m", "facecore", *"embed many --model net.onnx --shard-rows 5 --batch-size 1".split()]
    first = subprocess.Popen([*words, "--out", "out/first"], stderr=subprocess.PIPE, text=True)
    while not list(Path("out/first/metadata").glob("*.parquet")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)
    assert facecore("embed many --model net.onnx --shard-rows 5 --batch-size 1 --out out/first") == (
        1,
        "Error: out/first is being written by another run; wait until that is done, or choose another --out\n",
    )
    first.send_signal(signal.SIGCONT)
    assert first.communicate(timeout=60)[1] == ""
    assert first.returncode == 0
    assert facecore("embed many --model net.onnx --shard-rows 5 --batch-size 1 --out out/again")[0] == 0
    files = [
        {path.name: path.read_bytes() for path in Path("out", name).rglob("*") if path.is_file()}
        for name in ("first", "again")
    ]
    assert files[0] == files[1]
    assert sorted(os.listdir("out")) == ["again", "first"]


def test_what_is_being_written_is_not_changed_either(here):
    with claimed(Path("out")):
        assert facecore("forget ann --embeddings out") == (
            1,
            "Error: out is being written by another run; wait until that is done, or choose another --out\n",
        )


def test_nothing_is_left_of_a_claim(tmp_path):
    with claimed(tmp_path / "a" / "b" / "out"):
        assert os.listdir(tmp_path / "a" / "b") == ["out.lock"]
    assert os.listdir(tmp_path) == []  # nor of folders that were made for it
    with claimed(tmp_path / "a" / "b" / "out"):
        (tmp_path / "a" / "b" / "out").touch()
    assert os.listdir(tmp_path / "a" / "b") == ["out"]


def test_what_a_killed_run_left_claims_nothing(tmp_path):
    (tmp_path / "out.lock").touch()
    with claimed(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == []


def test_two_names_of_one_output(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with claimed(tmp_path / "folder" / "out"), pytest.raises(DataError) as caught, claimed(tmp_path / "link" / "out"):
        pass
    assert str(caught.value).startswith(f"{tmp_path / 'link' / 'out'} is being written by another run")
    with claimed(tmp_path / "folder" / "out", tmp_path / "link" / "out"):
        pass


def test_where_files_cannot_be_locked_work_goes_on(here, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    notes = []
    monkeypatch.setattr(claims.log, "info", lambda text, *values: notes.append(text % values))
    assert facecore(STAGES["nms"])[0] == 0
    assert notes == ["out.parquet goes without a lock against a second run: [Errno 37] No locks available"]


def test_where_no_file_can_be_made_work_goes_on_to_its_own_error(tmp_path, monkeypatch):
    def nowhere(path, *rest):  # as /proc answers
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(os, "open", nowhere)
    with claimed(tmp_path / "out"):
        pass


def test_the_processes_of_torchrun_share_an_output(here, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with claimed(Path("out")):
        assert facecore(STAGES["synthesize"])[0] == 0


RACE = """
import os, sys
from pathlib import Path
from facecore.claims import claimed
from facecore.errors import DataError
out, inside, wins = Path(sys.argv[1]), Path(sys.argv[2]), 0
while wins < 50:
    try:
        with claimed(out):
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            inside.unlink()
            wins += 1
    except DataError:
        pass
"""


def test_a_claim_is_held_by_one_of_many_that_come_and_go(tmp_path):
    words = [sys.executable, "-c", RACE, tmp_path / "out", tmp_path / "inside"]
    racers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [racer.communicate(timeout=60)[1] for racer in racers] == [""] * 3
    assert os.listdir(tmp_path) == []


# Signals


@contextmanager
def signalled(number, at, monkeypatch):
    """Raise a signal at a file that becomes whole, the `at`-th of them."""
    replace, seen = os.replace, []

    def counted(*paths):
        seen.append(paths)
        if len(seen) == at:
            signal.raise_signal(number)
        return replace(*paths)

    before = {of: signal.getsignal(of) for of in (signal.SIGINT, signal.SIGTERM)}
    end_well()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", counted)
            yield
    finally:
        for of, handler in before.items():
            signal.signal(of, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@EVERY
def test_a_signal_is_one_line_and_the_run_goes_on_later(words, number, code, here, tmp_path, monkeypatch, data):
    at = 2 if number == signal.SIGTERM else 1
    with signalled(number, at, monkeypatch):
        assert facecore(words) == (code, "Interrupted; nothing is half-written: run the same command again\n")
    assert not list(here.rglob("*.lock"))
    assert not halves(here)
    assert facecore(words)[0] == 0
    found = made(here)
    (tmp_path / "undisturbed").mkdir()
    prepared(data, tmp_path / "undisturbed", monkeypatch)
    assert facecore(words)[0] == 0
    assert found == made(tmp_path / "undisturbed")


STARTED = """
import signal, sys
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            signal.raise_signal(int(number))
number, at, ignored, *sys.argv[1:] = sys.argv[1:]
sys.meta_path.insert(0, Signals())
if ignored == "ignored":
    signal.signal(int(number), signal.SIG_IGN)
from facecore.__main__ import run
assert "click" not in sys.modules
run()
"""


def started(number, at, words, ignored=""):
    """Run a command that a signal reaches while it imports a module: exit code, output, errors."""
    command = [sys.executable, "-c", STARTED, str(int(number)), at, ignored, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("at", ["click", "torch"])
def test_a_signal_in_the_midst_of_an_import_is_the_same_line(number, code, at, here):
    assert started(number, at, STAGES["embed"]) == (code, "", f"{INTERRUPTED}\n")
    assert not halves(here)
    assert not Path("out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_to_be_ignored_is(number):
    assert started(number, "click", "nms --keep 2 --embeddings nowhere", "ignored") == (
        1, "", "Error: --keep is the fraction of faces to keep, in (0, 1]; got 2\n"
    )  # fmt: skip


def test_the_script_takes_signals_from_its_first_import_on():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert re.findall(r'^facecore = "(.*)"$', project, re.MULTILINE) == ["facecore.__main__:run"]


# Disks


@contextmanager
def limited(what, amount):
    """Lower a limit of this process."""
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (amount, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


ROOM = {"embed": 150, "import": 200, "quantize": 9000, "train": 9000, "recordio": 900, "webdataset": 9000}


@EVERY
def test_a_file_that_does_not_fit_is_one_line_that_names_it(words, here, data, tmp_path, monkeypatch):
    name = next(name for name, of in STAGES.items() if of == words)
    with limited(resource.RLIMIT_FSIZE, ROOM.get(name, 300)):
        code, said = facecore(words)
    assert code == 1
    assert re.fullmatch(r"Error: (out\S*: .*); check the path, its permissions and the free space\n", said), said
    assert facecore(words)[0] == 0  # there is room now
    found = made(here)
    (tmp_path / "undisturbed").mkdir()
    prepared(data, tmp_path / "undisturbed", monkeypatch)
    assert facecore(words)[0] == 0
    assert found == made(tmp_path / "undisturbed")
