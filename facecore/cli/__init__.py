"""The command line: each command parses, calls one function, and prints."""

import os

from facecore.cli import (  # noqa: F401 (each registers its commands)
    curves,
    formats,
    networks,
    pages,
    reviews,
    stores,
    subsets,
    synthesis,
    training,
)
from facecore.cli.group import end_well, main

__all__ = ["main", "run"]


def run() -> None:
    """The program."""
    # Before torch is imported: threads that spin while they wait make training 8 times slower on cores that are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    end_well()
    main(prog_name="facecore")
