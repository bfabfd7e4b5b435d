"""The folder that faces are written to, and what was decided of each: what a run goes on from."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.images import Pixels
from facecore.manifest import COLUMNS, write_manifest
from facecore.provenance import Provenance, check_folder, write_text_whole, written_whole
from facecore.synthesis.picture import encode_losslessly
from facecore.synthesis.screen import Kept, Verdict

MANIFEST, DROPPED, RECORDS, MADE_OF = "manifest.parquet", "dropped.parquet", ".records", "made_of.json"
TOGETHER = 1000  # faces in a folder
STAGE = "synthesize"

SCHEMA = pa.schema(
    [
        ("face_id", pa.string()),
        ("identity", pa.string()),
        ("source", pa.string()),
        ("norm", pa.float32()),  # this and what follows: null where nobody judged, or it does not apply
        ("reason", pa.string()),
        ("rival", pa.string()),
        ("cosine", pa.float32()),
        ("embedding", pa.binary()),  # float16, of a face that stays
        ("bytes", pa.int64()),  # of its image; null where it does not stay
    ]
)


def source_of(face: int) -> str:
    """The path of a face in the folder, by its number: faces sort as they were made."""
    return f"{face // TOGETHER:05d}/{face:08d}.png"


class Records:
    """A folder of synthetic faces, with a record of each batch, written once its images are.

    Raises DataError if the folder holds anything but faces made in the same way, or, with `overwrite`, anything but
    synthetic faces.
    """

    def __init__(self, out: Path, made: Provenance, *, overwrite: bool) -> None:
        self.out, self._made = out, made
        check_folder(out)
        begun = out / RECORDS / f"{MADE_OF}.part"  # all there is, where the first file was being written
        if any(path != begun for path in out.rglob("*") if path != begun.parent):
            self._check_ours(overwrite=overwrite)
        else:
            write_text_whole(out / RECORDS / MADE_OF, made.to_json())
        paths = sorted((out / RECORDS).glob("*.parquet"))
        self._batches = [pq.read_table(path, schema=SCHEMA) for path in paths]
        self.made, self.kept = 0, 0  # faces decided of, which is the number of the next one, and those that stay
        self.dropped: Counter[str] = Counter()  # by reason
        for batch in self._batches:
            self._count(batch)

    def _check_ours(self, *, overwrite: bool) -> None:
        path = self.out / RECORDS / MADE_OF
        if not path.is_file():
            raise DataError(f"{self.out} holds what is not synthetic faces; choose another --out")
        before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(self._made.to_json())
        if overwrite:
            for name in (MANIFEST, DROPPED):
                (self.out / name).unlink(missing_ok=True)
            for folder in self.out.glob("[0-9]" * 5):
                shutil.rmtree(folder)
            for record in (self.out / RECORDS).glob("*.parquet*"):
                record.unlink()
            write_text_whole(path, self._made.to_json())  # never missing: it says that all this is ours
        elif before != now:
            raise DataError(
                f"{self.out} holds faces made with another {_difference(before, now)}; choose another --out, "
                "or add --overwrite to replace them"
            )

    def _count(self, rows: pa.Table) -> None:
        self.made += len(rows)
        self.kept += rows["reason"].null_count
        self.dropped.update(reason for reason in rows["reason"].to_pylist() if reason)

    def embeddings(self, dimension: int) -> Kept:
        """Those of the faces that stay."""
        kept = Kept(dimension)
        for face, data in enumerate(data for batch in self._batches for data in batch["embedding"].to_pylist()):
            if data is not None:
                kept.add(face, np.frombuffer(data, np.float16))
        return kept

    def add(self, number: int, pixels: Pixels, verdicts: Sequence[Verdict]) -> None:
        """Write the images that stay of the next faces (n, size, size, 3), all of a batch, then the batch's record."""
        rows = []
        for face, (picture, verdict) in enumerate(zip(pixels, verdicts, strict=True), self.made):
            length = self._write_image(face, picture) if verdict.reason is None else None
            rows.append(_row(face, verdict, length))
        table = pa.Table.from_pylist(rows, SCHEMA)
        if number < len(self._batches):
            self._batches[number] = pa.concat_tables([self._batches[number], table])
        else:
            self._batches.append(table)
        self._count(table)
        self._write_record(number)

    def lost(self) -> dict[int, list[int]]:
        """The rows, by batch, of faces that stay whose image is not there, or not as long as it was."""
        lost = {}
        for number, batch in enumerate(self._batches):
            faces = zip(*(batch[name].to_pylist() for name in ("source", "reason", "bytes")), strict=True)
            rows = [
                row
                for row, (source, reason, length) in enumerate(faces)
                if reason is None and _length(self.out / source) != length
            ]
            if rows:
                lost[number] = rows
        return lost

    def mend(self, number: int, rows: Sequence[int], pixels: Pixels) -> None:
        """Write the images of these rows of a batch again, from those of the whole batch."""
        batch = self._batches[number]
        lengths, first = batch["bytes"].to_pylist(), int(batch["identity"][0].as_py())
        for row in rows:
            lengths[row] = self._write_image(first + row, pixels[row])
        place = SCHEMA.get_field_index("bytes")
        self._batches[number] = batch.set_column(place, SCHEMA.field(place), [pa.array(lengths, pa.int64())])
        self._write_record(number)

    def _write_image(self, face: int, picture: Pixels) -> int:
        """Write an image; returns its length in bytes."""
        with written_whole(self.out / source_of(face)) as part:
            return part.write_bytes(encode_losslessly(picture))

    def _write_record(self, number: int) -> None:
        with written_whole(self.out / RECORDS / f"{number:08d}.parquet") as part:
            pq.write_table(self._batches[number].combine_chunks(), part, compression="zstd")

    def finish(self, facts: Mapping[str, Any], *, judged: bool) -> None:
        """Write the manifest and, if somebody judged, the list of the dropped."""
        every = pa.concat_tables(self._batches)
        stays = pc.is_null(every["reason"])
        facts = {**facts, "root": self.out.as_posix(), "format": "folder", "faces": self.kept}
        made = Provenance(STAGE, self._made.options, self._made.inputs, facts)
        columns = [*COLUMNS, "norm"] if judged else list(COLUMNS)
        write_manifest(every.filter(stays).select(columns), self.out / MANIFEST, made)
        if judged:
            self.write_dropped(made)

    def write_dropped(self, made: Provenance | None = None) -> None:
        """List the faces that went."""
        every = pa.concat_tables(self._batches)
        dropped = every.filter(pc.is_valid(every["reason"])).drop_columns(["embedding", "bytes"])
        write_manifest(dropped, self.out / DROPPED, made or self._made)


def _row(face: int, verdict: Verdict, length: int | None) -> dict[str, Any]:
    source = source_of(face)
    return {
        "face_id": source,
        "identity": f"{face:08d}",  # nobody has two faces
        "source": source,
        "norm": verdict.norm,
        "reason": verdict.reason,
        "rival": None if verdict.rival is None else source_of(verdict.rival),
        "cosine": verdict.cosine,
        "embedding": None if verdict.unit is None else verdict.unit.tobytes(),
        "bytes": length,
    }


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that is not as it was, in words."""
    for part in ("inputs", "options"):
        for name in sorted({*before[part], *now[part]}):
            old, new = before[part].get(name), now[part].get(name)
            if old != new:
                return name if part == "inputs" else f"{name} ({old}, not {new})"
    return "version of facecore"
