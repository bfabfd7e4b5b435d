"""What every input promises, whatever its form."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from facecore.importing.names import Names
from facecore.importing.units import Raw


@dataclass(frozen=True)
class Batch:
    """Some rows of an input: whose faces they are, and how to read their vectors, from any thread."""

    faces: pa.Table  # face_id, identity, source, and what rides along
    read: Callable[[], Raw]  # (n, d)


class Source(Protocol):
    """An open input, checked as far as headers tell."""

    files: Sequence[Path]  # all that it consists of
    names: Names
    rows: int
    dimension: int

    def faces(self) -> Iterator[pa.Table]:
        """Every row's face_id, identity and source, in order; raises DataError where there is none."""
        ...

    def batches(self) -> Iterator[Batch]:
        """All of it, in order."""
        ...
