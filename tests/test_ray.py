"""The stages on Ray: whatever dies on the way, the files are those of one machine; nothing listens beyond it."""

import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import curate_ray
import on_ray
import pytest
from click.testing import CliRunner
from geometry import random_faces, split, write_store
from pictures import folder_of
from ray_actors import spread
from test_models_onnx import written
from test_quantize import network

from facecore.embed import EmbedOptions, embed
from facecore.errors import DataError
from facecore.readers import open_dataset
from facecore.select import Job, Nms, select

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed; pip install 'facecore[ray]'")

SIZE = {"num_cpus": 1, "object_store_memory": 80 << 20}
FASTER = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "2"}


def numbers_in(path):
    """What a /proc/PID/stat says after the name: state, parent, group, session, ..."""
    return path.read_text().rpartition(")")[2].split()


def processes():
    """Every process there is, by its number: state, parent, group, session."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *numbers = numbers_in(path)[:4]
        except OSError:
            continue  # it has just ended
        found[int(path.parent.name)] = state, *map(int, numbers)
    return found


def descendants(root):
    """The processes that a process started, and those that these did."""
    parents = {pid: parent for pid, (_, parent, _, _) in processes().items()}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pids):
    there = processes()
    return {pid for pid in pids if pid in there and there[pid][0] != "Z"}


class Machines:
    """A cluster of machines with one processor each, all of them in processes of this one."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=SIZE)
        self.address = self.cluster.address
        self.seen = set()

    def add(self):
        node = self.cluster.add_node(**SIZE)
        self.seen |= descendants(os.getpid())
        return node

    def lose(self, node):
        self.seen |= descendants(os.getpid())
        self.cluster.remove_node(node, allow_graceful=False)

    def end(self):
        self.seen |= descendants(os.getpid())
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def machines():
    folder = tempfile.mkdtemp()  # not pytest's: sockets have short names
    (Path(folder) / "ray").mkdir()  # which the cluster expects
    before = descendants(os.getpid())
    with pytest.MonkeyPatch.context() as patch:
        own = {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder}
        for name, value in {**on_ray.ALONE, **FASTER, **own}.items():
            patch.setenv(name, value)
        there = Machines()
        there.add()
        yield there
        there.end()
    wait_until(lambda: not alive(there.seen - before))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory):
    """Images and a network, and what the commands of one machine make of them."""
    root = tmp_path_factory.mktemp("one_machine")
    faces = folder_of(root / "faces", {f"p{i % 7}/{i:02d}.jpg": i for i in range(42)})
    model = written(network(), root / "net.onnx")
    out = root / "out"
    embed(open_dataset(faces), model, out / "embeddings", EmbedOptions(shard_rows=6))
    select(out / "embeddings", Nms(), keep=0.6, out=out / "subset.parquet")
    return faces, model, out


def arguments(one_machine, out, *more):
    faces, model, _ = one_machine
    fixed = ["--keep", "0.6", "--shard-rows", "6", "--actors", "2"]
    return [str(word) for word in (faces, "--model", model, "--out", out, *fixed, *more)]


def said(out):
    return f"{out}/embeddings: 42 faces of 7 identities\n{out}/subset.parquet: 25 of 42 faces\n"


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def before(make, disturb):
    """The same work, but first disturb(shard) is called in the actor for every shard."""

    @functools.wraps(make)
    def made(*given):
        work = make(*given)

        def disturbed(batch):
            for shard in batch:
                disturb(shard)
            return work(batch)

        return disturbed

    return made


def dies_between_the_files_of(shard, once=None):
    """Kills the actor that works on a shard, when that has written its vectors and not yet said whose they are."""

    def disturb(number):
        if number != shard or (once and once.exists()):
            return
        if once:
            once.touch()
        from facecore.embeddings import files

        files.pq.write_table = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

    return disturb


def test_a_killed_actor_is_replaced_and_the_files_are_those_of_one_machine(
    machines, one_machine, tmp_path, monkeypatch
):
    once = tmp_path / "once"
    monkeypatch.setattr(on_ray, "embedding", before(on_ray.embedding, dies_between_the_files_of(3, once)))
    out = tmp_path / "out"
    result = CliRunner().invoke(curate_ray.curate, arguments(one_machine, out, "--address", machines.address))
    assert (result.stdout[-len(said(out)) :], result.stderr, result.exit_code) == (said(out), "", 0)
    assert once.exists()
    assert files(out) == files(one_machine[2])


