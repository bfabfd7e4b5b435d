"""The formats of protocols, and opening one."""

from collections.abc import Callable
from pathlib import Path

from facecore.errors import DataError
from facecore.verify.insightface import read_bin
from facecore.verify.lfw import read_lfw
from facecore.verify.pairs import PairProtocol
from facecore.verify.table import read_table

# By the suffix of the pairs file; each takes that file and the folder of images, or None where none was given.
PROTOCOLS: dict[str, Callable[[Path, Path | None], PairProtocol]] = {
    ".txt": read_lfw,
    ".csv": read_table,
    ".bin": read_bin,
}


def open_protocol(pairs: Path, images: Path | None = None) -> PairProtocol:
    """Read a pairs file: LFW's pairs.txt or a CSV, whose names are relative to `images`, or an InsightFace .bin.

    Raises DataError if it is missing, of no known format or amiss, OptionError if `images` is missing or not wanted.
    """
    if not pairs.is_file():
        raise DataError(f"no pairs file at {pairs}; check the path")
    if pairs.suffix.lower() not in PROTOCOLS:
        raise DataError(
            f"{pairs} is of no known format; pairs come as .txt (LFW's), .csv (left, right, same, fold) "
            "or .bin (InsightFace's)"
        )
    return PROTOCOLS[pairs.suffix.lower()](pairs, images)
