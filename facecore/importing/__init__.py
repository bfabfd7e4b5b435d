"""Importing: embeddings that exist already, in, an embedding store out."""

from facecore.importing.options import ImportOptions
from facecore.importing.run import ImportReport, import_vectors

__all__ = ["ImportOptions", "ImportReport", "import_vectors"]