def test_a_shard_that_kills_every_actor_is_named(machines, one_machine, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "embedding", before(on_ray.embedding, dies_between_the_files_of(2)))
    out = tmp_path / "out"
    result = CliRunner().invoke(curate_ray.curate, arguments(one_machine, out, "--address", machines.address))
    assert (result.stderr, result.exit_code) == (  # on stdout is what Ray says of every kill
        "Error: shard 2: its process was killed 3 times, for want of memory or by what it works on; what is finished "
        "stays: run the same command again with fewer processes, and if it fails again, look at that one\n",
        1,
    )
    assert not (out / "embeddings" / "meta.json").exists()


def test_data_that_cannot_be_read_end_the_run_with_the_line_of_one_machine(machines, one_machine, tmp_path):
    faces, model, _ = one_machine
    shutil.copytree(faces, tmp_path / "faces")
    (tmp_path / "faces" / "p3" / "10.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    with pytest.raises(DataError) as alone:
        embed(open_dataset(tmp_path / "faces"), model, out / "embeddings", EmbedOptions(shard_rows=6))
    shutil.rmtree(out)
    given = arguments((tmp_path / "faces", model, None), out, "--address", machines.address)
    result = CliRunner().invoke(curate_ray.curate, given)
    assert (result.output, result.exit_code) == (f"Error: {alone.value}\n", 1)


def test_a_cluster_without_the_gpus_asked_for_is_not_waited_for(machines, one_machine, tmp_path):
    faces, model, _ = one_machine
    words = [faces, "--model", model, "--out", tmp_path / "out", "--keep", "0.6", "--num-gpus", "0.5"]
    result = CliRunner().invoke(curate_ray.curate, [*map(str, words), "--address", machines.address])
    assert (result.output, result.exit_code) == (
        "Error: Ray has no GPU to give; leave out --num-gpus, or give --actors if the cluster grows\n",
        1,
    )


def squares(folder):
    """Work that leaves a line for every time it is begun."""

    def work(batch):
        for shard in batch:
            with (folder / str(shard)).open("a") as stream:
                stream.write("begun\n")
        return [shard**2 for shard in batch]

    return work


def begun(folder):
    return {int(path.name): len(path.read_text().splitlines()) for path in folder.iterdir()}


def test_of_a_batch_that_an_actor_died_over_only_one_shard_is_to_blame(machines, tmp_path):
    def poison(shard):
        if shard == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    with on_ray.cluster(machines.address):
        work = spread(before(squares, poison), tmp_path, batches=[(0, 1), (2, 3, 4, 5)], actors=2, num_cpus=1)
        results = []
        with pytest.raises(DataError, match=r"^shard 4: its process was killed 3 times"):
            results.extend(work)
    assert [0, 1] in results


def test_an_error_of_the_work_is_raised_at_once_as_it_is(machines, tmp_path):
    def unreadable(shard):
        if shard == 1:
            raise DataError("shard 1 cannot be read; copy it again")

    with on_ray.cluster(machines.address):
        work = spread(before(squares, unreadable), tmp_path, batches=[(0,), (1,), (2,)], actors=1, num_cpus=1)
        with pytest.raises(DataError, match=r"^shard 1 cannot be read; copy it again$"):
            list(work)
    assert begun(tmp_path) == {0: 1}


def test_a_selection_survives_a_killed_actor(machines, tmp_path, monkeypatch):
    store = write_store(tmp_path / "store", split(random_faces(0, [5, 9, 1, 30, 7, 12, 3, 8]), [2, 3, 4, 6]))
    once = tmp_path / "once"

    def dies(shard):
        if shard == 3 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(on_ray, "selecting", before(on_ray.selecting, dies))
    select(store, Nms(rank="confusable"), keep=0.5, out=tmp_path / "one.parquet")
    with on_ray.cluster(machines.address):
        on_ray.select_on_ray(Job(store, Nms(rank="confusable"), tmp_path / "many.parquet", 0.5), actors=1)
    for name in ("{}.parquet", "{}.dropped.parquet"):
        assert (tmp_path / name.format("many")).read_bytes() == (tmp_path / name.format("one")).read_bytes()
    assert sorted(path.name for path in tmp_path.glob("many*")) == ["many.dropped.parquet", "many.parquet"]


def test_a_lost_machine_is_done_without(machines, tmp_path):
    """All three actors are at work when one machine goes; the other two do its shard, too."""
    third = machines.add()
    lost, gone = third.node_id, tmp_path / "gone"
    (folder := tmp_path / "begun").mkdir()

    def waits(shard):
        import ray

        if ray.get_runtime_context().get_node_id() == lost:
            gone.touch()
            time.sleep(600)
        while not gone.exists():
            time.sleep(0.05)

    def lose():
        wait_until(gone.exists)
        machines.lose(third)

    with on_ray.cluster(machines.address), ThreadPoolExecutor(1) as pool:
        losing = pool.submit(lose)
        batches = [(shard,) for shard in range(8)]
        results = list(spread(before(squares, waits), folder, batches=batches, actors=3, num_cpus=1))
        losing.result()
    assert sorted(results) == [[shard**2] for shard in range(8)]
    assert begun(folder) == dict.fromkeys(range(8), 1)


SLOWLY = """
import os, time
replace = os.replace
def slowly(source, target):
    time.sleep(0.5 * str(target).endswith(".npy"))  # so that a run is still at work when it is killed
    replace(source, target)
os.replace = slowly
"""


def started(one_machine, out, environment):
    """The recipe as a user runs it, in a session of its own."""
    command = [sys.executable, curate_ray.__file__, *arguments(one_machine, out, "--actors", "1")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(command, env={**inherited, **environment}, start_new_session=True, **pipes)


def in_session(leader):
    return {pid for pid, (state, _, _, session) in processes().items() if session == leader and state != "Z"}


# Ray asks the metadata of clouds, 169.254.169.254 on port 80, in which it is, by name as well, for statistics that it
# does not send: no setting prevents it
ASKED = ("FEA9FEA9:0050", ":0035")


def addresses(pids):
    """Of the internet sockets of some processes the ends that are not on the loopback, and how many ends there are."""
    inodes = set()
    for pid in pids:
        try:
            links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            _, here, there, *_, inode = line.split()[:10]
            if inode in inodes and not there.endswith(ASKED):
                found |= {(kind, here)} | ({(kind, there)} if not there.endswith(":0000") else set())
    return {end for end in found if not is_loopback(end[1].partition(":")[0])}, len(found)


def is_loopback(digits):
    """Whether an address in the hexadecimal of /proc/net is 127.x.x.x, also as ::ffff:127.x.x.x, or ::1."""
    if len(digits) == 8:
        return digits.endswith("7F")
    return digits == "0" * 24 + "01000000" or (digits.startswith("0" * 16 + "FFFF0000") and digits.endswith("7F"))


def test_a_loopback_address_is_told():
    assert is_loopback("0100007F")
    assert is_loopback("0000000000000000FFFF00000100007F")
    assert is_loopback("00000000000000000000000001000000")
    assert not is_loopback("00000000")
    assert not is_loopback("0" * 32)
    assert not is_loopback("0000000000000000FFFF00000A00000A")


def test_a_killed_run_goes_on_and_nobody_listens_beyond_this_machine(one_machine, tmp_path):
    out, token = tmp_path / "out", tmp_path / "token"
    (tmp_path / "sitecustomize.py").write_text(SLOWLY)
    environment = {"PYTHONPATH": str(tmp_path), "RAY_AUTH_TOKEN_PATH": str(token)}
    finished = out / "embeddings" / "metadata"
    first = started(one_machine, out, environment)
    wait_until(lambda: list(finished.glob("*.parquet")), 300)
    first.kill()
    first.communicate()
    for pid in in_session(first.pid):  # Ray's own would take a minute to notice
        os.kill(pid, signal.SIGKILL)
    there = {path: path.stat().st_mtime_ns for path in finished.glob("*.parquet")}
    assert 0 < len(there) < 7
    second = started(one_machine, out, environment)
    outside, most = set(), 0
    while second.poll() is None:
        beyond, ends = addresses(in_session(second.pid))
        outside, most = outside | beyond, max(most, ends)
        time.sleep(0.3)
    stdout, stderr = second.communicate()
    assert (stdout, stderr, second.returncode) == (said(out), "", 0)
    assert outside == set()
    assert most > 10  # sockets were there to be seen
    assert there == {path: path.stat().st_mtime_ns for path in there}
    assert files(out) == files(one_machine[2])
    assert not token.exists()
    wait_until(lambda: not in_session(second.pid))
