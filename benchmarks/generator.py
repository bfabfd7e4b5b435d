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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from facecore.embeddings import Embeddings, metadata_path, write_meta, write_shard
from facecore.errors import DataError
from facecore.manifest import provenance_of
from facecore.parallel import cores, in_order
from facecore.provenance import Provenance

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

BLOCK = 64  # identities drawn together: their faces, about 2.7 MB, stay in the cache
GROUP = 16  # shards whose identities share families
FAMILIES = 4_096
LARGEST = 1_200
MODES = 3

_SPACE, _FAMILIES, _BLOCK, _PLANTED = range(4)  # streams: nothing is drawn from the same one twice


def generate(
    seed: int, number: int, *, identities: int = 16_384, dimension: int = 512, rows: int | None = None
) -> tuple[npt.NDArray[np.float16], pa.Table]:
    """Shard `number` of a data set: unit rows (n, d), and face_id, identity and source of each, sorted by identity.

    `rows` cuts it short after so many faces, and draws hardly more than those.
    """
    sizes = shard_sizes(seed, number, identities)
    wanted = int(sizes.sum()) if rows is None else rows
    space, families = _space(seed, dimension), _families(seed, number // GROUP, dimension)

    def draw(block: int) -> npt.NDArray[np.float16]:
        random = _random(seed, _BLOCK, number, block)
        own = sizes[block * BLOCK : (block + 1) * BLOCK]
        return _draw_faces(random, space, _centres(random, space, families, len(own)), own, twins=0.2).astype(
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
    space, families = _space(seed, dimension), _families(seed, number // GROUP, dimension)
    drawn = [
        _centres(_random(seed, _BLOCK, number, first // BLOCK), space, families, min(BLOCK, identities - first))
        for first in range(0, identities, BLOCK)
    ]
    return np.concatenate(drawn).astype(np.float16)


def shard_sizes(seed: int, number: int, identities: int) -> Integers:
    """How many faces each identity of a shard has, (identities,): known without drawing the faces."""
    random = _random(seed, _BLOCK, number, (1 << 32) - 1)
    typical = 15.3 * np.exp(0.81 * random.standard_normal(identities))
    unusual = np.where(random.random(identities) < 0.0004, 20, 1)
    return np.clip(typical * unusual, 1, LARGEST).astype(np.int64)


def planted(
    seed: int, faces: int = 100_000, identities: int = 5_000, pairs: int = 15_000, dimension: int = 512
) -> tuple[npt.NDArray[np.float16], pa.Table, Integers]:
    """Distinct faces, and `pairs` of them once more as near-duplicates; the rows of each pair come third, (pairs, 2).

    A near-duplicate has a cosine from 0.955 to 0.995 to its original, and lies anywhere in its identity's rows.
    """
    random = _random(seed, _PLANTED, 0, 0)
    space = _space(seed, dimension)
    distinct = faces - pairs
    weights = np.exp(0.81 * random.standard_normal(identities))
    sizes = 1 + random.multinomial(distinct - identities, weights / weights.sum())
    originals = _draw_faces(
        random, space, _centres(random, space, _families(seed, 0, dimension), identities), sizes, twins=0
    )
    twice = random.permutation(distinct)[:pairs]
    copies = _near(originals[twice], random.uniform(0.9551, 0.9949, pairs), _noise(random, space, pairs))
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
    random, space, sizes = _random(seed, _BLOCK, number, 0), _space(seed, dimension), np.array([size])
    centre = _centres(random, space, _families(seed, number // GROUP, dimension), 1)
    return _draw_faces(random, space, centre, sizes, twins=0.2).astype(np.float16), _describe(number, sizes)


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


def _random(seed: int, stream: int, number: int, block: int) -> np.random.Generator:
    """Draws of their own for every stream, shard and block: the lowest word of the counter counts the draws."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, block, number, stream]))


@dataclass(frozen=True)
class _Space:
    """What all identities of a data set share."""

    scale: Floats  # (d,), standard deviation of each dimension; the squares sum to 1
    demographics: Floats  # (64, d), length 0.25
    weights: npt.NDArray[np.float64]  # (64,), how common each is
    unrecognisable: Floats  # (8, d), unit rows


@lru_cache(maxsize=4)
def _space(seed: int, dimension: int) -> _Space:
    random = _random(seed, _SPACE, dimension, 0)
    variance = random.permutation((np.arange(dimension) + 8.0) ** -0.8)
    scale = np.sqrt(variance / variance.sum()).astype(np.float32)
    directions = _unit(random.standard_normal((64 + 8, dimension), dtype=np.float32) * scale)
    weights = 1 / np.arange(1, 65)
    return _Space(scale, np.float32(0.25) * directions[:64], weights / weights.sum(), directions[64:])


@lru_cache(maxsize=2)
def _families(seed: int, group: int, dimension: int) -> tuple[Integers, Floats]:
    """The demographic number (f,) and the prototype (f, d) of every family in a group of shards."""
    random, space = _random(seed, _FAMILIES, group, 0), _space(seed, dimension)
    demographic = random.choice(64, FAMILIES, p=space.weights)
    return demographic, _unit(_noise(random, space, FAMILIES) + space.demographics[demographic])


def _centres(random: np.random.Generator, space: _Space, families: tuple[Integers, Floats], identities: int) -> Floats:
    """Where each identity lies, unit rows (identities, d)."""
    demographics, prototypes = families
    family = random.integers(FAMILIES, size=identities)
    look_alike = random.random(identities) < 0.04
    share = np.where(look_alike, random.uniform(0.3, 0.75, identities), 0.03)[:, None]
    own = _unit(_noise(random, space, identities) + space.demographics[demographics[family]])
    return _unit((np.sqrt(share) * prototypes[family] + np.sqrt(1 - share) * own).astype(np.float32))


def _draw_faces(
    random: np.random.Generator, space: _Space, centres: Floats, sizes: Integers, *, twins: float
) -> Floats:
    """All faces of some identities, unit rows (n, d), identity after identity; a share of them near-duplicates."""
    n, identities = int(sizes.sum()), len(sizes)
    whose = np.repeat(np.arange(identities), sizes)
    appears = np.where(random.random(n) < 0.01, random.integers(identities, size=n), whose)  # label noise
    quality = (0.95 * random.beta(9, 3.6, n)).astype(np.float32)[:, None]
    modes = _noise(random, space, MODES * identities)[whose * MODES + random.integers(MODES, size=n)]
    faces = _noise(random, space, n)  # in place from here: a fresh array costs more than the arithmetic
    faces *= np.float32(0.87)
    modes *= np.float32(0.5)
    faces += modes
    faces *= np.sqrt(1 - quality**2)
    np.take(centres, appears, axis=0, out=modes, mode="clip")  # any other mode copies first
    modes *= quality
    faces += modes
    lost = np.flatnonzero(random.random(n) < 0.01)
    faces[lost] = np.float32(0.25) * faces[lost] + space.unrecognisable[random.integers(8, size=len(lost))]
    faces = _unit(faces)
    first = (np.cumsum(sizes) - sizes)[whose]
    twin = (random.random(n) < twins) & (np.arange(n) > first)
    rows, source = np.flatnonzero(twin), _sources(random, twin, first)
    faces[rows] = _near(faces[source[rows]], random.uniform(0.85, 0.98, len(rows)), _noise(random, space, len(rows)))
    return faces


def _sources(random: np.random.Generator, twin: npt.NDArray[np.bool_], first: Integers) -> Integers:
    """For each twin an earlier row of its identity, which begins at `first`, that is no twin itself, (n,)."""
    rows = np.arange(len(twin))
    source = np.where(twin, first + (random.random(len(twin)) * (rows - first)).astype(np.int64), rows)
    while twin[source].any():
        source = source[source]
    return source


def _near(rows: Floats, cosines: npt.NDArray[np.float64], noise: Floats) -> Floats:
    """Unit rows (m, d) of exactly these cosines (m,) to the given unit rows, in the direction of the noise."""
    across = noise - np.einsum("nd,nd->n", noise, rows)[:, None] * rows
    cosine = cosines.astype(np.float32)[:, None]
    near: Floats = cosine * rows + np.sqrt(1 - cosine * cosine) * _unit(across)
    return near


def _noise(random: np.random.Generator, space: _Space, n: int) -> Floats:
    """Rows of length about 1 with the spectrum of the space, (n, d)."""
    drawn: Floats = random.standard_normal((n, len(space.scale)), dtype=np.float32)
    drawn *= space.scale
    return drawn


def _unit(rows: Floats) -> Floats:
    """The rows at length 1, in place."""
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows


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
