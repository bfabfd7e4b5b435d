"""The embedding stage: a data set and a network in, an embedding store out; what is there already is not redone."""

import dataclasses
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from facecore.embeddings import Embeddings, metadata_path, vectors_path, write_meta, write_shard
from facecore.errors import DataError, OptionError
from facecore.images import Floats, Preprocess, load_batches
from facecore.manifest import COLUMNS, provenance_of, write_manifest
from facecore.models import Backbone, embed_pixels, load_backbone
from facecore.progress import progress
from facecore.provenance import Provenance, canonical_json, sha256_of
from facecore.readers import Dataset
from facecore.readers.dataset import sha256_of_faces

SHARD_FILE = re.compile(r"(img_emb/img_emb_(\d{5,})\.npy|metadata/metadata_(\d{5,})\.parquet)(\.part)?")
OTHER_FILES = ("meta.json", "meta.json.part", "rejected.parquet", "rejected.parquet.part")


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


@dataclass(frozen=True)
class Summary:
    """What embedding did, in numbers."""

    faces: int  # in the store
    identities: int  # of those faces
    rejected: int
    shards: int
    resumed_shards: int  # those found finished
    seconds: float


def embed(
    dataset: Dataset, model: Path, out: Path, options: EmbedOptions, *, arch: str | None = None, overwrite: bool = False
) -> Summary:
    """Embed every face of a data set by the network in a file, see `embed_dataset`.

    `arch` names the architecture of a checkpoint. Raises ModelError if the file is not a network.
    """
    backbone = load_backbone(model, arch=arch)
    return embed_dataset(dataset, backbone, out, options, model_name=model.name, overwrite=overwrite)


def embed_dataset(
    dataset: Dataset, backbone: Backbone, out: Path, options: EmbedOptions, *, model_name: str, overwrite: bool = False
) -> Summary:
    """Embed every face of a data set into the store `out`, shard by shard; goes on where an earlier run was stopped.

    Raises DataError if `out` holds anything but a store of the same faces and options, finished or not (`overwrite`
    replaces a store, nothing else), or as soon as more than `max_rejected` of the faces could not be embedded.
    """
    began = time.perf_counter()
    job = _Job(dataset, backbone, options)
    _make_room(out, overwrite=overwrite)
    finished = _finished_shards(out, job)
    if len(finished) < len(job):
        (out / "meta.json").unlink(missing_ok=True)  # a store with a shard to write is not complete
    rejected = []
    with progress(len(dataset), "embed", "faces") as bar:
        for number in range(len(job)):
            if number in finished:
                rejected.append(_rejected_faces(job.faces(number), finished[number]))
                bar.update(len(job.faces(number)))
            else:
                rejected.append(_rejected_faces(job.faces(number), _embed_shard(out, job, number, bar)))
                _check_rejected(out, job, pa.concat_tables(rejected))
    _check_rejected(out, job, pa.concat_tables(rejected))
    _complete(out, job, pa.concat_tables(rejected), model_name)
    store = Embeddings.open(out)
    seconds = time.perf_counter() - began
    return Summary(store.rows, store.identities, sum(map(len, rejected)), len(job), len(finished), seconds)


def shard_starts(faces: pa.Table, shard_rows: int) -> npt.NDArray[np.int64]:
    """Cut faces, sorted by identity, into shards of whole identities; shard i has the rows starts[i] to starts[i + 1].

    A shard has at most `shard_rows` rows, unless it holds a single, larger identity.
    """
    identity, n = faces["identity"], len(faces)
    changes = pc.not_equal(identity.slice(1), identity.slice(0, max(n - 1, 0))).to_numpy()
    borders = np.concatenate([[0], np.flatnonzero(changes) + 1, [n]])
    starts = [0]
    while starts[-1] < n:
        last_that_fits = np.searchsorted(borders, starts[-1] + shard_rows, "right") - 1
        next_identity = np.searchsorted(borders, starts[-1], "right")
        starts.append(int(borders[max(last_that_fits, next_identity)]))
    return np.array(starts, np.int64)


def unit_rows(raw: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float64]]:
    """Embeddings (n, d) divided by their lengths, and the lengths (n,); zeros where that length is no use."""
    wide = raw.astype(np.float64)  # in which no square of a float32 overflows or vanishes
    length = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    sound = np.isfinite(length) & (length > 0)
    units = np.zeros(raw.shape, np.float16)
    units[sound] = wide[sound] / length[sound, None]
    return units, length


class _Job:
    """Which faces go into which shard, and how they are embedded."""

    def __init__(self, dataset: Dataset, backbone: Backbone, options: EmbedOptions) -> None:
        self.dataset, self.backbone, self.options = dataset, backbone, options
        self.preprocess = options.preprocess or backbone.preprocess or Preprocess()
        self._starts = shard_starts(dataset.faces, options.shard_rows)

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


