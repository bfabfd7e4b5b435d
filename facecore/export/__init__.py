"""Export: a data set or a subset of one, in the form that training code reads."""

from facecore.export.options import ExportOptions
from facecore.export.run import Summary, export
from facecore.export.verification import write_bin
from facecore.export.writers import WRITERS

__all__ = ["WRITERS", "ExportOptions", "Summary", "export", "write_bin"]
