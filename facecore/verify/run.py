"""The stage: embed the images of a protocol, compare its pairs, and say how well the network tells people apart."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facecore.errors import DataError
from facecore.images import Floats
from facecore.models import Backbone
from facecore.verify.embedding import Faces, VerifyOptions, embedded, unit_rows
from facecore.verify.identification import Identification, identify, mean_of
from facecore.verify.metrics import Flags, check_pairs, tar_at_far, ten_fold_accuracy
from facecore.verify.pairs import PairProtocol
from facecore.verify.templates import TemplateProtocol, pooled

FARS = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
TEMPLATE_FARS = {**FARS, "1e-5": 1e-5, "1e-6": 1e-6}
PAIRS_AT_ONCE = 1 << 11  # 2 x 4 MiB of 512-d vectors, which a cache holds: 2.5 times as fast as 1 << 16


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
        """What a report keeps: accuracy, standard_error, fold_accuracies, tar and pairs."""
        return {
            "accuracy": self.accuracy,
            "standard_error": self.standard_error,
            "fold_accuracies": list(self.fold_accuracies),
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


@dataclass(frozen=True)
class TemplateVerification:
    """How well a network tells templates of one person from templates of two, and finds them in galleries."""

    tar: dict[str, float]  # by false-accept rate, "1e-1" to "1e-6", as far down as the impostor pairs allow
    pairs: int
    templates: int
    images: int
    searches: dict[str, Identification] = field(default_factory=dict)  # by gallery

    @property
    def identification(self) -> Identification | None:
        """The mean over the galleries; None without one."""
        return mean_of(list(self.searches.values())) if self.searches else None

    def to_json(self) -> dict[str, Any]:
        """tar, counts, and identification: the mean over the galleries, and each."""
        counts = {"pairs": self.pairs, "templates": self.templates, "images": self.images}
        mean = self.identification
        searches = {name: found.to_json() for name, found in self.searches.items()}
        found = {"identification": {"mean": mean.to_json(), **searches}} if mean else {}
        return {"tar": dict(self.tar), **counts, **found}


def verify(backbone: Backbone, protocol: PairProtocol, options: VerifyOptions | None = None) -> Verification:
    """Verify a network on a protocol: accuracy over the folds, and TAR at fixed FAR over all pairs.

    With `flip`, an embedding is the sum of those of the image and its mirror image, the convention of the field.
    Raises DataError if any image cannot be read or embedded: no pair is left out.
    """
    return judge(compare(backbone, protocol, options), protocol)


def compare(backbone: Backbone, protocol: PairProtocol, options: VerifyOptions | None = None) -> Floats:
    """The cosine of every pair of a protocol, (pairs,), which `judge` takes; raises as `verify`."""
    check_pairs(protocol.same, protocol.fold, str(protocol.path))
    vectors = np.empty((len(protocol.images), backbone.dimension), np.float32)
    faces = Faces(protocol.path, protocol.images, protocol.read)
    for rows, made in embedded(backbone, faces, options or VerifyOptions()):
        vectors[rows] = unit_rows(made, protocol.images[rows])
    return pair_cosines(vectors, protocol)


def judge(cosines: Floats, protocol: PairProtocol) -> Verification:
    """The figures of a protocol whose pairs have these cosines, (pairs,)."""
    folds = ten_fold_accuracy(cosines, protocol.same, protocol.fold)
    return Verification(
        accuracy=folds.mean,
        standard_error=folds.standard_error,
        tar=_rates(cosines, protocol.same, FARS),
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


def template_vectors(backbone: Backbone, protocol: TemplateProtocol, options: VerifyOptions | None = None) -> Floats:
    """A unit row a template, (templates, d); raises DataError if any image cannot be read or embedded."""
    options = options or VerifyOptions()
    if np.all(protocol.same) or not np.any(protocol.same):
        raise DataError(
            f"{protocol.path} has {len(protocol):,} pairs, all of one kind; TAR at FAR takes pairs of one person and "
            "pairs of two"
        )
    faces = Faces(protocol.path, protocol.images, protocol.read, protocol.fingerprint)
    parts = embedded(backbone, faces, options)
    return pooled(protocol, parts, backbone.dimension, detector_score=options.detector_score)


def judge_templates(cosines: Floats, vectors: Floats, protocol: TemplateProtocol) -> TemplateVerification:
    """The figures of a protocol from the cosines of its pairs, (pairs,), and the unit rows of its templates.

    TAR is `tar_at_far` over all pairs, one curve and no folds: FAR stays at or below what is asked, and nothing is
    interpolated. InsightFace's eval_ijbc.py takes the point of the curve whose FAR is nearest, above or below: of
    15.6 million impostor pairs at FAR 1e-6 that is the 16th in the place of the 15th.
    """
    return TemplateVerification(
        tar=_rates(cosines, protocol.same, TEMPLATE_FARS),
        pairs=len(protocol),
        templates=len(protocol.templates),
        images=len(protocol.images),
        searches={
            search.name: identify(
                vectors[search.gallery], search.gallery_subject, vectors[search.probes], search.probe_subject
            )
            for search in protocol.searches
        },
    )


def pair_cosines(vectors: Floats, protocol: PairProtocol | TemplateProtocol) -> Floats:
    """The cosine of every pair, (pairs,), from unit rows in the order of the protocol's images or templates."""
    cosines = np.empty(len(protocol), np.float32)
    for start in range(0, len(protocol), PAIRS_AT_ONCE):  # in blocks: millions of pairs share few vectors
        block = slice(start, start + PAIRS_AT_ONCE)
        left, right = vectors[protocol.left[block]], vectors[protocol.right[block]]
        cosines[block] = np.einsum("ij,ij->i", left, right)
    return cosines


def _rates(cosines: Floats, same: Flags, fars: dict[str, float]) -> dict[str, float]:
    rates = {name: tar_at_far(cosines, same, far) for name, far in fars.items()}
    return {name: rate for name, rate in rates.items() if rate is not None}
