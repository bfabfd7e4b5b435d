"""Embedding: a data set and a network in, an embedding store out."""

from facecore.embed.job import EmbedOptions, unit_rows
from facecore.embed.run import Summary, embed, embed_dataset

__all__ = ["EmbedOptions", "Summary", "embed", "embed_dataset", "unit_rows"]
