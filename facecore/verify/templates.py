"""Protocols over templates: several images of one person, pooled into one vector."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facecore.errors import DataError
from facecore.images import Floats

Rows = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Search:
    """A gallery of people, and the probes to be looked up in it; rows are of the protocol's templates."""

    name: str  # as the gallery's file has it, such as G1
    gallery: Rows  # (g,)
    gallery_subject: npt.NDArray[np.int64]  # (g,)
    probes: Rows  # (p,)
    probe_subject: npt.NDArray[np.int64]  # (p,); some are not in the gallery


@dataclass(frozen=True)
class TemplateProtocol:
    """Pairs of templates, each of the same person or not, and what the templates are made of."""

    path: Path  # the folder
    images: tuple[str, ...]  # one a line of *_face_tid_mid.txt
    template: Rows  # (images,), rows of `templates`
    media: npt.NDArray[np.int64]  # (images,), a label; frames of one video share it
    detector_score: Floats | None  # (images,)
    templates: npt.NDArray[np.int64]  # (templates,), their ids in ascending order
    left: Rows  # (pairs,), rows of `templates`
    right: Rows  # (pairs,)
    same: npt.NDArray[np.bool_]  # (pairs,)
    searches: tuple[Search, ...]  # none without gallery files
    read: Callable[[str], bytes]  # an aligned crop, encoded; raises OSError or DataError
    fingerprint: str  # sha256 of names, landmarks and sizes of the images

    def __len__(self) -> int:
        return len(self.same)


def image_weights(protocol: TemplateProtocol, *, detector_score: bool) -> npt.NDArray[np.float64]:
    """How much of each image goes into its template, (images,): 1 / (images of its medium in its template).

    The sum over the images of a template is then the sum over its media of the mean over their frames. With
    `detector_score` each image is multiplied by its score before the mean, as InsightFace's eval_ijbc.py does.
    """
    medium = np.unique(protocol.media, return_inverse=True)[1].astype(np.int64)
    together = protocol.template * (medium.max() + 1) + medium
    place, frames = np.unique(together, return_inverse=True, return_counts=True)[1:]
    weights: npt.NDArray[np.float64] = 1 / frames[place]
    if detector_score:
        if protocol.detector_score is None:
            raise DataError(
                f"{protocol.path} has no detector scores (meta/*_name_5pts_score.txt); leave out --detector-score"
            )
        weights = weights * protocol.detector_score
    return weights


def pooled(
    protocol: TemplateProtocol, parts: Iterable[tuple[slice, Floats]], dimension: int, *, detector_score: bool
) -> Floats:
    """Unit rows, (templates, dimension): each the weighted sum of its images' embeddings, normalised.

    `parts` are the embeddings of runs of images, of the length the network gave them: the length says how sure it is
    of a face. Raises DataError if a template's sum has no direction.
    """
    weights = image_weights(protocol, detector_score=detector_score)
    sums = np.zeros((len(protocol.templates), dimension))
    for rows, embeddings in parts:
        np.add.at(sums, protocol.template[rows], weights[rows, np.newaxis] * embeddings)
    length = np.linalg.norm(sums, axis=1)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(bad):
        raise DataError(
            f"template {protocol.templates[bad[0]]} of {protocol.path} has an embedding that is zero or not finite, so "
            "it has no cosine to another; check that the model and its preprocessing belong together"
        )
    sums /= length[:, np.newaxis]
    return sums.astype(np.float32)
