import gc
import sys

import numpy as np
import pytest

from facecore.npy import load_npy, read_npy_header
from facecore.parallel import in_order


@pytest.fixture
def busy_collector():
    """Run Python in the midst of numpy's parsing, as hypothesis, and finalizers, do: threads then take turns there."""

    def work(*_):
        sum(range(50))

    before, interval = gc.get_threshold(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(10, 2, 2)
    gc.callbacks.append(work)
    yield
    gc.callbacks.remove(work)
    gc.set_threshold(*before)
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("read", [lambda path: load_npy(path).shape, lambda path: read_npy_header(path).shape])
def test_threads_read_the_heads_of_arrays_at_a_time(busy_collector, tmp_path, read):
    np.save(tmp_path / "rows.npy", np.zeros((3, 2), np.float16))
    shapes = in_order(read, [tmp_path / "rows.npy"] * 800, threads=4, ahead=64)
    assert set(shapes) == {(3, 2)}


def test_a_mapped_array_is_not_written_to_and_a_copy_on_write_one_keeps_it_to_itself(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(3))
    with pytest.raises(ValueError, match="read-only"):
        load_npy(tmp_path / "rows.npy")[0] = 7
    rows = load_npy(tmp_path / "rows.npy", "c")
    rows[0] = 7
    assert load_npy(tmp_path / "rows.npy").tolist() == [0, 1, 2]


def test_an_array_of_python_objects_is_not_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([{}]))
    with pytest.raises(ValueError, match="Python objects in dtype"):
        load_npy(tmp_path / "rows.npy")
