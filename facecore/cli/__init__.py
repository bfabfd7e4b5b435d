"""The command line: each command parses, calls one function, and prints."""

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
from facecore.cli.group import main

__all__ = ["main"]
