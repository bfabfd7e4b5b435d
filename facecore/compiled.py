"""Compiled loops: how functions are compiled, and the first loop of all, halves to rows of unit length."""

from collections.abc import Callable, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

_Function = TypeVar("_Function", bound=Callable[..., Any])

# What lets a sum run in vector lanes. The order is fixed by the compiled code, so one machine always gives one result.
_LANES = {"reassoc", "contract", "nsz"}


def forget_stale_code(package: Path) -> None:
    """Delete machine code that is older than any source beside some, for a loop holds copies of those it calls.

    numba itself compares a loop with its own file alone: after a pull, or an edit, the loops of other files would go on
    with what it was.
    """
    code = [path for ending in ("nbi", "nbc") for path in package.rglob(f"__pycache__/*.{ending}")]
    sources = (path for folder in {path.parent.parent for path in code} for path in folder.glob("*.py"))
    changed = max((path.stat().st_mtime for path in sources), default=0)
    for path in code:
        with suppress(OSError):  # another process deleted it first, or this user may not: then nobody edits the sources
            if path.stat().st_mtime < changed:
                path.unlink()


forget_stale_code(Path(__file__).parent)


def compiled(function: _Function) -> _Function:
    """Compile a loop to machine code once per machine, to run without holding the interpreter."""
    return _machine_code(function, lanes=frozenset())


def compiled_sums(function: _Function) -> _Function:
    """Compile a loop whose float sums may be taken in vector lanes."""
    return _machine_code(function, lanes=_LANES)


def _machine_code(function: _Function, *, lanes: Set[str]) -> _Function:
    try:
        return cast(_Function, numba.njit(cache=True, nogil=True, fastmath=set(lanes))(function))
    except RuntimeError:  # nowhere to keep it, neither beside the package nor at home: compiled in every process
        return cast(_Function, numba.njit(nogil=True, fastmath=set(lanes))(function))


@compiled
def _bits_of(half: np.uint16) -> np.uint32:
    """The bits of a float that is the half's value times 2^-112: sign and digits moved to where a float has them."""
    wide = np.uint32(half)
    return ((wide & np.uint32(0x8000)) << np.uint32(16)) | ((wide & np.uint32(0x7FFF)) << np.uint32(13))


@compiled_sums
def _widen(
    halves: npt.NDArray[np.uint16],
    rows: npt.NDArray[np.float32],
    bits: npt.NDArray[np.uint32],
    tolerance: np.float32,
) -> int:
    rebias = np.float32(2.0**112)  # exact, and it needs no instruction that some processors lack
    n, d = halves.shape
    for row in range(n):
        for k in range(d):
            bits[row, k] = _bits_of(halves[row, k])
        total = np.float32(0)
        for k in range(d):
            value = rows[row, k] * rebias
            rows[row, k] = value
            total += value * value
        length = np.sqrt(total)
        if not abs(length - np.float32(1)) <= tolerance:
            return row
        inverse = np.float32(1) / length
        for k in range(d):
            rows[row, k] *= inverse
    return -1


def widen_rows(halves: npt.NDArray[np.float16], rows: npt.NDArray[np.float32], *, tolerance: float) -> int:
    """Write halves (n, d) as float32 rows of unit length; returns the first row that was not, or -1.

    Halves round the length, too: normalised again, two copies of a face have the cosine 1. An infinite or undefined
    number makes a length far from one. Rows after the one returned are not written.
    """
    return int(_widen(halves.view(np.uint16), rows, rows.view(np.uint32), np.float32(tolerance)))


@compiled_sums
def _mean_of(
    halves: npt.NDArray[np.uint16],
    chosen: npt.NDArray[np.int64],
    means: npt.NDArray[np.float32],
    bits: npt.NDArray[np.uint32],
    row: npt.NDArray[np.float32],
) -> None:
    scale = np.float32(2.0**112 / chosen.shape[1])
    d = halves.shape[1]
    for i in range(len(chosen)):
        means[i] = 0
        for number in chosen[i]:
            for k in range(d):
                bits[k] = _bits_of(halves[number, k])
            for k in range(d):
                means[i, k] += row[k]
        for k in range(d):
            means[i, k] *= scale


def mean_of(halves: npt.NDArray[np.float16], chosen: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    """The mean of the chosen rows of halves (n, d), for each line of `chosen` (m, k), k > 0: (m, d)."""
    means = np.empty((len(chosen), halves.shape[1]), np.float32)
    row = np.empty(halves.shape[1], np.float32)
    _mean_of(halves.view(np.uint16), chosen.astype(np.int64), means, row.view(np.uint32), row)
    return means
