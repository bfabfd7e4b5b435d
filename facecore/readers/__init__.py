"""Data sets, a file for each format; a manifest or a list names faces of a data set in any of them."""

from facecore.readers.dataset import Dataset, Reader
from facecore.readers.open import FORMATS, READERS, open_dataset

__all__ = ["FORMATS", "READERS", "Dataset", "Reader", "open_dataset"]
