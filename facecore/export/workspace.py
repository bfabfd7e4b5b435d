"""The folder that an export is built in, OUT.part beside OUT, and what a run that was stopped goes on from."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.errors import DataError
from facecore.manifest import provenance_of, with_provenance
from facecore.provenance import Provenance, check_folder, write_text_whole, written_whole

STAGE = "export"
MAP, LABELS, REJECTED = OWN = "export.parquet", "labels.csv", "rejected.parquet"  # beside what the format has

RECORD = pa.schema(
    [
        ("face_id", pa.string()),
        ("identity", pa.string()),
        ("source", pa.string()),  # in the data set that was exported
        ("label", pa.int64()),
        ("place", pa.string()),  # in what is written: a source, too; null for a rejected face
        ("sha256", pa.binary(32)),  # of the encoded image
        ("reason", pa.string()),
    ]
)


class Workspace:
    """What is built, in OUT.part/whole, and a record of each batch, written once the batch is.

    Raises DataError if OUT is there, or anything but an export that is to be overwritten, or OUT.part is of another.
    """

    def __init__(self, out: Path, made: Provenance, *, overwrite: bool, root: Path) -> None:
        self.out, self._made, self._overwrite = out, made, overwrite
        self._part = out.parent / f"{out.name}.part"
        self.whole = self._part / "whole"
        self._plan = self._part / "plan.json"
        begun = {path.name for path in self._part.glob("*")} <= {f"{self._plan.name}.part"}
        if self._part.is_file() or not (begun or self._plan.is_file()):
            raise DataError(f"{self._part} is in the way, where {out} would be built; choose another --out")
        if out.exists() and not self.whole.exists():
            self._tidy()  # after a run that was killed when all was done
        _check_room(out, root, overwrite=overwrite)

    def records(self, grows: Sequence[str], read: Callable[[str], bytes]) -> list[pa.Table]:
        """The records of the batches that are done, from the first on; the files that grow are cut back to these.

        `read` gives the image of a source: other images of the same names are another export. Raises what it does.
        """
        found: list[pa.Table] = []
        if self._plan.is_file():
            if self._plan.read_text(encoding="utf-8") != self._made.to_json():
                self._begin_anew("")
            while (path := self._record(len(found))).is_file():
                found.append(pq.read_table(path, schema=RECORD))
            if other := _other_image(found, read):
                self._begin_anew(f" and had another image of {other}")
                found = []
        write_text_whole(self._plan, self._made.to_json())
        self.whole.mkdir(exist_ok=True)
        facts = self._facts(len(found) - 1) if found else {}
        for name in grows:
            with (self.whole / name).open("ab") as stream:
                stream.truncate(facts.get(name, 0))
        return found

    def add(self, number: int, record: pa.Table, grows: Sequence[str]) -> None:
        """Write the record of a batch, which is thereby done."""
        facts = {name: (self.whole / name).stat().st_size for name in grows}
        with written_whole(self._record(number)) as part:
            schema = with_provenance(record.schema, Provenance(STAGE, facts=facts))
            pq.write_table(record.cast(schema), part, compression="zstd")

    def complete(self) -> None:
        """Put what was built in its place."""
        if self.out.exists():  # checked at the beginning: an export, to be overwritten
            os.rename(self.out, self._part / "replaced")  # whole: one that is half removed would be in the way
        os.rename(self.whole, self.out)
        self._tidy()

    def _begin_anew(self, why: str) -> None:
        """Remove what another export left; raises DataError unless it is to be overwritten."""
        if not self._overwrite:
            raise DataError(
                f"{self._part} is of another export to {self.out}, which was stopped{why}; run that again, "
                "or add --overwrite to begin anew"
            )
        self._tidy()

    def _tidy(self) -> None:
        """Remove OUT.part; what says of which export it is goes last."""
        for folder in ("whole", "records", "replaced"):
            shutil.rmtree(self._part / folder, ignore_errors=True)
        shutil.rmtree(self._part, ignore_errors=True)

    def _record(self, number: int) -> Path:
        return self._part / "records" / f"{number:06d}.parquet"

    def _facts(self, number: int) -> Mapping[str, int]:
        made = provenance_of(self._record(number))
        return made.facts if made else {}


def _other_image(records: Sequence[pa.Table], read: Callable[[str], bytes]) -> str | None:
    """The first face of a record whose image is not the one that was written; None if all have theirs."""
    for record in records:
        for face in record.filter(record["place"].is_valid()).slice(0, 1).to_pylist():
            if hashlib.sha256(read(face["source"])).digest() != face["sha256"]:
                return str(face["face_id"])
    return None


def _check_room(out: Path, root: Path, *, overwrite: bool) -> None:
    """Raise DataError if an export cannot be written there."""
    if not out.name or out.name == "..":
        raise DataError(f"{out} is no name for a new folder; choose another --out")
    here, images = out.resolve(), root.resolve()
    if here == images or here in images.parents or images in here.parents:
        raise DataError(f"{out} and the images at {root} lie in each other; choose another --out")
    check_folder(out.parent)
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} is a file; choose another --out, a folder to be made")
    if any(out.iterdir()):
        try:
            made = provenance_of(out / MAP)
        except (OSError, pa.ArrowException):
            made = None
        if made is None or made.stage != STAGE:
            raise DataError(f"{out} holds what is no export; choose another --out")
        if not overwrite:
            raise DataError(f"{out} exists; choose another --out, or add --overwrite to replace it")
