"""Realistic embeddings out of nothing: each block of identities is a pure function of (seed, shard, block).

python benchmarks/generator.py OUT --faces 4_000_000 [--seed 0] [--identities 16_384] [--large 10_000 100_000]

No benchmark needs stored data, and 42 M faces need not exist all at once. What is modelled, and how:

    space       variances (k + 8)^-0.8 over permuted dimensions: at 512 an effective dimension of 217, so that two
                strangers have a cosine of 0 +- 0.068; 64 demographic means, Zipf-weighted, pull some together
    identities  sizes log-normal (mean 21, median 15, 99 % below 100) with a few far beyond, up to 1,200;
                4 % look like others: families of a group of 16 shards, cosine 0.3 to 0.75 among siblings
    faces       q own centre + sqrt(1 - q^2) (half one of three modes of the identity, the rest its own), q about 0.68
    trouble     20 % near-duplicates (cosine 0.85 to 0.98 to another face of the identity), 1 % faces of somebody
                else, 1 % pulled to one of 8 directions where what cannot be recognised ends up

The same numpy gives the same bytes on one kind of machine; its normal draws may change between versions.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from space import (
    STREAM_BLOCK,
    STREAM_PLANTED,
    Integers,
    centres_in,
    draw_faces,
    families_of,
    near,
    noise_in,
    space_of,
    stream,
)

from facecore.embeddings import Embeddings, metadata_path, write_meta, write_shard
from facecore.errors import DataError
from facecore.manifest import provenance_of
from facecore.parallel import cores, in_order
from facecore.provenance import Provenance

BLOCK = 64  # identities drawn together: their faces, about 2.7 MB, stay in the cache
GROUP = 16  # shards whose identities share families
LARGEST = 1_200


def generate(
    seed: int, number: int, *, identities: int = 16_384, dimension: int = 512, rows: int | None = None
) -> tuple[npt.NDArray[np.float16], pa.Table]:
    """Shard `number` of a data set: unit rows (n, d), and face_id, identity and source of each, sorted by identity.

    `rows` cuts it short after so many faces, and draws hardly more than those.
    """
    sizes = shard_sizes(seed, number, identities)
    wanted = int(sizes.sum()) if rows is None else rows
    space, families = space_of(seed, dimension), families_of(seed, number // GROUP, dimension)

    def draw(block: int) -> npt.NDArray[np.float16]:
        random = stream(seed, STREAM_BLOCK, number, block)
        own = sizes[block * BLOCK : (block + 1) * BLOCK]
        return draw_faces(random, space, centres_in(random, space, families, len(own)), own, twins=0.2).astype(
            np.float16
        )

    vectors, at = np.empty((wanted, dimension), np.float16), 0
    blocks = range(1 + int(np.searchsorted(np.cumsum(sizes), wanted)) // BLOCK)
    for drawn in in_order(draw, blocks, threads=cores()):
        vectors[at : at + len(drawn)] = drawn[: wanted - at]
        at += len(drawn)
    return vectors, _describe(number, _first(sizes, wanted))


def centres(seed: int, number: int, *, identities: int = 16_384, dimension: int = 512) -> npt.NDArray[np.float16]:
    """Where the identities of shard `number` lie, unit rows (identities, d), without their faces."""
    space, families = space_of(seed, dimension), families_of(seed, number // GROUP, dimension)
    drawn = [
        centres_in(stream(seed, STREAM_BLOCK, number, first // BLOCK), space, families, min(BLOCK, identities - first))
        for first in range(0, identities, BLOCK)
    ]
    return np.concatenate(drawn).astype(np.float16)


def shard_sizes(seed: int, number: int, identities: int) -> Integers:
    """How many faces each identity of a shard has, (identities,): known without drawing the faces."""
    random = stream(seed, STREAM_BLOCK, number, (1 << 32) - 1)
    typical = 15.3 * np.exp(0.81 * random.standard_normal(identities))
    unusual = np.where(random.random(identities) < 0.0004, 20, 1)
    return np.clip(typical * unusual, 1, LARGEST).astype(np.int64)


def planted(
    seed: int, faces: int = 100_000, identities: int = 5_000, pairs: int = 15_000, dimension: int = 512
) -> tuple[npt.NDArray[np.float16], pa.Table, Integers]:
    """Distinct faces, and `pairs` of them once more as near-duplicates; the rows of each pair come third, (pairs, 2).

    A near-duplicate has a cosine from 0.955 to 0.995 to its original, and lies anywhere in its identity's rows.
    """
    random = stream(seed, STREAM_PLANTED, 0, 0)
    space = space_of(seed, dimension)
    distinct = faces - pairs
    weights = np.exp(0.81 * random.standard_normal(identities))
    sizes = 1 + random.multinomial(distinct - identities, weights / weights.sum())
    originals = draw_faces(
        random, space, centres_in(random, space, families_of(seed, 0, dimension), identities), sizes, twins=0
    )
    twice = random.permutation(distinct)[:pairs]
    copies = near(originals[twice], random.uniform(0.9551, 0.9949, pairs), noise_in(random, space, pairs))
    identity = np.repeat(np.arange(identities), sizes)
    identity = np.append(identity, identity[twice])
    order = np.lexsort((random.random(faces), identity))
    row = np.argsort(order)  # where each face went
    vectors = np.concatenate([originals, copies])[order].astype(np.float16)
    return vectors, _describe(0, np.bincount(identity)), np.stack([row[twice], row[distinct:]], 1)


def write_store(
    path: Path, *, faces: int, seed: int = 0, identities: int = 16_384, dimension: int = 512, large: Sequence[int] = ()
) -> Embeddings:
    """A store of exactly `faces` faces, then one identity of each of the sizes in `large`, a shard each.

    Goes on where it was stopped, and a larger number of faces goes on from a smaller one: shards there are left alone.
    """
    counts = _shard_rows(seed, faces, identities)
    new = not _is_whole(path, shards=len(counts) + len(large), rows=faces + sum(large))
    for number, rows in enumerate(counts):
        made = _made(seed=seed, number=number, identities=identities, dimension=dimension, rows=rows)
        if not _is_there(path, number, made):
            vectors, table = generate(seed, number, identities=identities, dimension=dimension, rows=rows)
            write_shard(path, number, vectors, table, made)
            new = True
    for number, size in enumerate(large, len(counts)):
        made = _made(seed=seed, number=number, large=size, dimension=dimension)
        if not _is_there(path, number, made):
            write_shard(path, number, *_large_identity(seed, number, size, dimension), made)
            new = True
    if new:  # it hashes everything
        write_meta(path, {"root": "", "format": "generated"}, dimension=dimension, shards=len(counts) + len(large))
    return Embeddings.open(path)


def _is_whole(path: Path, *, shards: int, rows: int) -> bool:
    try:
        there = Embeddings.open(path)
    except DataError:
        return False
    return len(there) == shards and there.rows == rows


def _large_identity(seed: int, number: int, size: int, dimension: int) -> tuple[npt.NDArray[np.float16], pa.Table]:
    random, space, sizes = stream(seed, STREAM_BLOCK, number, 0), space_of(seed, dimension), np.array([size])
    centre = centres_in(random, space, families_of(seed, number // GROUP, dimension), 1)
    return draw_faces(random, space, centre, sizes, twins=0.2).astype(np.float16), _describe(number, sizes)


def _shard_rows(seed: int, faces: int, identities: int) -> list[int]:
    counts: list[int] = []
    while sum(counts) < faces:
        whole = int(shard_sizes(seed, len(counts), identities).sum())
        counts.append(min(whole, faces - sum(counts)))
    return counts


def _made(**options: Any) -> Provenance:
    return Provenance("benchmark", options)


def _is_there(path: Path, number: int, made: Provenance) -> bool:
    """A shard's metadata is written last."""
    described = metadata_path(path, number)
    there = provenance_of(described) if described.is_file() else None
    return there is not None and there.to_json() == made.to_json()


