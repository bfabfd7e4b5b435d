"""The stage: a folder of results in, one page out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError, OptionError
from facecore.provenance import refuse_to_overwrite, write_text_whole
from facecore.report.faces import Album, images_of
from facecore.report.found import Found, find
from facecore.report.of_conflicts import conflicts_section, sources_of
from facecore.report.of_curve import curve_section
from facecore.report.of_model import model_section
from facecore.report.of_store import store_section
from facecore.report.of_subset import subset_section
from facecore.report.page import Section, render

MOST_FACES = 400

Part = Callable[[Path, str, str], Section]  # of a file, its name on the page, and an id


@dataclass(frozen=True)
class ReportOptions:
    """How many faces a page shows."""

    max_faces: int | None = field(
        default=None, metadata={"help": f"Pictures of faces at most; {MOST_FACES} by default, which take about 2 MB."}
    )
    faces: bool = field(default=True, metadata={"help": "Pictures at all; without them names still stay."})

    def __post_init__(self) -> None:
        if self.max_faces is not None and self.max_faces < 0:
            raise OptionError(f"max_faces must be 0 or more, got {self.max_faces}")
        if self.max_faces is not None and not self.faces:
            raise OptionError(
                "max_faces counts pictures, and a page without faces has none; leave out --max-faces or --no-faces"
            )


@dataclass(frozen=True)
class Report:
    """What a page shows, in numbers, and what it does not."""

    parts: dict[str, int]  # how many of each kind
    faces: int
    unreadable: int
    unknown: Mapping[str, int]  # faces whose images are nowhere, by the reason
    left_out: Sequence[tuple[str, str]]  # files that are not shown, and why
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
    bytes a face of the largest subset. What is damaged is left out and named; raises DataError if nothing else is
    there, there are no such images, or `out` exists, and OptionError unless `out` is named as a page.
    """
    options = options or ReportOptions()
    if out.suffix != ".html":
        raise OptionError(f"out is a page, so its name must end in .html, got {out}")
    found = find(folder)
    refuse_to_overwrite(out, overwrite=overwrite, inputs=found.inputs)
    if images is not None and not images.exists():
        raise DataError(f"no images at {images}; --images is the root that the faces' sources are relative to")
    album = Album(MOST_FACES if options.max_faces is None else options.max_faces, shown=options.faces)
    sections = _sections(found, album, images)
    if not sections:
        raise found.nothing()
    page = render(folder.resolve().name, sections, found.left_out, faces=options.faces)
    write_text_whole(out, page)
    kinds = [section.kind for section in sections]
    parts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return Report(parts, album.taken, album.unreadable, album.unknown, found.left_out, len(page.encode()))


def _sections(found: Found, album: Album, images: Path | None) -> list[Section]:
    """All parts in the order of the page; the conflicts take their pictures first, subsets share the rest."""
    sources = sources_of(found.subsets, found.stores, images) if found.conflicts else {}
    roots = [images_of(subset.made.facts, images) if album.shown else "" for subset in found.subsets]
    shown = partial(_shown, found, album)
    conflicts = shown("conflicts", found.conflicts, partial(conflicts_section, sources=sources, album=album))
    pairs = album.left // 2 // max(len(found.subsets), 1)
    places = {subset.path: (subset, where) for subset, where in zip(found.subsets, roots, strict=True)}

    def of_subset(path: Path, name: str, slug: str) -> Section:
        subset, where = places[path]
        return subset_section(subset, name, slug, album=album, pairs=pairs, where=where)

    models, stores = dict(found.models), {store.path: store for store in found.stores}
    return [
        *shown("subset", places, of_subset),
        *shown("curve", found.curves, curve_section),
        *shown("model", models, lambda path, _, slug: model_section(models[path], found.name(path.parent), slug)),
        *conflicts,
        *shown("store", stores, lambda path, name, slug: store_section(stores[path], name, slug)),
    ]


def _shown(found: Found, album: Album, kind: str, paths: Iterable[Path], part: Part) -> list[Section]:
    """The parts about some files, but for those that turn out to be damaged."""
    sections = []
    for number, path in enumerate(paths):
        try:
            with album.forgetting():
                sections.append(part(path, found.name(path), f"{kind}-{number}"))
        except (DataError, pa.ArrowException, OSError, UnicodeDecodeError) as error:
            found.leave_out(path, error)
    return sections
