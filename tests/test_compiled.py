"""Compiled loops: where their machine code cannot be kept they run all the same."""

from numba.core import caching

from facecore.compiled import compiled, compiled_sums


def twice(number):
    return 2 * number


def test_machine_code_is_kept_where_it_can_be():
    assert (compiled(twice)(3), compiled_sums(twice)(0.5)) == (6, 1.0)
    assert isinstance(compiled(twice)._cache, caching.FunctionCache)


def test_without_a_place_to_keep_machine_code(monkeypatch):
    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])  # a package and a home of others
    assert (compiled(twice)(3), compiled_sums(twice)(0.5)) == (6, 1.0)
    assert isinstance(compiled(twice)._cache, caching.NullCache)
