"""Faces one can check by eye, and stores made of them."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa

from facecore.embeddings import Shard, identity_starts, write_meta, write_shard
from facecore.provenance import Provenance


def shard_of(vectors, identities):
    """A shard of the given rows, which must be sorted by identity; face_id is identity/number."""
    faces = pa.table(
        {
            "face_id": [f"{person}/{row:04d}" for row, person in enumerate(identities)],
            "identity": [str(person) for person in identities],
            "source": [f"{person}/{row:04d}.jpg" for row, person in enumerate(identities)],
        }
    )
    rows = np.asarray(vectors, np.float32)
    return Shard(rows, identity_starts(faces, Path("a shard")), faces)


def faces_at(*degrees, identity="a"):
    """One identity, faces at these angles on a circle."""
    angle = np.radians(degrees)
    return shard_of(np.stack([np.cos(angle), np.sin(angle)], 1), [identity] * len(degrees))


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
        rows = slice(int(shard.starts[a]), int(shard.starts[b]))
        yield Shard(
            shard.vectors[rows],
            shard.starts[a : b + 1] - shard.starts[a],
            shard.faces.slice(rows.start, rows.stop - rows.start),
        )


def write_store(path, shards):
    """A complete embedding store of these shards."""
    shards = list(shards)
    for number, shard in enumerate(shards):
        write_shard(path, number, shard.vectors.astype(np.float16), shard.faces, Provenance("test"))
    write_meta(
        path,
        {"root": "images", "format": "folder"},
        dimension=shards[0].vectors.shape[1],
        shards=len(shards),
    )
    return path
