"""Every protocol that a folder holds, one after the other, for one network."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecore.errors import DataError
from facecore.models import Backbone
from facecore.verify.embedding import VerifyOptions
from facecore.verify.ijb import read_ijb
from facecore.verify.metrics import Roc, roc_of
from facecore.verify.pairs import PairProtocol
from facecore.verify.protocols import open_protocol
from facecore.verify.run import (
    TemplateVerification,
    Verification,
    compare,
    judge,
    judge_templates,
    pair_cosines,
    template_vectors,
)
from facecore.verify.table import REQUIRED
from facecore.verify.templates import TemplateProtocol

COLUMNS = ("LFW", "CFP-FP", "AgeDB-30", "CALFW", "CPLFW", "IJB-B", "IJB-C")  # in the order that papers have
NAMES = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in (*COLUMNS, "CFP-FF")}
IMAGES = "images"  # the folder of images beside a list of pairs
NO_PROTOCOL = "not a protocol"
LFW_PAIRS = re.compile(r"(.+_)?pairs(_.+)?\.txt")


@dataclass(frozen=True)
class Found:
    """A protocol in a folder: a file of pairs, or the folder of an IJB protocol."""

    name: str
    path: Path
    images: Path | None = None

    def open(self) -> PairProtocol | TemplateProtocol:
        """Read it, but no image; raises DataError if it is amiss."""
        return read_ijb(self.path) if self.path.is_dir() else open_protocol(self.path, self.images)


@dataclass(frozen=True)
class Contents:
    """What a folder holds."""

    protocols: tuple[Found, ...]  # in the order of COLUMNS, then by path
    skipped: Mapping[str, str]  # why, by path relative to the folder


@dataclass(frozen=True)
class Suite:
    """What a network is worth on each protocol of a folder, by name."""

    protocols: tuple[str, ...]  # all that were found, in the order of COLUMNS
    figures: Mapping[str, Verification | TemplateVerification]
    curves: Mapping[str, Roc]
    failed: Mapping[str, str]  # what is amiss
    skipped: Mapping[str, str]  # why, by path relative to the folder

    def to_json(self) -> dict[str, Any]:
        """The figures of every protocol, and what failed or was skipped and why."""
        figures = {name: found.to_json() for name, found in self.figures.items()}
        return {"protocols": figures, "failed": dict(self.failed), "skipped": dict(self.skipped)}


def run_suite(
    backbone: Backbone, folder: Path, options: VerifyOptions | None = None, *, tell: Callable[[str], None]
) -> Suite:
    """Verify a network on every protocol of a folder; what is found, skipped or amiss is told, a line each.

    A protocol that is amiss does not stop the others. Raises DataError if the folder holds none.
    """
    there = survey(folder)
    for path, reason in there.skipped.items():
        tell(f"skipped {path}: {reason}")
    if not there.protocols:
        raise DataError(
            f"no protocol in {folder}; looked there and one folder down for *.bin, for pairs.txt or *.csv with a "
            f"folder {IMAGES} beside it, and for IJB folders with meta and loose_crop"
        )
    figures: dict[str, Verification | TemplateVerification] = {}
    curves, failed = {}, {}
    for found in there.protocols:
        tell(f"{found.name}: {found.path}")
        try:
            figures[found.name], curves[found.name] = _measured(backbone, found.open(), options)
        except (DataError, OSError) as error:
            failed[found.name] = _line(error)
            tell(f"{found.name} failed: {failed[found.name]}")
    return Suite(tuple(found.name for found in there.protocols), figures, curves, failed, there.skipped)


def _line(error: DataError | OSError) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _measured(
    backbone: Backbone, protocol: PairProtocol | TemplateProtocol, options: VerifyOptions | None
) -> tuple[Verification | TemplateVerification, Roc]:
    if isinstance(protocol, PairProtocol):
        cosines = compare(backbone, protocol, options)
        return judge(cosines, protocol), roc_of(cosines, protocol.same)
    vectors = template_vectors(backbone, protocol, options)
    cosines = pair_cosines(vectors, protocol)
    return judge_templates(cosines, vectors, protocol), roc_of(cosines, protocol.same)


def survey(folder: Path) -> Contents:
    """The protocols in a folder and in the folders in it, and what was skipped; raises DataError if there is no folder.

    A pair list takes its images from the folder `images` beside it. A protocol is named by its file or, for pairs.txt
    and pairs_fp.csv, by its folder: lfw, cfp_fp; the names of papers are recognised in any spelling.
    """
    if not folder.is_dir():
        raise DataError(f"no folder at {folder}; --suite takes a folder of protocols")
    if _is_ijb(folder):
        return Contents((Found(_named(folder.resolve().name), folder),), {})
    found, skipped = _in_folder(folder)
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != IMAGES):
        below, lists = ([Found(_named(place.name), place)], {}) if _is_ijb(place) else _in_folder(place)
        found += below
        # of a folder with protocols only the lists that are none: a folder of faces is one line, not one a face
        lists = {path: reason for path, reason in lists.items() if reason != NO_PROTOCOL}
        skipped |= lists if below or lists else {place: "no protocol in it"}
    found.sort(key=lambda one: _place(one.name))
    return Contents(
        tuple(_distinct(found, folder)),
        {path.relative_to(folder).as_posix(): reason for path, reason in skipped.items()},
    )


def _in_folder(place: Path) -> tuple[list[Found], dict[Path, str]]:
    """The protocols that are files of a folder, and why each other file is none."""
    found: list[Found] = []
    skipped: dict[Path, str] = {}
    images = place / IMAGES
    for path in sorted(path for path in place.iterdir() if path.is_file()):
        is_table = path.suffix.lower() == ".csv"
        if path.suffix.lower() == ".bin":
            found.append(Found(_named(path.stem), path))
        elif not is_table and not LFW_PAIRS.fullmatch(path.name):
            skipped[path] = NO_PROTOCOL
        elif is_table and not _is_pair_list(path):
            skipped[path] = f"has no columns {', '.join(REQUIRED)}"
        elif not images.is_dir():
            skipped[path] = f"no folder {IMAGES} beside it"
        else:
            found.append(Found(_named(_by_folder(path.stem, place.resolve().name)), path, images))
    return found, skipped


def _is_ijb(place: Path) -> bool:
    return (place / "meta").is_dir() or _named(place.resolve().name) in ("IJB-B", "IJB-C")


def _is_pair_list(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        header = lines.readline()
    return {cell.strip() for cell in next(csv.reader([header]), [])} >= set(REQUIRED)


def _by_folder(stem: str, folder: str) -> str:
    """pairs_fp in the folder cfp is cfp_fp; lfw_pairs is lfw wherever it lies."""
    if stem == "pairs" or stem.startswith("pairs_"):
        return folder + stem.removeprefix("pairs")
    return stem.removesuffix("_pairs")


def _named(stem: str) -> str:
    """The name that papers have for a protocol; its own, if none."""
    return NAMES.get(re.sub(r"[^a-z0-9]", "", stem.lower()), stem)


def _place(name: str) -> int:
    return COLUMNS.index(name) if name in COLUMNS else len(COLUMNS)


def _distinct(found: Sequence[Found], folder: Path) -> Iterator[Found]:
    """The same protocols; the second of a name is called by its path as well."""
    names = set()
    for one in found:
        name = one.name if one.name not in names else f"{one.name} ({one.path.relative_to(folder).as_posix()})"
        names.add(name)
        yield Found(name, one.path, one.images)
