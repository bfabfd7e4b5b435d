"""The embeddings of a protocol's images, in parts; a cache of them lets a killed run go on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from facecore.errors import DataError, OptionError
from facecore.images import Floats, Preprocess, load_batches
from facecore.models import Backbone, embed_pixels
from facecore.npy import load_npy
from facecore.progress import progress
from facecore.provenance import canonical_json, sha256_of, written_whole

PART = 1024  # images: 2 MiB of 512-d vectors; what a killed run loses at most


@dataclass(frozen=True)
class VerifyOptions:
    """How to embed the images of a protocol, and to pool those of a template."""

    preprocess: Preprocess | None = None  # None: what the network's file records, else the field's default
    flip: bool = field(default=True, metadata={"help": "Add the embedding of the mirrored face before normalising."})
    detector_score: bool = field(
        default=False, metadata={"help": "IJB: multiply every face by its detector score before templates are pooled."}
    )
    batch_size: int = field(default=64, metadata={"help": "Faces that the network takes at a time."})
    workers: int = field(default=2, metadata={"help": "Threads that read and decode images."})
    cache: Path | None = field(
        default=None, metadata={"help": "IJB: folder that keeps the embeddings, so that a killed run goes on."}
    )

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.cache is not None and self.cache.exists() and not self.cache.is_dir():
            raise OptionError(f"cache is a folder to make or to go on in, but {self.cache} is a file")


@dataclass(frozen=True)
class Faces:
    """The images of a protocol."""

    path: Path  # of the protocol
    images: Sequence[str]
    read: Callable[[str], bytes]
    fingerprint: str | None = None  # of the images; None: not to be cached


def embedded(backbone: Backbone, faces: Faces, options: VerifyOptions) -> Iterator[tuple[slice, Floats]]:
    """The embeddings of runs of images in their order, as the network gives them, (run, d) float32.

    Raises DataError at the end if images could not be read; past the first of them nothing is embedded any more.
    """
    preprocess = options.preprocess or backbone.preprocess or Preprocess()
    folder = _cache_folder(backbone, faces, options, preprocess)
    rejected: list[tuple[str, str]] = []
    with progress(len(faces.images), "verify", "images") as bar:
        for start in range(0, len(faces.images), PART):
            rows = slice(start, min(start + PART, len(faces.images)))
            vectors = np.empty((rows.stop - rows.start, backbone.dimension), np.float32)
            part = folder / f"{start // PART:05d}.npy" if folder else None
            if part and _read_part(part, vectors):
                bar.update(len(vectors))
            else:
                batches = load_batches(
                    faces.read,
                    faces.images[rows],
                    size=backbone.size,
                    batch_size=options.batch_size,
                    workers=options.workers,
                )
                for batch in batches:
                    rejected += [(faces.images[start + row], reason) for row, reason in batch.rejected]
                    if not rejected:  # past the first bad image only count them, which is quick
                        vectors[batch.rows] = embed_pixels(backbone, batch.pixels, preprocess, flip=options.flip)
                    bar.update(len(batch.rows) + len(batch.rejected))
                if part and not rejected:
                    _write_part(part, vectors)
            if not rejected:
                yield rows, vectors
    if rejected:
        name, reason = rejected[0]
        raise DataError(
            f"{len(rejected):,} of the {len(faces.images):,} images of {faces.path} cannot be read, the first is "
            f"{name}: {reason}; replace them, a protocol cannot do without a pair"
        )


def unit_rows(vectors: Floats, names: Sequence[str]) -> Floats:
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


def _cache_folder(backbone: Backbone, faces: Faces, options: VerifyOptions, preprocess: Preprocess) -> Path | None:
    """Where the parts of just these embeddings are: of the network, its input, mirrored or not, and the images."""
    if options.cache is None or faces.fingerprint is None:
        return None
    key = [backbone.sha256, asdict(preprocess), options.flip, faces.fingerprint, PART]
    folder = options.cache / sha256_of(canonical_json(key))[:16]
    folder.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    return folder


def _read_part(path: Path, vectors: Floats) -> bool:
    """Whether an earlier run has written a part, which is then read; one that is not whole is none."""
    try:
        kept = load_npy(path)
    except (OSError, ValueError, EOFError):
        return False
    if kept.shape != vectors.shape or kept.dtype != vectors.dtype:
        return False
    vectors[:] = kept
    return True


def _write_part(path: Path, vectors: Floats) -> None:
    with written_whole(path, shared=True) as part, part.open("wb") as stream:
        np.save(stream, vectors)
