"""A progress bar on a terminal, for whatever takes more than a second."""

import sys

from tqdm import tqdm


def progress(total: int, what: str, unit: str) -> "tqdm[None]":
    """A bar over `total` units on standard error: silent unless that is a terminal, and for the first second."""
    return tqdm(total=total, desc=what, unit=" " + unit, delay=1, disable=not sys.stderr.isatty(), leave=False)
