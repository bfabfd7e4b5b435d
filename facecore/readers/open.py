"""Opening a data set of any format, and telling the formats apart."""

import glob
import logging
import os
from collections.abc import Callable
from pathlib import Path

from facecore.errors import DataError, OptionError
from facecore.readers.bin import Bin
from facecore.readers.dataset import Dataset, Reader
from facecore.readers.keys import open_folder
from facecore.readers.listing import listed_paths
from facecore.readers.lmdb import Lmdb
from facecore.readers.manifest import check_sources, listed_faces
from facecore.readers.parquet import Parquet, has_images, parquet_files_in
from facecore.readers.recordio import RecordIO
from facecore.readers.webdataset import WebDataset
from facecore.readers.zip import Zip
from facecore.storage import check_reached, located, matching, names_in

READERS: dict[str, Callable[[Path], Reader]] = {
    "folder": open_folder,
    "recordio": RecordIO,
    "bin": Bin,
    "webdataset": WebDataset,
    "parquet": Parquet,
    "zip": Zip,
    "lmdb": Lmdb,
}
NAMED = ("zip", "lmdb")  # besides folders: formats whose images have names, which a list can give
FORMATS = ("auto", "manifest", "list", *READERS)

_BY_SUFFIX = {
    ".rec": "recordio",
    ".bin": "bin",
    ".tar": "webdataset",
    ".zip": "zip",
    ".mdb": "lmdb",
    ".lmdb": "lmdb",
    ".txt": "list",
    ".lst": "list",
}
_SOUGHT = (
    "a folder of images, a RecordIO folder, a .bin, tar shards, Parquet, a .zip, an LMDB, a list (.txt, .lst) "
    "or a manifest (.parquet)"
)

log = logging.getLogger(__name__)


def open_dataset(path: Path, *, format: str = "auto", images: Path | None = None) -> Dataset:
    """Open a data set, or a manifest or list together with the images that it names.

    `auto` tells a file by its suffix, and a .parquet with a column of images from a manifest, which has none; a folder
    that holds .rec, .tar, .mdb or such .parquet files (also in data/) from a folder of images.
    `images` is the root that a manifest's sources, or a list's paths, are relative to; without it, it is what the
    manifest's maker recorded, or the folder of the list.
    Raises OptionError for an unknown format, DataError if there is no such data set there.
    """
    if format not in FORMATS:
        raise OptionError(f"no format {format}; there are {', '.join(FORMATS)}")
    check_reached(path)
    if format == "auto":
        format = _format_of(path)
        log.info("%s: recognised as %s", path, format)
    if format == "manifest":
        return _open_manifest(path, images)
    if format == "list":
        return _open_list(path, images)
    if images is not None:
        raise OptionError(
            f"images is the root of the images of a manifest or list, but {path} is neither; leave it out"
        )
    if not _is_there(path):
        raise DataError(f"no data set at {path}; give {_SOUGHT}")
    reader = READERS[format](path)
    return Dataset(path, format, reader.faces(), reader.read)


def _open_manifest(path: Path, images: Path | None) -> Dataset:
    faces, facts = listed_faces(path)
    if {"rival", "reason"} <= set(faces.column_names):
        log.warning("%s lists the faces that were dropped, not those kept; these are in the manifest beside it", path)
    root = images or (located(facts["root"]) if "root" in facts else None)
    if root is None:
        raise DataError(f"{path} does not say where its images are; add --images ROOT")
    check_reached(root)
    if not _is_there(root):
        raise DataError(f"the images of {path} are not at {root}; add --images ROOT, where they are now")
    format = facts["format"] if images is None and facts.get("format") in READERS else _format_of(root)
    if format not in READERS:
        raise DataError(f"{root} is a {format}, which holds no images itself; give --images the root of the images")
    reader = READERS[format](root)
    check_sources(faces, reader, path, root)
    return Dataset(root, format, faces, reader.read, facts)


def _open_list(path: Path, images: Path | None) -> Dataset:
    if not path.is_file():
        raise DataError(f"no list at {path}; give a file of lines that are an image's path, a space and a label")
    root = images or path.parent
    found = _format_of(root)
    format = found if found in NAMED else "folder"
    reader = READERS[format](root)
    faces = listed_paths(path, root)
    check_sources(faces, reader, path, root)
    return Dataset(root, format, faces, reader.read)


def _is_there(root: Path) -> bool:
    return root.exists() or bool(glob.has_magic(str(root)) and matching(root))


def _format_of(path: Path) -> str:
    """The format of what lies there; raises DataError if it is none."""
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX and not path.is_dir():
        return _BY_SUFFIX[suffix]
    if suffix == ".parquet" and not path.is_dir():
        return "parquet" if has_images(path) else "manifest"
    if not path.is_dir():
        what = "is none that facecore knows by its suffix" if path.exists() else "is not there"
        raise DataError(f"no data set at {path}, which {what}; give {_SOUGHT}")
    suffixes = {os.path.splitext(name)[1].lower() for name in names_in(path)}
    for one in (".rec", ".tar", ".mdb"):
        if one in suffixes:
            return _BY_SUFFIX[one]
    return "parquet" if any(map(has_images, parquet_files_in(path))) else "folder"
