"""What there is to report on in a folder, judged by the files themselves."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.embeddings import Embeddings
from facecore.errors import DataError, printable
from facecore.report.quantized import read_quantized
from facecore.report.subset import DROPPED, KEPT_COLUMNS, Subset, without_dropped
from facecore.select import dropped_path

WANTED = (
    "a store (meta.json), a subset beside its .dropped.parquet, a quantized model (report.json), "
    "a curve (curve.parquet) or a table of conflicts"
)
OF_CONFLICTS = {"kind", "face_id", "identity", "other", "cosine", "own_cosine", "faces", "other_faces"}
OF_A_CURVE = ("method", "fraction", "accuracy")
CURVE = "curve.parquet"
NAMED = 3  # files that an error tells of


@dataclass(frozen=True)
class Found:
    """The files of a folder that can be shown, and the others with why they are not."""

    folder: Path
    stores: list[Embeddings] = field(default_factory=list)
    subsets: list[Subset] = field(default_factory=list)
    models: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    curves: list[Path] = field(default_factory=list)
    conflicts: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)  # the name of a file, and why

    @property
    def inputs(self) -> list[Path]:
        """All that is shown."""
        models = [path for path, _ in self.models]
        stores = [store.path for store in self.stores]
        subsets = [file for subset in self.subsets for file in (subset.path, subset.dropped)]
        return [*stores, *subsets, *models, *self.curves, *self.conflicts]

    def name(self, path: Path) -> str:
        """A path as the page calls it: below the folder, never where that lies on this machine."""
        inside = path.relative_to(self.folder)
        return inside.as_posix() if inside.parts else self.folder.resolve().name

    def leave_out(self, path: Path, error: Exception) -> None:
        """Remember that a file is not shown, and why, in words that do not tell where the folder lies."""
        if isinstance(error, DataError):
            told = str(error)
        elif isinstance(error, OSError) and error.filename:  # not of Arrow, which names none
            told = printable(f"{error.filename} cannot be read ({error.strerror}); check its permissions")
        else:
            what = (str(error).splitlines() or [type(error).__name__])[0]
            told = f"damaged ({what}); write it again, or move it away"
        reason = told.removeprefix(f"{printable(str(path))} ").removeprefix("is ")
        below = re.compile(rf"(?<![\w./-]){re.escape(printable(str(self.folder)))}/")
        self.left_out.append((printable(self.name(path)), printable(below.sub("", reason))))

    def nothing(self) -> DataError:
        """That there is nothing to show, with the first files that might have been."""
        if not self.left_out:
            return DataError(f"nothing to report on in {self.folder}, nor in its folders: neither {WANTED}")
        named = " | ".join(f"{name}: {reason}" for name, reason in self.left_out[:NAMED])
        more = len(self.left_out) - NAMED
        return DataError(f"nothing to report on in {self.folder}: {named}{f' | and {more:,} more' * (more > 0)}")


def find(folder: Path) -> Found:
    """Look into a folder and one level down; raises DataError if nothing there can be shown."""
    if folder.is_file():
        raise DataError(f"{folder} is a file; give the folder that it lies in, {folder.parent}")
    if not folder.is_dir():
        raise DataError(f"no folder {folder}; give one that holds {WANTED}")
    found = Found(folder)
    for place in _places(folder):
        for path, add in _candidates(place):
            try:
                add(found, path)
            except (DataError, OSError) as error:
                found.leave_out(path, error)
    if not found.inputs:
        raise found.nothing()
    return found


def _places(folder: Path) -> Iterator[Path]:
    yield folder
    if not (folder / "img_emb").is_dir():  # whatever lies in a store is a part of it
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _candidates(place: Path) -> Iterator[tuple[Path, Callable[[Found, Path], None]]]:
    """What may be shown by its name, and how to look into it."""
    if (place / "img_emb").is_dir():
        yield place, _add_store
        return
    if (place / "meta.json").exists():
        yield place / "meta.json", _add_meta
    if (place / "report.json").exists():
        yield place / "report.json", _add_model
    for path in sorted(place.glob("*.parquet")):
        yield path, _add_table


def _add_store(found: Found, path: Path) -> None:
    found.stores.append(Embeddings.open(path))


def _add_meta(found: Found, path: Path) -> None:
    raise DataError(f"{path} is not of a whole store, no img_emb is beside it; run facecore embed again")


def _add_model(found: Found, path: Path) -> None:
    found.models.append((path, read_quantized(path)))


def _add_table(found: Found, path: Path) -> None:
    """Tell a Parquet file by its name and columns."""
    if path.name.endswith(DROPPED):
        subset = path.with_name(path.name.removesuffix(DROPPED) + ".parquet")
        if not subset.exists():  # otherwise what is to be said is said of that
            raise DataError(f"{path} is without its subset, {subset.name}; run facecore nms again, it writes both")
        return
    if path.is_dir():
        again = ", and run facecore nms again" if dropped_path(path).exists() else ""
        raise DataError(f"{path} is a folder, not a Parquet file; move it away{again}")
    if dropped_path(path).exists():
        found.subsets.append(Subset.open(path))
        return
    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        again = "facecore curve" if path.name == CURVE else "what wrote it"
        raise DataError(f"{path} is not a whole Parquet file; run {again} again") from error
    _add_whole_table(found, path, names)


def _add_whole_table(found: Found, path: Path, names: set[str]) -> None:
    if names >= OF_CONFLICTS:
        found.conflicts.append(path)
    elif path.name == CURVE:
        if missing := [name for name in OF_A_CURVE if name not in names]:
            raise DataError(f"{path} has no column {missing[0]}; run facecore curve again")
        found.curves.append(path)
    elif names >= set(KEPT_COLUMNS):
        raise without_dropped(path)
    else:
        raise DataError(
            f"{path} is no table that a report shows; to show a subset, a curve or conflicts, write it again"
        )
