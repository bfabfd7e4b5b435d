"""Compiled loops: where their machine code cannot be kept they run all the same."""

import os

from numba.core import caching

from facecore.compiled import compiled, compiled_sums, forget_stale_code


def twice(number):
    return 2 * number


def test_machine_code_is_kept_where_it_can_be():
    assert (compiled(twice)(3), compiled_sums(twice)(0.5)) == (6, 1.0)
    assert isinstance(compiled(twice)._cache, caching.FunctionCache)


def test_without_a_place_to_keep_machine_code(monkeypatch):
    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])  # a package and a home of others
    assert (compiled(twice)(3), compiled_sums(twice)(0.5)) == (6, 1.0)
    assert isinstance(compiled(twice)._cache, caching.NullCache)


def test_machine_code_older_than_a_source_beside_some_is_forgotten(tmp_path):
    cache = tmp_path / "select" / "__pycache__"
    cache.mkdir(parents=True)
    code = [cache / name for name in ("cut.nbi", "cut.1.nbc", "cut.pyc")]
    for path, when in zip(
        [*code, tmp_path / "select" / "cut.py", tmp_path / "other.py"], (10, 10, 10, 9, 11), strict=True
    ):
        path.touch()
        os.utime(path, (when, when))
    forget_stale_code(tmp_path)
    assert all(path.exists() for path in code)  # other.py lies beside no machine code
    os.utime(tmp_path / "select" / "cut.py", (11, 11))
    forget_stale_code(tmp_path)
    assert [path.exists() for path in code] == [False, False, True]
