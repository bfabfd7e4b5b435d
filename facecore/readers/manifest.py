"""A manifest: a Parquet file that lists faces whose images lie in another data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from facecore.errors import DataError
from facecore.manifest import COLUMNS, read_manifest, sort_faces
from facecore.readers.dataset import Reader
from facecore.readers.files import leads_out

CHECKED = 1000  # faces sought when a manifest is opened, evenly spaced: enough to tell another data set
MAX_MISSING = 0.01  # the fraction of them that may be gone: whoever reads those will say so, one by one


def listed_faces(path: Path) -> tuple[pa.Table, Mapping[str, Any]]:
    """The faces of a manifest, sorted, and the facts that its maker recorded (none if facecore did not make it).

    Raises DataError if it is not a manifest or lists nothing.
    """
    faces, made = read_manifest(path)
    if not len(faces):
        raise DataError(f"{path} lists no faces; choose another manifest")
    strings = [field.with_type(pa.string()) if field.name in COLUMNS else field for field in faces.schema]
    return sort_faces(faces.cast(pa.schema(strings))), made.facts if made else {}


def check_sources(faces: pa.Table, reader: Reader, path: Path, root: Path) -> None:
    """Raise DataError if a manifest's faces are not those of a root, judged by at most 1,000 of them."""
    rows = np.unique(np.linspace(0, len(faces) - 1, CHECKED).astype(np.int64))
    sources = [faces["source"][row].as_py() for row in rows.tolist()]  # `take` would join all chunks, over 2 GiB
    # a name that leads elsewhere says nothing of the root: whoever reads it will say so
    missing = [source for source in sources if not (leads_out(source) or reader.exists(source))]
    if len(missing) > MAX_MISSING * len(sources):
        some = "bring them back, take them out of it, or " if len(missing) < len(sources) else ""
        raise DataError(
            f"{path} is not a manifest of {root}: {len(missing):,} of {len(sources):,} faces sought are missing, "
            f"first {missing[0]}; {some}give --images the root it was made from"
        )
