"""Work by processes that are killed: each time they are, somebody else does what they were doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facecore.errors import DataError
from facecore.pool import in_processes
from facecore.progress import progress

begun = []


def set_up(factor):
    if factor < 0:
        raise DataError("no negative factors; take another")
    begun.append(factor)


def times(item):
    assert len(begun) == 1, "set up once"
    return begun[0] * item


def log_and_die(item):
    """The item says (where to note its start, how often it kills its process)."""
    log, kills = item
    with log.open("a") as stream:
        stream.write("x")
    if len(log.read_text()) <= kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return log.name


def fail(item):
    if item == 2:
        raise DataError("this is wrong; mend it")
    if item == 3:
        raise ZeroDivisionError
    return item


def start_and_sleep(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(120)


def run(function, items, processes=2, **more):
    return dict(in_processes(function, items, processes=processes, name="item {}".format, **more))


def test_every_item_is_done_by_processes_that_are_set_up_once():
    assert run(times, range(5), begin=set_up, given=(3,)) == {0: 0, 1: 3, 2: 6, 3: 9, 4: 12}
    assert run(times, []) == {}


def test_an_item_whose_process_was_killed_is_done_again_and_no_other(tmp_path):
    items = [(tmp_path / str(number), kills) for number, kills in enumerate([0, 2, 0, 1])]
    assert run(log_and_die, items) == {item: item[0].name for item in items}
    assert [len(log.read_text()) for log, _ in items] == [1, 3, 1, 2]


def test_an_item_that_always_kills_its_process_is_named_and_the_others_are_done(tmp_path):
    items = [(tmp_path / str(number), kills) for number, kills in enumerate([0, 99, 0, 0])]
    done = []
    # one process, for the last try ends all: another one might still be at work on the item before
    results = in_processes(log_and_die, items, processes=1, name=lambda item: f"item {item[0].name}")
    with pytest.raises(DataError) as caught:
        done.extend(item for item, _ in results)
    assert str(caught.value) == (
        "item 1: its process was killed 3 times, for want of memory or by what it works on; what is finished "
        "stays: run the same command again with fewer processes, and if it fails again, look at that one"
    )
    assert done == [items[0], items[2], items[3]]
    assert len(items[1][0].read_text()) == 3


def test_an_error_is_raised_at_once_with_the_name():
    with pytest.raises(DataError) as caught:
        run(fail, [2])
    assert str(caught.value) == "item 2: this is wrong; mend it"
    with pytest.raises(ZeroDivisionError):
        run(fail, [3])
    with pytest.raises(DataError) as caught:
        run(times, [1], begin=set_up, given=(-1,))
    assert str(caught.value) == "item 1: no negative factors; take another"


def wait_for(condition):
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}  # of other processes


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    program = (
        "import sys; from pathlib import Path; import test_pool\n"
        "if __name__ == '__main__': test_pool.run(test_pool.start_and_sleep, [Path(sys.argv[1])] * 2)"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    folder = tmp_path / "pids"
    folder.mkdir()
    with subprocess.Popen([sys.executable, script, folder], env=PATHS) as parent:
        assert wait_for(lambda: len(list(folder.iterdir())) == 2)
        parent.kill()
    assert all(wait_for(lambda name=path.name: ended(name)) for path in folder.iterdir())


def test_whoever_stops_early_ends_the_processes(tmp_path):
    results = in_processes(fail_or_sleep, [None, tmp_path], processes=2, name=str)
    next(results)
    assert wait_for(lambda: list(tmp_path.iterdir()))
    results.close()
    (path,) = tmp_path.iterdir()
    assert wait_for(lambda: ended(path.name))


def fail_or_sleep(folder):
    if folder is not None:
        start_and_sleep(folder)


def show(item):
    with progress(1, "showing", "items") as bar:
        bar.update()
    return item


def test_processes_that_are_ended_leave_nothing_for_python_to_warn_of(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import test_pool\nif __name__ == '__main__': print(sorted(test_pool.run(test_pool.show, [1, 2])))"
    )
    done = subprocess.run([sys.executable, script], env=PATHS, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")
