"""Embedding: a data set and a network in, an embedding store out."""

from facecore.embed.job import EmbedOptions, Job, unit_rows
from facecore.embed.processes import Assignment
from facecore.embed.resume import make_room
from facecore.embed.run import Share, Summary, embed, embed_dataset, embed_share
from facecore.embed.steps import begin, check_rejected, complete, embed_shard

__all__ = [
    "Assignment",
    "EmbedOptions",
    "Job",
    "Share",
    "Summary",
    "begin",
    "check_rejected",
    "complete",
    "embed",
    "embed_dataset",
    "embed_shard",
    "embed_share",
    "make_room",
    "unit_rows",
]
