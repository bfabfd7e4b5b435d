"""Reading back what was written: the same faces, of the same people, with the same bytes."""

import hashlib
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError
from facecore.export.plan import Plan, Writer
from facecore.parallel import in_order
from facecore.progress import progress
from facecore.readers import Dataset, open_dataset


def prove(plan: Plan, writer: Writer, written: pa.Table) -> None:
    """Raise DataError unless our reader of the format finds what was written, each image with the sha256 it had.

    `written` has the columns place, identity, label and sha256.
    """
    made = _open(plan, writer)
    names = pa.table({"source": written["place"], "identity": written[writer.form.named].cast(pa.string())})
    found = made.faces.select(["source", "identity"])
    if len(found) != len(names):
        raise _differs(plan.part, f"{len(found):,} faces, not {len(names):,}")
    if not _sorted(found).equals(_sorted(names)):
        raise _differs(plan.part, "faces of other names or identities")

    def digest(place: str) -> bytes:
        return hashlib.sha256(made.read(place)).digest()

    places, wanted = written["place"].to_pylist(), written["sha256"].to_pylist()
    with progress(len(places), "check", "faces") as bar:
        digests = in_order(digest, places, threads=plan.options.workers, ahead=64)
        for place, now, before in zip(places, digests, wanted, strict=True):
            if now != before:
                raise _differs(plan.part, f"other bytes at {place}")
            bar.update()


def _open(plan: Plan, writer: Writer) -> Dataset:
    if writer.form.path:
        return open_dataset(plan.part / writer.form.path, format="list", images=plan.dataset.root)
    return open_dataset(plan.part, format=writer.form.format)


def _sorted(names: pa.Table) -> pa.Table:
    # as large_string, for all of them may take more than the 2 GiB that an array of strings may hold
    wide = pa.schema([(name, pa.large_string()) for name in names.column_names])
    return names.cast(wide).combine_chunks().sort_by("source")


def _differs(part: Path, what: str) -> DataError:
    return DataError(f"{part} was read back, and has {what}; the disk may be failing, export again to another")
