"""What there is to report on in a folder, judged by the files themselves."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.report.subset import Subset
from facecore.select import dropped_path

WANTED = (
    "a store (meta.json), a subset beside its .dropped.parquet, a quantized model (report.json), "
    "a curve (curve.parquet) or a table of conflicts"
)
OF_A_MODEL = {"bits", "bytes", "cosine_to_teacher", "decibels", "faces", "faces_used", "inputs", "parameters"}
OF_CONFLICTS = {"kind", "face_id", "identity", "other", "cosine", "own_cosine"}
OF_A_CURVE = {"method", "fraction", "accuracy"}


@dataclass(frozen=True)
class Found:
    """The files of a folder that can be shown, and the others with why they are not."""

    stores: list[Path] = field(default_factory=list)
    subsets: list[Subset] = field(default_factory=list)
    models: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    curves: list[Path] = field(default_factory=list)
    conflicts: list[Path] = field(default_factory=list)
    unshown: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def inputs(self) -> list[Path]:
        """All that is shown."""
        models = [path for path, _ in self.models]
        subsets = [file for subset in self.subsets for file in (subset.path, subset.dropped)]
        return [*self.stores, *subsets, *models, *self.curves, *self.conflicts]


def find(folder: Path) -> Found:
    """Look into a folder and one level down; raises DataError if nothing there can be shown."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give one that holds {WANTED}")
    found = Found()
    for place in _places(folder):
        if (place / "meta.json").is_file() and (place / "img_emb").is_dir():
            found.stores.append(place)
            continue
        if (place / "report.json").is_file():
            _add_model(found, place / "report.json")
        for path in sorted(place.glob("*.parquet")):
            _add_table(found, path)
    if not found.inputs:
        raise DataError(f"nothing to report on in {folder}, nor in its folders: neither {WANTED}")
    return found


def _places(folder: Path) -> Iterator[Path]:
    yield folder
    if not (folder / "meta.json").is_file():  # whatever lies in a store is a part of it
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _add_model(found: Found, path: Path) -> None:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        report = None
    if isinstance(report, dict) and report.keys() >= OF_A_MODEL:
        found.models.append((path, report))
    else:
        found.unshown.append((path, "not the report of a quantized network"))


def _add_table(found: Found, path: Path) -> None:
    """Tell a Parquet file by its name and columns."""
    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        found.unshown.append((path, "not a whole Parquet file"))
        return
    if path.name.endswith(".dropped.parquet"):
        if not path.with_name(path.name.replace(".dropped.parquet", ".parquet")).is_file():
            found.unshown.append((path, "the subset that it was dropped from is not beside it"))
    elif dropped_path(path).is_file():
        found.subsets.append(Subset.open(path))
    elif names >= OF_CONFLICTS:
        found.conflicts.append(path)
    elif path.name == "curve.parquet" and names >= OF_A_CURVE:
        found.curves.append(path)
    else:
        found.unshown.append((path, "no kind of table that a report shows"))
