"""Which form an input has."""

from pathlib import Path

from facecore.errors import DataError, OptionError
from facecore.importing.arrays import Arrays, numbered_pairs
from facecore.importing.options import ImportOptions
from facecore.importing.source import Source
from facecore.importing.tables import Tables

FORMS = "give a .npy file with --labels, Parquet (a file or a folder), or a folder with img_emb/ and metadata/"


def open_source(vectors: Path, labels: Path | None, options: ImportOptions) -> Source:
    """Open a .npy file with labels, a Parquet file or a folder of them, or a folder of clip-retrieval.

    Raises DataError if it is none of them, OptionError if labels are missing or one too many.
    """
    if not vectors.exists():
        raise DataError(f"no vectors at {vectors}; {FORMS}")
    if vectors.suffix == ".npy":
        if labels is None:
            raise OptionError(f"nothing says whose faces are in {vectors}; add --labels FILE")
        return Arrays([(vectors, labels)], options)
    numbered = (vectors / "img_emb").is_dir()
    files = sorted(vectors.glob("*.parquet")) if vectors.is_dir() else [vectors]
    if not numbered and (not files or files[0].suffix != ".parquet"):
        raise DataError(f"{vectors} is none of the forms that are read; {FORMS}")
    if labels is not None:
        raise OptionError(f"labels describe a .npy file, but {vectors} is none; leave --labels out")
    if numbered:
        return Arrays(numbered_pairs(vectors), options)
    return Tables(files, options)
