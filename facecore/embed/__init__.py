"""Embedding: a data set and a network in, an embedding store out."""

from facecore.embed.job import EmbedOptions, shard_starts, unit_rows
from facecore.embed.run import Summary, embed, embed_dataset

__all__ = ["EmbedOptions", "Summary", "embed", "embed_dataset", "shard_starts", "unit_rows"]
