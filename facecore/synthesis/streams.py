"""Random numbers: each use of a seed has a stream of its own."""

import numpy as np

# No two uses of a seed share one.
PEOPLE, STRANGERS, SIZES, SHOTS, PLANTED, MISFILED, PAIRS, LONE_PEOPLE, LONE_SHOTS, LATENTS, CLASSES, BEGINNINGS = (
    range(12)
)


def stream(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of a use and, further on in the key, of a thing's own numbers: a function of them alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
