"""The first look at an input: everything that can be wrong with its names, before anything is written."""

from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facecore.errors import DataError, counted
from facecore.importing.source import Source
from facecore.progress import progress

SAMPLED = 1 << 15  # rows whose identities stand for all when buckets are laid out


@dataclass(frozen=True)
class Grouping:
    """What a look at every row's names found."""

    grouped: bool  # identities come sorted already
    identities: list[str]  # of a sample of rows, sorted


def survey(source: Source) -> Grouping:
    """Read all names of an input; raises DataError if one is missing, or a face_id occurs twice.

    Takes 8 bytes a face, and those only if the input names faces itself.
    """
    picked = np.unique(np.random.default_rng(0).integers(0, max(source.rows, 1), SAMPLED))
    sample: list[str] = []
    grouped, last, row, hashes = True, "", 0, array("q")
    with progress(source.rows, "survey", "faces") as bar:
        for faces in source.faces():
            identity = faces["identity"].combine_chunks()
            grouped = grouped and _rises(last, identity)
            last = identity[-1].as_py()
            begin, end = np.searchsorted(picked, [row, row + len(faces)])
            sample += identity.take(pa.array(picked[begin:end] - row)).to_pylist()
            if source.names.face_id is not None:
                hashes.extend(map(hash, faces["face_id"].to_pylist()))
            row += len(faces)
            bar.update(len(faces))
    if not row:
        raise DataError(f"{source.files[0]} holds no rows; there is nothing to import")
    _refuse_repeated(source, hashes)
    return Grouping(grouped, sorted(sample))


def _rises(last: str, identity: pa.Array) -> bool:
    """Whether identities, after the last one seen, never fall; compared as UTF-8 bytes."""
    falls = pc.any(pc.less(identity.slice(1), identity.slice(0, len(identity) - 1))).as_py()
    return not falls and last.encode() <= identity[0].as_py().encode()


def _refuse_repeated(source: Source, hashes: "array[int]") -> None:
    """Raise DataError if a face_id occurs twice. Equal hashes only say where to look."""
    ordered = np.frombuffer(hashes, np.int64)
    ordered.sort()
    suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    if not suspects:
        return
    counts: Counter[str] = Counter()
    for faces in source.faces():
        counts.update(name for name in faces["face_id"].to_pylist() if hash(name) in suspects)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        first, *others = [path for path in source.files if path.suffix != ".npy"]  # which holds no names
        raise DataError(
            f"{counted(len(repeated), 'face_id')} more than once in {first}{' and those beside it' if others else ''}: "
            f"first {repeated[0]}, {counts[repeated[0]]:,} times; each face needs its own"
        )
