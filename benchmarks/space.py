"""Where made-up faces lie: the space of a data set, look-alikes, centres, and faces around them; see generator.py."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

FAMILIES = 4_096
MODES = 3

STREAM_SPACE, STREAM_FAMILIES, STREAM_BLOCK, STREAM_PLANTED = range(4)  # nothing is drawn from the same one twice


def stream(seed: int, which: int, number: int, block: int) -> np.random.Generator:
    """Draws of their own for every stream, shard and block: the lowest word of the counter counts the draws."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, block, number, which]))


@dataclass(frozen=True)
class Space:
    """What all identities of a data set share."""

    scale: Floats  # (d,), standard deviation of each dimension; the squares sum to 1
    demographics: Floats  # (64, d), length 0.25
    weights: npt.NDArray[np.float64]  # (64,), how common each is
    unrecognisable: Floats  # (8, d), unit rows


@lru_cache(maxsize=4)
def space_of(seed: int, dimension: int) -> Space:
    """The space of every data set of this seed and dimension."""
    random = stream(seed, STREAM_SPACE, dimension, 0)
    variance = random.permutation((np.arange(dimension) + 8.0) ** -0.8)
    scale = np.sqrt(variance / variance.sum()).astype(np.float32)
    directions = unit(random.standard_normal((64 + 8, dimension), dtype=np.float32) * scale)
    weights = 1 / np.arange(1, 65)
    return Space(scale, np.float32(0.25) * directions[:64], weights / weights.sum(), directions[64:])


@lru_cache(maxsize=2)
def families_of(seed: int, group: int, dimension: int) -> tuple[Integers, Floats]:
    """The demographic number (f,) and the prototype (f, d) of every family in a group of shards."""
    random, space = stream(seed, STREAM_FAMILIES, group, 0), space_of(seed, dimension)
    demographic = random.choice(64, FAMILIES, p=space.weights)
    return demographic, unit(noise_in(random, space, FAMILIES) + space.demographics[demographic])


def centres_in(random: np.random.Generator, space: Space, families: tuple[Integers, Floats], identities: int) -> Floats:
    """Where each identity lies, unit rows (identities, d)."""
    demographics, prototypes = families
    family = random.integers(FAMILIES, size=identities)
    look_alike = random.random(identities) < 0.04
    share = np.where(look_alike, random.uniform(0.3, 0.75, identities), 0.03)[:, None]
    own = unit(noise_in(random, space, identities) + space.demographics[demographics[family]])
    return unit((np.sqrt(share) * prototypes[family] + np.sqrt(1 - share) * own).astype(np.float32))


def draw_faces(random: np.random.Generator, space: Space, centres: Floats, sizes: Integers, *, twins: float) -> Floats:
    """All faces of some identities, unit rows (n, d), identity after identity; a share of them near-duplicates."""
    n, identities = int(sizes.sum()), len(sizes)
    whose = np.repeat(np.arange(identities), sizes)
    appears = np.where(random.random(n) < 0.01, random.integers(identities, size=n), whose)  # label noise
    quality = (0.95 * random.beta(9, 3.6, n)).astype(np.float32)[:, None]
    modes = noise_in(random, space, MODES * identities)[whose * MODES + random.integers(MODES, size=n)]
    faces = noise_in(random, space, n)  # in place from here: a fresh array costs more than the arithmetic
    faces *= np.float32(0.87)
    modes *= np.float32(0.5)
    faces += modes
    faces *= np.sqrt(1 - quality**2)
    np.take(centres, appears, axis=0, out=modes, mode="clip")  # any other mode copies first
    modes *= quality
    faces += modes
    lost = np.flatnonzero(random.random(n) < 0.01)
    faces[lost] = np.float32(0.25) * faces[lost] + space.unrecognisable[random.integers(8, size=len(lost))]
    faces = unit(faces)
    first = (np.cumsum(sizes) - sizes)[whose]
    twin = (random.random(n) < twins) & (np.arange(n) > first)
    rows, source = np.flatnonzero(twin), _sources(random, twin, first)
    faces[rows] = near(faces[source[rows]], random.uniform(0.85, 0.98, len(rows)), noise_in(random, space, len(rows)))
    return faces


def _sources(random: np.random.Generator, twin: npt.NDArray[np.bool_], first: Integers) -> Integers:
    """For each twin an earlier row of its identity, which begins at `first`, that is no twin itself, (n,)."""
    rows = np.arange(len(twin))
    source = np.where(twin, first + (random.random(len(twin)) * (rows - first)).astype(np.int64), rows)
    while twin[source].any():
        source = source[source]
    return source


def near(rows: Floats, cosines: npt.NDArray[np.float64], noise: Floats) -> Floats:
    """Unit rows (m, d) of exactly these cosines (m,) to the given unit rows, in the direction of the noise."""
    across = noise - np.einsum("nd,nd->n", noise, rows)[:, None] * rows
    cosine = cosines.astype(np.float32)[:, None]
    near: Floats = cosine * rows + np.sqrt(1 - cosine * cosine) * unit(across)
    return near


def noise_in(random: np.random.Generator, space: Space, n: int) -> Floats:
    """Rows of length about 1 with the spectrum of the space, (n, d)."""
    drawn: Floats = random.standard_normal((n, len(space.scale)), dtype=np.float32)
    drawn *= space.scale
    return drawn


def unit(rows: Floats) -> Floats:
    """The rows at length 1, in place."""
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows
