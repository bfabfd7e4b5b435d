"""What a writer of a format is, and the table of them."""

from collections.abc import Callable

from facecore.export.folder import FolderWriter
from facecore.export.listing import ListWriter
from facecore.export.parquet import ParquetWriter
from facecore.export.plan import Plan, Writer
from facecore.export.recordio import RecordIOWriter
from facecore.export.webdataset import WebDatasetWriter

WRITERS: dict[str, Callable[[Plan], Writer]] = {
    "recordio": RecordIOWriter,
    "folder": FolderWriter,
    "list": ListWriter,
    "webdataset": WebDatasetWriter,
    "parquet": ParquetWriter,
}
