"""The stage: a folder of results in, one page out."""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError, OptionError
from facecore.provenance import refuse_to_overwrite, write_text_whole
from facecore.report.faces import Album
from facecore.report.found import Found, find
from facecore.report.of_conflicts import conflicts_section, sources_of
from facecore.report.of_curve import curve_section
from facecore.report.of_model import model_section
from facecore.report.of_store import store_section
from facecore.report.of_subset import subset_section
from facecore.report.page import Section, render


@dataclass(frozen=True)
class ReportOptions:
    """How many faces a page shows."""

    max_faces: int = field(default=400, metadata={"help": "Pictures of faces at most; 400 take about 2 MB."})
    faces: bool = field(default=True, metadata={"help": "Pictures at all; without them names still stay."})

    def __post_init__(self) -> None:
        if self.max_faces < 0:
            raise OptionError(f"max_faces must be 0 or more, got {self.max_faces}")


@dataclass(frozen=True)
class Report:
    """What a page shows, in numbers."""

    parts: dict[str, int]  # how many of each kind
    faces: int
    unreadable: int
    bytes: int


def report(
    folder: Path,
    out: Path,
    options: ReportOptions | None = None,
    *,
    images: Path | None = None,
    overwrite: bool = False,
) -> Report:
    """Write one HTML page, which needs no other file, about whatever facecore left in a folder and one level down.

    `images` is the root of the faces' images, if not the one recorded. Equal files give equal bytes. Holds some 30
    bytes a face of the largest subset. Raises DataError if there is nothing to show, something is damaged, or `out`
    exists.
    """
    options = options or ReportOptions()
    found = find(folder)
    refuse_to_overwrite(out, overwrite=overwrite, inputs=found.inputs)
    if images is not None and not images.exists():
        raise DataError(f"no images at {images}; --images is the root that the faces' sources are relative to")
    album = Album(options.max_faces, shown=options.faces)
    try:
        sections = _sections(folder, found, album, images)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.filename:  # not of Arrow, which names none
            raise
        what = str(error).splitlines()[0]
        raise DataError(f"a Parquet file in {folder} is damaged ({what}); write it again, or move it away") from error
    unshown = [(_name(path, folder), reason) for path, reason in found.unshown]
    page = render(folder.resolve().name, sections, unshown, faces=options.faces)
    write_text_whole(out, page)
    kinds = [section.kind for section in sections]
    parts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return Report(parts, album.taken, album.unreadable, len(page.encode()))


def _sections(folder: Path, found: Found, album: Album, images: Path | None) -> list[Section]:
    """All parts in the order of the page; the conflicts take their pictures first, subsets share the rest."""
    sources = sources_of(found.subsets, found.stores, images) if found.conflicts else {}
    conflicts = [
        conflicts_section(path, _name(path, folder), f"conflicts-{n}", sources=sources, album=album)
        for n, path in enumerate(found.conflicts)
    ]
    pairs = album.left // 2 // max(len(found.subsets), 1)
    subsets = [
        subset_section(subset, _name(subset.path, folder), f"subset-{n}", album=album, pairs=pairs, images=images)
        for n, subset in enumerate(found.subsets)
    ]
    return [
        *subsets,
        *(curve_section(path, _name(path, folder), f"curve-{n}") for n, path in enumerate(found.curves)),
        *(model_section(of, _name(path.parent, folder), f"model-{n}") for n, (path, of) in enumerate(found.models)),
        *conflicts,
        *(store_section(path, _name(path, folder), f"store-{n}") for n, path in enumerate(found.stores)),
    ]


def _name(path: Path, folder: Path) -> str:
    """A path as the page calls it: below the folder, never where that lies on this machine."""
    inside = path.relative_to(folder)
    return inside.as_posix() if inside.parts else folder.resolve().name
