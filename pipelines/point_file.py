"""What is known of a point of an experiment: a file that no other experiment goes on with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facecore.errors import DataError
from facecore.provenance import write_text_whole

POINT = "point.json"


def read_point(folder: Path, made: Mapping[str, Any]) -> dict[str, Any]:
    """The point in a folder, {} if there is none; raises DataError if it was made of other things than these."""
    path = folder / POINT
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if record and not made.items() <= record.items():
        raise DataError(f"{folder} holds what other faces, options or pairs gave; choose another OUT")
    return record


def write_point(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the point into its folder, whole or not at all."""
    write_text_whole(folder / POINT, json.dumps(record, indent=2) + "\n")
