"""Faces one can check by eye, and stores made of them."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa

from facecore.embeddings import Shard, identity_starts, write_meta, write_shard
from facecore.provenance import Provenance


def shard_of(vectors, identities):
    """A shard of the given rows, which must be sorted by identity."""
    column = pa.chunked_array([pa.array([str(person) for person in identities], pa.string())])
    return Shard(np.asarray(vectors, np.float32), identity_starts(column, Path("a shard")))


def names_of(shard):
    """The metadata of a shard: identities are numbered, face_id is identity/row of the store, both with zeros."""
    identity = np.repeat(np.arange(shard.identities) + shard.first_identity, np.diff(shard.starts))
    person = [f"p{number:03d}" for number in identity]
    face_id = [f"{name}/{row + shard.first:04d}" for row, name in enumerate(person)]
    return pa.table({"face_id": face_id, "identity": person, "source": [f"{face}.jpg" for face in face_id]})


def faces_at(*degrees):
    """One identity, faces at these angles on a circle."""
    angle = np.radians(degrees)
    return shard_of(np.stack([np.cos(angle), np.sin(angle)], 1), ["a"] * len(degrees))


def random_faces(seed, sizes, dimension=8, spread=0.6):
    """Identities of these sizes, faces around a centre each, some of them near-duplicates and some exact copies."""
    rng = np.random.default_rng(seed)
    rows, names = [], []
    for number, size in enumerate(sizes):
        faces = rng.normal(size=dimension) + spread * rng.normal(size=(size, dimension)) * dimension**0.5
        for twin in range(1, size, 3):
            faces[twin] = faces[twin - 1] + rng.choice([0.0, 0.05]) * rng.normal(size=dimension)
        rows.append(faces)
        names += [f"p{number:03d}"] * size
    stacked = np.concatenate(rows)
    return shard_of(stacked / np.linalg.norm(stacked, axis=1, keepdims=True), names)


def split(shard, cuts):
    """The same faces as several shards, cut before the identities with these numbers."""
    edges = [0, *cuts, shard.identities]
    for a, b in itertools.pairwise(edges):
        begin, end = int(shard.starts[a]), int(shard.starts[b])
        yield Shard(shard.vectors[begin:end], shard.starts[a : b + 1] - begin, begin, a)


def write_store(path, shards, **columns):
    """A complete embedding store of one shard, or of one that was split; columns ride along, a list for all rows."""
    shards = list(shards)
    for number, shard in enumerate(shards):
        faces = names_of(shard)
        for name, values in columns.items():
            faces = faces.append_column(name, pa.array(values[shard.first : shard.first + len(shard)]))
        write_shard(path, number, shard.vectors.astype(np.float16), faces, Provenance("test"))
    facts = {"root": "images", "format": "folder"}
    write_meta(path, facts, dimension=shards[0].vectors.shape[1], shards=len(shards))
    return path
