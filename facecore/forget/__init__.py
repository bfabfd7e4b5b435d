"""Forgetting: people withdrawn from stores and manifests, with a receipt."""

from facecore.forget.receipt import FileEntry, Receipt
from facecore.forget.run import forget, read_names

__all__ = ["FileEntry", "Receipt", "forget", "read_names"]
