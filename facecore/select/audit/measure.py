"""What the vectors say: every cosine inside an identity, worked out again, plainly."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facecore.compiled import compiled, compiled_sums
from facecore.embeddings import Vectors
from facecore.grid import STEPS
from facecore.select.audit.claims import FAR, KEPT, OVER, TRIMMED, Claims, Rows, Steps
from facecore.select.audit.record import NESTED, Record

Flags = npt.NDArray[np.bool_]

# A selection sums cosines in float32, so each is off by up to 6e-7; this is 9.5e-7, a 64th of a level.
SLACK = 1 / 64
_BLOCK = 64  # faces that stay in the cache


@dataclass(frozen=True)
class Measured:
    """The n faces of some whole identities; all arrays are (n,), nearness in steps of the grid above -1."""

    order: Rows  # the rows of each identity, best-ranked first: sparsity, then the earlier row; far from centre last
    better: Steps  # nearness to the nearest better-ranked face of its identity; 0 for the best
    kept: Steps  # nearness to the nearest other face kept; -1 where none is
    rival: Steps  # nearness to the rival that is named; meaningless where none is
    mean: Steps  # its mean nearness to all faces of its identity, itself too
    after_trimmed: Flags  # a better-ranked face that stays at t*, but is trimmed, is nearer than that
    above: Rows  # how many better-ranked faces kept are nearer than t*
    stays: Flags  # the rule keeps it at t*
    stayed: Flags  # the rule keeps it one level below
    unsure: Flags  # for a face of its identity, that hangs on the last bits of a cosine, or what is claimed
    unclear: Flags  # not even what is claimed tells

    @classmethod
    def empty(cls, order: Rows) -> "Measured":
        """Arrays to be filled in."""
        n = len(order)
        better, rival, mean = np.zeros((3, n))
        stays, stayed, unsure, unclear, after = np.tile(np.array([[True], [True], [False], [False], [False]]), n)
        above = np.zeros(n, np.int64)
        return cls(order, better, np.full(n, -1.0), rival, mean, after, above, stays, stayed, unsure, unclear)


def measure(vectors: Vectors, starts: Rows, claims: Claims, record: Record) -> Measured:
    """Compare every face with all others of its identity; vectors (n, d), identity i has the rows from starts[i] on."""
    who = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((-claims.sparsity, claims.fate == FAR, who))
    measured = Measured.empty(order)
    _measure(
        vectors, starts, order, claims.fate, claims.rival, record.level + 0.5, record.rule == NESTED,
        measured.better, measured.kept, measured.rival, measured.mean, measured.after_trimmed, measured.above,
        measured.stays, measured.stayed, measured.unsure, measured.unclear,
    )  # fmt: skip
    return measured


@compiled_sums
def _nearness(vectors: Vectors, a: int, b: int) -> float:
    total = 0.0
    for k in range(vectors.shape[1]):
        total += np.float64(vectors[a, k]) * np.float64(vectors[b, k])
    return (total + 1) * STEPS


@compiled
def _measure(
    vectors: Vectors, starts: Rows, order: Rows, fate: npt.NDArray[np.int8], names: Rows, border: float, nested: bool,
    better: Steps, kept: Steps, rival: Steps, mean: Steps, after_trimmed: Flags, above: Rows,
    stays: Flags, stayed: Flags, unsure: Flags, unclear: Flags,
) -> None:  # fmt: skip
    """Fill in the last ten arrays. In rank order, each face i meets all faces j ranked after it, a block at a time.

    At t* face j goes if it is beyond the border to a better-ranked one: any, if nested, or one that stays. When i has
    met all before it, it is settled whether it stays; where the last bits of a cosine decide, it is as claimed.
    """
    is_kept, is_trimmed = fate == KEPT, fate == TRIMMED
    may_stay = is_trimmed | (fate == OVER)
    for run in range(len(starts) - 1):
        begin, end = starts[run], starts[run + 1]
        for first in range(begin, end, _BLOCK):
            last = min(first + _BLOCK, end)
            for place in range(begin, last):
                i = order[place]
                if place >= first:
                    mean[i] += 2 * STEPS
                    stays[i] &= is_kept[i] or may_stay[i] or not unclear[i]
                    unclear[i] &= stays[i] and may_stay[i]
                for j in order[max(first, place + 1) : last]:
                    near = _nearness(vectors, i, j)
                    mean[i] += near
                    mean[j] += near
                    better[j] = max(better[j], near)
                    kept[j] = max(kept[j], near if is_kept[i] else -1.0)
                    kept[i] = max(kept[i], near if is_kept[j] else -1.0)
                    if names[j] == i:
                        rival[j] = near
                    if names[i] == j:
                        rival[i] = near
                    after_trimmed[j] |= is_trimmed[i] and stays[i] and near > border + SLACK
                    above[j] += is_kept[i] and near > border + SLACK
                    stays[j] &= not (near > border + SLACK and (nested or stays[i]))
                    stayed[j] &= not (near > border - 1 and (nested or stayed[i]))
                    unclear[j] |= abs(near - border) <= SLACK and (nested or stays[i])
                    unsure[j] |= abs(near - border) <= SLACK or abs(near - border + 1) <= SLACK
        mean[begin:end] /= end - begin
        unsure[begin:end], unclear[begin:end] = unsure[begin:end].any(), unclear[begin:end].any()


def others_centre(measured: Measured, starts: Rows) -> Steps:
    """How near each face is to the centre of its identity's other faces, in steps; as near as can be for one alone.

    From the mean cosines alone: f . (sum of all) is n times their mean, and f . f = 1.
    """
    sizes = np.diff(starts)
    to_sum = (measured.mean / STEPS - 1) * np.repeat(sizes, sizes)
    square = np.repeat(np.add.reduceat(to_sum, starts[:-1]), sizes) - 2 * to_sum + 1  # length of the sum of the others
    length = np.sqrt(np.maximum(square, 0))
    cosine = np.where(length > 1e-6, (to_sum - 1) / np.maximum(length, 1e-6), 0)
    return np.where(np.repeat(sizes, sizes) > 1, (cosine + 1) * STEPS, 2 * STEPS)
