"""The plan of an embedding: which faces go into which shard, and how they become vectors."""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from facecore.embed.head import Classifier
from facecore.embeddings import shard_starts
from facecore.errors import OptionError, check_max_rejected
from facecore.images import Floats, Preprocess, load_batches
from facecore.manifest import COLUMNS
from facecore.models import Backbone, embed_pixels
from facecore.provenance import canonical_json, sha256_of
from facecore.readers import Dataset
from facecore.readers.dataset import sha256_of_faces


@dataclass(frozen=True)
class EmbedOptions:
    """How to embed a data set."""

    preprocess: Preprocess | None = None  # None: what the network's file records, else (x - 127.5) / 127.5 in RGB
    flip: bool = field(default=False, metadata={"help": "Add the embedding of the mirrored face before normalising."})
    batch_size: int = field(default=64, metadata={"help": "Faces that the network takes at a time."})
    shard_rows: int = field(default=65536, metadata={"help": "Faces a shard; an identity never spans two shards."})
    workers: int = field(default=2, metadata={"help": "Threads that read and decode images."})
    max_rejected: float = field(default=0.01, metadata={"help": "Stop when more than this fraction is rejected."})
    head: Path | None = field(
        default=None,
        metadata={"help": "Classifier's weights, for a column probability: .npy, .npz, .safetensors, .pt or .pth."},
    )
    head_scale: float = field(default=64.0, metadata={"help": "Multiplies the cosines to the classes of --head."})
    head_margin: float = field(
        default=0.5, metadata={"help": "Radians added to the angle to a face's own class, as ArcFace does in training."}
    )

    def __post_init__(self) -> None:
        for name in ("batch_size", "shard_rows", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_max_rejected(self.max_rejected)
        if not (math.isfinite(self.head_scale) and self.head_scale > 0):
            raise OptionError(f"head_scale multiplies cosines and must be above 0; got {self.head_scale}")
        if not 0 <= self.head_margin <= math.pi:
            raise OptionError(f"head_margin is an angle in radians, from 0 to 3.14; got {self.head_margin}")
        if self.head is None and (self.head_scale, self.head_margin) != (64.0, 0.5):
            raise OptionError("head_scale and head_margin are of a classifier; name it with --head, or leave them out")


class Job:
    """Which faces go into which shard, and how they are embedded."""

    def __init__(self, dataset: Dataset, backbone: Backbone, options: EmbedOptions, *, model_name: str) -> None:
        self.dataset, self.backbone, self.options, self.model_name = dataset, backbone, options, model_name
        self.preprocess = options.preprocess or backbone.preprocess or Preprocess()
        self.head: Classifier | None = None
        if options.head is not None:
            self.head = Classifier(
                options.head,
                dataset.faces["identity"],
                backbone.dimension,
                scale=options.head_scale,
                margin=options.head_margin,
            )
        self._starts = shard_starts(dataset.faces["identity"], options.shard_rows)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What an embedding, and what is measured of it, depends on besides its face."""
        recipe = {"preprocess": dataclasses.asdict(self.preprocess), "flip": self.options.flip}
        return {**recipe, "head": self.head.recipe} if self.head else recipe

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns that embedding adds."""
        return ("norm", "probability") if self.head else ("norm",)

    def faces(self, number: int) -> pa.Table:
        """The faces of a shard, without columns that rode along from another store and will be measured."""
        start, end = self._starts[number : number + 2].tolist()
        faces = self.dataset.faces.slice(start, end - start)
        return faces.drop_columns([name for name in self.measured if name in faces.column_names])

    def fingerprint(self, number: int) -> str:
        """Changes with anything that the files of a shard depend on."""
        faces = self.faces(number)
        rode_along = faces.drop_columns(list(COLUMNS))
        # as Python writes the values: Arrow's own bytes may differ between its versions
        others = [
            [field.name, str(field.type), repr(rode_along[field.name].to_pylist())] for field in rode_along.schema
        ]
        # an identity's class depends on all the others, too
        classes = [self.head.classes(faces["identity"]).tolist()] if self.head else []
        return sha256_of(canonical_json([self.backbone.sha256, self.recipe, sha256_of_faces(faces), others, *classes]))

    def first_image(self, number: int, rejected: Sequence[tuple[int, str]]) -> tuple[str, str] | None:
        """The face_id of the first face of a shard that is not rejected, and the sha256 of its image; None without one.

        Two data sets may list the same names, and this tells them apart wherever they lie. Raises what reading does.
        """
        faces, gone = self.faces(number), {row for row, _ in rejected}
        first = next((row for row in range(len(faces)) if row not in gone), None)
        if first is None:
            return None
        data = self.dataset.read(faces["source"][first].as_py())
        return faces["face_id"][first].as_py(), hashlib.sha256(data).hexdigest()

    def embed(
        self, faces: pa.Table, bar: "tqdm[None] | None" = None
    ) -> tuple[npt.NDArray[np.float16], dict[str, Floats], list[tuple[int, str]]]:
        """Unit rows (n, d), what is measured (n,), and the positions of the rejected, whose rows mean nothing.

        Measured are `norm`, the length before, and with a head `probability`.
        """
        options, size = self.options, self.backbone.size
        units = np.zeros((len(faces), self.backbone.dimension), np.float16)
        measured = {name: np.zeros(len(faces), np.float32) for name in self.measured}
        classes = self.head.classes(faces["identity"]) if self.head else None
        rejected: list[tuple[int, str]] = []
        sources = faces["source"].to_pylist()
        read, n, workers = self.dataset.read, options.batch_size, options.workers
        for batch in load_batches(read, sources, size=size, batch_size=n, workers=workers):
            if bar is not None:
                bar.update(len(batch.rows) + len(batch.rejected))
            rejected += batch.rejected
            if len(batch.rows):
                raw = embed_pixels(self.backbone, batch.pixels, self.preprocess, flip=options.flip)
                units[batch.rows], length = unit_rows(raw)
                measured["norm"][batch.rows] = length
                if self.head and classes is not None:
                    measured["probability"][batch.rows] = self.head.probabilities(raw, classes[batch.rows])
                for i in np.flatnonzero(~np.isfinite(length) | (length == 0)):
                    reason = "the embedding is not finite" if length[i] else "the embedding has length zero"
                    rejected.append((int(batch.rows[i]), reason))
        return units, measured, sorted(rejected)


def unit_rows(raw: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float64]]:
    """Embeddings (n, d) divided by their lengths, and the lengths (n,); zeros where that length is no use."""
    wide = raw.astype(np.float64)  # in which no square of a float32 overflows or vanishes
    length = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    sound = np.isfinite(length) & (length > 0)
    units = np.zeros(raw.shape, np.float16)
    units[sound] = wide[sound] / length[sound, None]
    return units, length
