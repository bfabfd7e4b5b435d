"""The stage: embed the images of a protocol, compare its pairs, and say how well the network tells people apart."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facecore.errors import DataError, OptionError
from facecore.images import Floats, Preprocess, load_batches
from facecore.models import Backbone, embed_pixels
from facecore.progress import progress
from facecore.verify.metrics import Flags, check_pairs, tar_at_far, ten_fold_accuracy
from facecore.verify.pairs import PairProtocol

FARS = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
PAIRS_AT_ONCE = 1 << 16  # 2 x 128 MiB of 512-d vectors


@dataclass(frozen=True)
class VerifyOptions:
    """How to embed the images of a protocol."""

    preprocess: Preprocess | None = None  # None: what the network's file records, else the field's default
    flip: bool = field(default=True, metadata={"help": "Add the embedding of the mirrored face before normalising."})
    batch_size: int = field(default=64, metadata={"help": "Faces that the network takes at a time."})
    workers: int = field(default=2, metadata={"help": "Threads that read and decode images."})

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Verification:
    """How well a network tells pairs of one person from pairs of two; every figure is a fraction."""

    accuracy: float  # mean over the folds
    standard_error: float
    tar: dict[str, float]  # by false-accept rate, "1e-1" to "1e-4", as far down as the impostor pairs allow
    pairs: int
    folds: int
    fold_accuracies: tuple[float, ...]  # in ascending order of the fold's label
    fold_min_cosines: tuple[float, ...]  # from which cosine on a pair of that fold was called the same

    def to_json(self) -> dict[str, Any]:
        """What a report keeps: accuracy, standard_error, tar and pairs."""
        return {
            "accuracy": self.accuracy,
            "standard_error": self.standard_error,
            "tar": dict(self.tar),
            "pairs": self.pairs,
        }

    def to_text(self) -> str:
        """The figures for a reader, in percent."""
        tar = ", ".join(f"{100 * rate:.2f} % at FAR {far}" for far, rate in self.tar.items())
        return (
            f"accuracy {100 * self.accuracy:.2f} % +- {100 * self.standard_error:.2f} "
            f"({self.pairs:,} pairs, {self.folds} folds)" + (f"\nTAR {tar}" if tar else "")
        )


def verify(backbone: Backbone, protocol: PairProtocol, options: VerifyOptions | None = None) -> Verification:
    """Verify a network on a protocol: accuracy over the folds, and TAR at fixed FAR over all pairs.

    With `flip`, an embedding is the sum of those of the image and its mirror image, the convention of the field.
    Raises DataError if any image cannot be read or embedded: no pair is left out.
    """
    return judge(compare(backbone, protocol, options), protocol)


def compare(backbone: Backbone, protocol: PairProtocol, options: VerifyOptions | None = None) -> Floats:
    """The cosine of every pair of a protocol, (pairs,), which `judge` takes; raises as `verify`."""
    check_pairs(protocol.same, protocol.fold, str(protocol.path))
    return pair_cosines(_embedded(backbone, protocol, options or VerifyOptions()), protocol)


def judge(cosines: Floats, protocol: PairProtocol) -> Verification:
    """The figures of a protocol whose pairs have these cosines, (pairs,)."""
    folds = ten_fold_accuracy(cosines, protocol.same, protocol.fold)
    rates = {name: tar_at_far(cosines, protocol.same, far) for name, far in FARS.items()}
    return Verification(
        accuracy=folds.mean,
        standard_error=folds.standard_error,
        tar={name: rate for name, rate in rates.items() if rate is not None},
        pairs=len(protocol),
        folds=len(folds.accuracies),
        fold_accuracies=tuple(folds.accuracies.tolist()),
        fold_min_cosines=tuple(folds.min_cosines.tolist()),
    )


def correct(cosines: Floats, protocol: PairProtocol, found: Verification) -> Flags:
    """Whether each pair was called what it is, (pairs,), at the cosine of its fold."""
    fold = np.unique(protocol.fold, return_inverse=True)[1]
    right: Flags = (cosines >= np.array(found.fold_min_cosines)[fold]) == protocol.same
    return right


def pair_cosines(vectors: Floats, protocol: PairProtocol) -> Floats:
    """The cosine of every pair, (pairs,), from unit rows in the order of the protocol's images."""
    cosines = np.empty(len(protocol), np.float32)
    for start in range(0, len(protocol), PAIRS_AT_ONCE):  # in blocks: millions of pairs share few images
        block = slice(start, start + PAIRS_AT_ONCE)
        left, right = vectors[protocol.left[block]], vectors[protocol.right[block]]
        cosines[block] = np.einsum("ij,ij->i", left, right)
    return cosines


def _embedded(backbone: Backbone, protocol: PairProtocol, options: VerifyOptions) -> Floats:
    """Unit rows, one an image of the protocol; raises DataError if there is an image without one."""
    names = protocol.images
    vectors = np.empty((len(names), backbone.dimension), np.float32)
    rejected: list[tuple[int, str]] = []
    preprocess = options.preprocess or backbone.preprocess or Preprocess()
    batches = load_batches(
        protocol.read, names, size=backbone.size, batch_size=options.batch_size, workers=options.workers
    )
    with progress(len(names), "verify", "images") as bar:
        for batch in batches:
            rejected += batch.rejected
            if not rejected:  # past the first bad image only count them, which is quick
                made = embed_pixels(backbone, batch.pixels, preprocess, flip=options.flip)
                vectors[batch.rows] = _unit(made, [names[row] for row in batch.rows])
            bar.update(len(batch.rows) + len(batch.rejected))
    if rejected:
        row, reason = rejected[0]
        raise DataError(
            f"{len(rejected):,} of the {len(names):,} images of {protocol.path} cannot be read, the first is "
            f"{names[row]}: {reason}; replace them, a protocol cannot do without a pair"
        )
    return vectors


def _unit(vectors: Floats, names: list[str]) -> Floats:
    """Rows of length one, computed in double precision; raises DataError naming the image that has none."""
    rows = vectors.astype(np.float64)
    length = np.linalg.norm(rows, axis=1)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(bad):
        what = "zero" if length[bad[0]] == 0 else "not finite"
        raise DataError(
            f"the network's embedding of {names[bad[0]]} is {what}, so it has no cosine to another; "
            "check that the model and its preprocessing belong together"
        )
    rows /= length[:, np.newaxis]
    return rows.astype(np.float32)