def _embed_shard(out: Path, job: _Job, number: int, bar: "tqdm[None]") -> list[tuple[int, str]]:
    """Embed a shard and write it; returns the positions of the rejected faces, and why."""
    faces = job.faces(number)
    units, norms, rejected = job.embed(faces, bar)
    kept = np.ones(len(faces), bool)
    kept[[row for row, _ in rejected]] = False
    facts = {"fingerprint": job.fingerprint(number), "rejected": rejected}
    made = Provenance("embed", job.recipe, {"model": job.backbone.sha256}, facts)
    described = faces.append_column("norm", pa.array(norms)).filter(pa.array(kept)).combine_chunks()
    write_shard(out, number, units[kept], described, made)
    return rejected


def _finished_shards(out: Path, job: _Job) -> dict[int, list[tuple[int, str]]]:
    """The shards that need not be redone, and whom they rejected; raises DataError if one is of another plan."""
    if not _same_plan(out, job):
        raise _made_otherwise(out)
    finished = {}
    for number in sorted({int(match[2] or match[3]) for match in map(SHARD_FILE.fullmatch, _files(out)) if match}):
        if number >= len(job):
            raise _made_otherwise(out)
        try:
            made = provenance_of(metadata_path(out, number))
            vectors = np.load(vectors_path(out, number), mmap_mode="r")
        except (OSError, ValueError, pa.ArrowException):
            continue  # missing or damaged: written anew
        if made is None or made.facts.get("fingerprint") != job.fingerprint(number):
            raise _made_otherwise(out)
        rejected = [(row, reason) for row, reason in made.facts["rejected"]]
        if vectors.shape == (len(job.faces(number)) - len(rejected), job.backbone.dimension):
            finished[number] = rejected
    return finished


def _same_plan(out: Path, job: _Job) -> bool:
    """Whether meta.json, if there is one that can be read, is of the same faces and options."""
    meta = _read_meta(out)
    wanted = {**job.recipe, "dataset": job.dataset.sha256}
    model = meta.get("model", {}).get("sha256")
    return not meta or (wanted.items() <= meta.items() and model == job.backbone.sha256)


def _made_otherwise(out: Path) -> DataError:
    return DataError(
        f"{out} was made from other faces or options; choose another --out, or add --overwrite to replace it"
    )


def _make_room(out: Path, *, overwrite: bool) -> None:
    """Raise DataError if `out` is anything but a store; remove that store's files, and no others, if `overwrite`."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; choose another --out, a folder to be made")
    own = [name for name in _files(out) if name in OTHER_FILES or SHARD_FILE.fullmatch(name)]
    is_store = _read_meta(out) or any(SHARD_FILE.fullmatch(name) for name in own)
    if out.exists() and not is_store and any(path.name not in ("img_emb", "metadata") for path in out.iterdir()):
        raise DataError(f"{out} holds other files and is not an embedding store; choose another --out")
    if overwrite:
        for name in sorted(own, key=lambda name: name not in OTHER_FILES):  # meta.json goes before the shards
            (out / name).unlink()


def _files(out: Path) -> list[str]:
    """What lies where a store has its files, relative to it."""
    folders = (out, out / "img_emb", out / "metadata")
    return [path.relative_to(out).as_posix() for folder in folders for path in folder.glob("*")]


def _read_meta(out: Path) -> dict[str, Any]:
    """meta.json, or nothing if it is missing or not that of a store."""
    try:
        meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) and "shards" in meta else {}


def _rejected_faces(faces: pa.Table, reasons: list[tuple[int, str]]) -> pa.Table:
    rows = faces.select(COLUMNS).take(pa.array([row for row, _ in reasons], pa.int64()))
    return rows.append_column("reason", pa.array([reason for _, reason in reasons], pa.string()))


def _check_rejected(out: Path, job: _Job, rejected: pa.Table) -> None:
    """Raise DataError, once the rejected are written for the user to look at, if they are too many."""
    if len(rejected) > job.options.max_rejected * len(job.dataset):
        _write_rejected(out, job, rejected)
        first = rejected.slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{len(rejected):,} of {len(job.dataset):,} faces rejected so far, more than max_rejected "
            f"{job.options.max_rejected} allows; first {first['face_id']}: {first['reason']}; "
            f"see {out / 'rejected.parquet'}, then run again with a larger --max-rejected, it goes on where it was"
        )


def _write_rejected(out: Path, job: _Job, rejected: pa.Table) -> None:
    made = Provenance("embed", job.recipe, {"model": job.backbone.sha256, "dataset": job.dataset.sha256})
    write_manifest(rejected, out / "rejected.parquet", made)


def _complete(out: Path, job: _Job, rejected: pa.Table, model_name: str) -> None:
    """Write rejected.parquet and then meta.json, which completes the store, unless they are there already."""
    facts = {
        "stage": "embed",
        "model": {"file": model_name, "sha256": job.backbone.sha256},
        **job.recipe,
        "root": job.dataset.root.as_posix(),
        "format": job.dataset.format,
        "dataset": job.dataset.sha256,
        "rejected": len(rejected),
    }
    if (out / "rejected.parquet").exists() and facts.items() <= _read_meta(out).items():
        return
    _write_rejected(out, job, rejected)
    write_meta(out, facts, dimension=job.backbone.dimension, shards=len(job))
