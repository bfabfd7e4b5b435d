"""Data sets, a file for each format; a manifest lists faces of a data set in any of them."""

from collections.abc import Callable
from pathlib import Path

from facecore.errors import DataError, OptionError
from facecore.readers.bin import Bin
from facecore.readers.dataset import Dataset, Reader
from facecore.readers.folder import Folder
from facecore.readers.manifest import check_sources, listed_faces
from facecore.readers.recordio import RecordIO

__all__ = ["FORMATS", "READERS", "Dataset", "Reader", "open_dataset"]

READERS: dict[str, Callable[[Path], Reader]] = {
    "folder": Folder,
    "recordio": RecordIO,
    "bin": Bin,
}
FORMATS = ("auto", "manifest", *READERS)


def open_dataset(path: Path, *, format: str = "auto", images: Path | None = None) -> Dataset:
    """Open a data set, or a manifest together with the images it lists.

    `auto` takes what ends in .parquet for a manifest, in .bin for InsightFace's, a folder with .rec files for RecordIO,
    else a folder of images.
    `images` is the root that a manifest's sources are relative to; without it, the one its maker recorded.
    Raises OptionError for an unknown format, DataError if there is no such data set there.
    """
    if format not in FORMATS:
        raise OptionError(f"no format {format}; there are {', '.join(FORMATS)}")
    if format == "manifest" or (format == "auto" and path.suffix == ".parquet"):
        return _open_manifest(path, images)
    if images is not None:
        raise OptionError(f"images is the root of a manifest's images, but {path} is not a manifest; leave it out")
    if not path.exists():
        raise DataError(
            f"no data set at {path}; give a folder of images, a RecordIO folder, a .bin or a manifest (.parquet)"
        )
    format = _format_of(path) if format == "auto" else format
    reader = READERS[format](path)
    return Dataset(path, format, reader.faces(), reader.read)


def _open_manifest(path: Path, images: Path | None) -> Dataset:
    faces, facts = listed_faces(path)
    root = images or (Path(facts["root"]) if "root" in facts else None)
    if root is None:
        raise DataError(f"{path} does not say where its images are; add --images ROOT")
    if not root.exists():
        raise DataError(f"the images of {path} are not at {root}; add --images ROOT, where they are now")
    format = facts["format"] if images is None and facts.get("format") in READERS else _format_of(root)
    reader = READERS[format](root)
    check_sources(faces, reader, path, root)
    return Dataset(root, format, faces, reader.read, facts)


def _format_of(root: Path) -> str:
    by_suffix = {".rec": "recordio", ".bin": "bin"}.get(root.suffix.lower())
    return by_suffix or ("recordio" if any(root.glob("*.rec")) else "folder")
