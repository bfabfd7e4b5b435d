"""The plan of an embedding: which faces go into which shard, and how they become vectors."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm import tqdm

from facecore.embeddings import shard_starts
from facecore.errors import OptionError
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

    def __post_init__(self) -> None:
        for name in ("batch_size", "shard_rows", "workers"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.max_rejected <= 1:
            raise OptionError(
                f"max_rejected is the fraction of the faces that may be rejected, in [0, 1]; got {self.max_rejected}"
            )


class Job:
    """Which faces go into which shard, and how they are embedded."""

    def __init__(self, dataset: Dataset, backbone: Backbone, options: EmbedOptions) -> None:
        self.dataset, self.backbone, self.options = dataset, backbone, options
        self.preprocess = options.preprocess or backbone.preprocess or Preprocess()
        self._starts = shard_starts(dataset.faces["identity"], options.shard_rows)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What an embedding depends on besides its face."""
        return {"preprocess": dataclasses.asdict(self.preprocess), "flip": self.options.flip}

    def faces(self, number: int) -> pa.Table:
        """The faces of a shard, without a norm that rode along from another store."""
        start, end = self._starts[number : number + 2].tolist()
        faces = self.dataset.faces.slice(start, end - start)
        return faces.drop_columns(["norm"]) if "norm" in faces.column_names else faces

    def fingerprint(self, number: int) -> str:
        """Changes with anything that the files of a shard depend on."""
        faces = self.faces(number)
        rode_along = faces.drop_columns(list(COLUMNS))
        # as Python writes the values: Arrow's own bytes may differ between its versions
        others = [
            [field.name, str(field.type), repr(rode_along[field.name].to_pylist())] for field in rode_along.schema
        ]
        return sha256_of(canonical_json([self.backbone.sha256, self.recipe, sha256_of_faces(faces), others]))

    def embed(
        self, faces: pa.Table, bar: "tqdm[None]"
    ) -> tuple[npt.NDArray[np.float16], Floats, list[tuple[int, str]]]:
        """Unit rows (n, d), their lengths before (n,), and the positions of the rejected, whose rows mean nothing."""
        options, size = self.options, self.backbone.size
        units = np.zeros((len(faces), self.backbone.dimension), np.float16)
        norms = np.zeros(len(faces), np.float32)
        rejected: list[tuple[int, str]] = []
        sources = faces["source"].to_pylist()
        read, n, workers = self.dataset.read, options.batch_size, options.workers
        for batch in load_batches(read, sources, size=size, batch_size=n, workers=workers):
            bar.update(len(batch.rows) + len(batch.rejected))
            rejected += batch.rejected
            if len(batch.rows):
                raw = embed_pixels(self.backbone, batch.pixels, self.preprocess, flip=options.flip)
                units[batch.rows], length = unit_rows(raw)
                norms[batch.rows] = length
                for i in np.flatnonzero(~np.isfinite(length) | (length == 0)):
                    reason = "the embedding is not finite" if length[i] else "the embedding has length zero"
                    rejected.append((int(batch.rows[i]), reason))
        return units, norms, sorted(rejected)


def unit_rows(raw: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float64]]:
    """Embeddings (n, d) divided by their lengths, and the lengths (n,); zeros where that length is no use."""
    wide = raw.astype(np.float64)  # in which no square of a float32 overflows or vanishes
    length = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    sound = np.isfinite(length) & (length > 0)
    units = np.zeros(raw.shape, np.float16)
    units[sound] = wide[sound] / length[sound, None]
    return units, length
