"""The export stage: a data set in, the same faces in another format out, proven to be the same."""

import csv
import hashlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from facecore.errors import DataError, OptionError
from facecore.export.options import ExportOptions
from facecore.export.plan import Face, Plan, Writer
from facecore.export.proof import prove
from facecore.export.workspace import LABELS, MAP, RECORD, REJECTED, STAGE, Workspace
from facecore.export.writers import WRITERS
from facecore.images import decode
from facecore.manifest import write_manifest
from facecore.parallel import in_order
from facecore.progress import progress
from facecore.provenance import Provenance, write_text_whole
from facecore.readers import Dataset

SIDE = 112  # pixels; images of another size are exported, too, as they are


@dataclass(frozen=True)
class Summary:
    """What an export did, in numbers."""

    faces: int  # written
    identities: int  # labels, whether a face of theirs could be read or not
    empty: int  # of them, those without a face
    rejected: int
    resumed: int  # faces that an earlier run had written
    seconds: float


def export(dataset: Dataset, to: str, out: Path, options: ExportOptions, *, overwrite: bool = False) -> Summary:
    """Write the faces of a data set in the format `to`, a name in WRITERS, as the folder `out`; goes on if stopped.

    Encoded images are copied, never encoded again; each is decoded once to see that it can be, and read back once. The
    labels number the sorted identities from 0. out/labels.csv says which is which, out/export.parquet is a manifest
    that says where each face_id went, out/rejected.parquet which could not be read.
    Raises DataError if `out` holds anything else, names do not fit the format, or more than `max_rejected` of the faces
    cannot be read; OptionError for an option that the format has no use for.
    """
    began = time.perf_counter()
    if to not in WRITERS:
        raise OptionError(f"no format {to} to export to; there are {', '.join(WRITERS)}, and bin with --pairs")
    options.check_fits(to)
    recipe = {"to": to, "shuffle": options.shuffle, "shard_faces": options.shard_faces, "link": options.link}
    made = Provenance(STAGE, recipe, {"dataset": dataset.sha256})
    space = Workspace(out, made, overwrite=overwrite, root=dataset.root)
    plan = Plan(dataset, space.whole, options)
    writer = WRITERS[to](plan)
    records = space.records(writer.form.grows, dataset.read)
    resumed = sum(map(_count, records))
    _write(space, plan, writer, records)
    every = pa.concat_tables(records)
    written = every.filter(pc.is_valid(every["place"]))
    if not len(written):
        raise DataError(f"none of the {len(every):,} faces can be read, first {_first(every)}; mend them")
    writer.finish(written)
    prove(plan, writer, written)
    _describe(out, plan, writer, every, made)
    space.complete()
    empty = len(plan.names) - pc.count_distinct(written["label"]).as_py()
    rejected = len(every) - len(written)
    return Summary(len(written), len(plan.names), empty, rejected, resumed, time.perf_counter() - began)


def _write(space: Workspace, plan: Plan, writer: Writer, records: list[pa.Table]) -> None:
    """Write the batches that are missing, and add their records."""
    written, done = sum(map(_count, records)), len(records)
    with progress(len(plan.order), "export", "faces") as bar:
        for number, faces in enumerate(plan.batches()):
            if number >= done:
                records.append(_write_batch(plan, writer, number, written, faces))
                space.add(number, records[-1], writer.form.grows)
                written += _count(records[-1])
                _check_rejected(space, plan, records)
            bar.update(len(faces))
    _check_rejected(space, plan, records)


def _write_batch(plan: Plan, writer: Writer, number: int, written: int, faces: pa.Table) -> pa.Table:
    """Read a batch, write what can be read, and return its record."""
    rows: list[dict[str, Any]] = []
    good: list[Face] = []
    for row, face in zip(faces.to_pylist(), _read(plan, faces), strict=True):
        reason = writer.refuses(face) if isinstance(face, Face) else face
        if isinstance(face, Face) and reason is None:
            good.append(face)
            row["sha256"] = hashlib.sha256(face.data).digest()
        rows.append({**row, "reason": reason})
    places = iter(writer.write(number, written, good))
    for row in rows:
        row["place"] = next(places) if row["reason"] is None else None
    return pa.Table.from_pylist(rows, RECORD)


def _read(plan: Plan, faces: pa.Table) -> Iterator[Face | str]:
    """Every face of a batch with its image, or why it has none that can be decoded."""

    def face(row: dict[str, Any]) -> Face | str:
        try:
            data = plan.dataset.read(row["source"])
            decode(data, SIDE)
        except FileNotFoundError:
            return "no such file"
        except OSError as error:
            return error.strerror or type(error).__name__
        except DataError as error:
            return str(error)
        return Face(row["face_id"], row["identity"], row["label"], row["source"], data)

    workers = plan.options.workers
    return in_order(face, faces.to_pylist(), threads=workers, ahead=16 * workers)


def _count(record: pa.Table) -> int:
    """The faces of a record that were written."""
    return int(len(record) - record["place"].null_count)


def _check_rejected(space: Workspace, plan: Plan, records: list[pa.Table]) -> None:
    """Raise DataError, once the rejected are written for the user to look at, if they are too many."""
    rejected = sum(record["place"].null_count for record in records)
    if rejected > plan.options.max_rejected * len(plan.order):
        every = pa.concat_tables(records)
        path = space.whole / REJECTED
        _write_rejected(every, path, Provenance(STAGE))
        raise DataError(
            f"{rejected:,} of {len(plan.order):,} faces rejected so far, more than --max-rejected "
            f"{plan.options.max_rejected} allows; first {_first(every)}; "
            f"see {path}, then run again with a larger --max-rejected, it goes on where it was"
        )


def _first(every: pa.Table) -> str:
    """The first rejected face, and why."""
    row = every.filter(pc.is_null(every["place"])).slice(0, 1).to_pylist()[0]
    return f"{row['face_id']}: {row['reason']}"


def _write_rejected(every: pa.Table, path: Path, made: Provenance) -> None:
    rejected = every.filter(pc.is_null(every["place"])).select(["face_id", "identity", "source", "reason"])
    write_manifest(rejected, path, made)


def _describe(out: Path, plan: Plan, writer: Writer, every: pa.Table, made: Provenance) -> None:
    """Write what every format has beside it: the labels, where each face went, and the rejected."""
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")  # else a \r would end a line
    table.writerows([("identity", "label"), *((name, label) for label, name in enumerate(plan.names))])
    write_text_whole(plan.part / LABELS, text.getvalue())
    written = every.filter(pc.is_valid(every["place"]))
    root = plan.dataset.root if writer.form.path else out
    facts = {
        "root": root.as_posix(),
        "format": writer.form.format,
        "faces": len(written),
        "identities": len(plan.names),
    }
    described = Provenance(STAGE, made.options, made.inputs, facts)
    columns = {
        name: written[of] for name, of in (("face_id", "face_id"), ("identity", "identity"), ("source", "place"))
    }
    write_manifest(
        pa.table({**columns, "label": written["label"], "sha256": written["sha256"]}), plan.part / MAP, described
    )
    (plan.part / REJECTED).unlink(missing_ok=True)  # of a run that found too many
    if len(written) < len(every):
        _write_rejected(every, plan.part / REJECTED, described)