def _first(sizes: Integers, rows: int) -> Integers:
    """The sizes of the first identities that have `rows` faces together, the last identity cut to fit."""
    before = np.cumsum(sizes) - sizes
    cut: Integers = np.minimum(sizes, rows - before)
    return cut[cut > 0]


def _describe(number: int, sizes: Integers) -> pa.Table:
    """The metadata of a shard; names sort as their numbers do, within a shard and across shards."""
    names = pa.array([f"{number:05d}-{i:05d}" for i in range(len(sizes))])
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    identity = names.take(np.repeat(np.arange(len(sizes)), sizes))
    digits = pc.utf8_lpad(pa.array(place).cast(pa.string()), 6, "0")
    face_id = pc.binary_join_element_wise(identity, digits, "/")
    source = pc.binary_join_element_wise(face_id, "jpg", ".")
    return pa.table({"face_id": face_id, "identity": identity, "source": source})


def main() -> None:
    """Write a store, or go on writing it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--identities", type=int, default=16_384, help="identities a shard")
    parser.add_argument("--large", type=int, nargs="*", default=[], help="sizes of identities to add at the end")
    given = parser.parse_args()
    store = write_store(given.out, faces=given.faces, seed=given.seed, identities=given.identities, large=given.large)
    sys.stdout.write(f"{given.out}: {store.rows:,} faces of {store.identities:,} identities in {len(store)} shards\n")


if __name__ == "__main__":
    main()
