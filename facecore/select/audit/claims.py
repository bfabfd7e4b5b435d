"""What the two files say of every face, read beside the store, shard by shard: both have their rows in its order."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facecore.embeddings import Embeddings
from facecore.errors import DataError
from facecore.grid import STEPS
from facecore.manifest import missing, unreadable
from facecore.parquet import check_expansion
from facecore.select.audit.report import Findings

FATES = ("kept", "near-duplicate", "trimmed", "far-from-centre", "over-maximum", "outranked", "missing", "unknown")
KEPT, NEAR, TRIMMED, FAR, OVER, OUTRANKED, MISSING, UNKNOWN = range(len(FATES))
NOBODY, NO_SUCH_FACE = -1, -2  # rivals that are no row

_WHO = {"face_id": pa.string(), "identity": pa.string(), "source": pa.string()}
_KEPT = {**_WHO, "sparsity": pa.float32(), "suppression_cosine": pa.float32()}
_DROPPED = {**_KEPT, "rival": pa.string(), "cosine": pa.float32(), "reason": pa.string()}

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Steps = npt.NDArray[np.float64]  # cosines in steps of the grid above -1, so levels where they are whole numbers


@dataclass(frozen=True)
class Claims:
    """What is said of n faces; all arrays are (n,), in the order of the store."""

    face_id: pa.Array
    identity: pa.Array
    fate: npt.NDArray[np.int8]  # a position in FATES
    sparsity: Floats
    suppression: Steps
    rival: Rows  # which of the n faces, or NOBODY or NO_SUCH_FACE
    cosine: Steps  # to the rival; NaN where none is stated

    @classmethod
    def none(cls, faces: pa.Table) -> "Claims":
        """Nothing is said of any face."""
        n = len(faces)
        face_id, identity = (faces[name].combine_chunks() for name in ("face_id", "identity"))
        sparsity, rival = np.full(n, np.nan, np.float32), np.full(n, NOBODY, np.int64)
        suppression, cosine = np.full((2, n), np.nan)
        return cls(face_id, identity, np.full(n, MISSING, np.int8), sparsity, suppression, rival, cosine)

    def of(self, rows: Rows) -> "Claims":
        """Some faces, in their order; rivals that are not among them are no such faces."""
        place = np.full(len(self.fate) + 2, NO_SUCH_FACE)  # the last two are for no rows
        place[rows], place[NOBODY] = np.arange(len(rows)), NOBODY
        at = pa.array(rows)
        return Claims(
            self.face_id.take(at),
            self.identity.take(at),
            self.fate[rows],
            self.sparsity[rows],
            self.suppression[rows],
            place[self.rival[rows]],
            self.cosine[rows],
        )

    def name(self, row: int) -> str:
        """The face_id of a row."""
        return str(self.face_id[row].as_py())


class _Stream:
    """The rows of a Parquet file, front to back."""

    def __init__(self, path: Path, columns: dict[str, pa.DataType]) -> None:
        self.path, self._schema = path, pa.schema(columns)
        if path.is_dir():
            raise DataError(f"{path} is a folder; audit a file as facecore nms or select wrote it")
        if not path.is_file():
            raise missing(path)
        try:
            check_expansion(path)
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError):
            raise unreadable(path) from None
        if absent := [name for name in columns if name not in file.schema_arrow.names]:
            raise DataError(f"{path} has no column {absent[0]}; audit a file as facecore nms or select wrote it")
        self._batches = file.iter_batches(columns=list(columns))
        self._waiting = self._schema.empty_table()

    def peek(self, n: int) -> pa.Table:
        """The next n rows, or what is left."""
        while len(self._waiting) < n:
            try:
                if (batch := next(self._batches, None)) is None:
                    break
                more = pa.Table.from_batches([batch]).select(self._schema.names).cast(self._schema)
            except (pa.ArrowException, OSError, KeyError):  # KeyError: a column that is there twice
                raise DataError(f"{self.path} is damaged, or its columns are not what they should be") from None
            self._waiting = pa.concat_tables([self._waiting, more])
        return self._waiting.slice(0, n)

    def skip(self, n: int) -> None:
        """Go on after n rows that were peeked at."""
        self._waiting = self._waiting.slice(n)


class Files:
    """A subset and its dropped faces, read side by side with a store."""

    def __init__(self, subset: Path, dropped: Path) -> None:
        self._kept, self._dropped = _Stream(subset, _KEPT), _Stream(dropped, _DROPPED)

    def claims(self, store: Embeddings, number: int, findings: Findings) -> Claims:
        """What is said of the next shard's faces; who is missing, there twice, misplaced or renamed is a finding."""
        faces = store.faces(number, list(_WHO)).cast(pa.schema(_WHO))
        claims = Claims.none(faces)
        seen = np.zeros(len(faces), np.int64)
        for stream in (self._kept, self._dropped):
            table, rows = _next_rows(stream, claims.face_id, findings)
            seen += np.bincount(rows, minlength=len(seen))
            _compare(table, faces.take(rows), findings)
            _fill(claims, rows, table)
        findings.add("faces", len(faces), np.flatnonzero(seen == 0), lambda row: f"{claims.name(row)} is missing")
        findings.add("faces", 0, np.flatnonzero(seen > 1), lambda row: f"{claims.name(row)} is there twice")
        return claims

    def finish(self, findings: Findings) -> None:
        """What is left in the files after the last shard is not of the store."""
        for stream in (self._kept, self._dropped):
            while len(rest := stream.peek(1 << 16)):
                _strangers(rest["face_id"], stream.path, findings)
                stream.skip(len(rest))


def _next_rows(stream: _Stream, face_id: pa.Array, findings: Findings) -> tuple[pa.Table, Rows]:
    """The rows of a file that are of the given faces, and which: they come next, and before anybody else's."""
    table = stream.peek(len(face_id))
    rows = _positions(table["face_id"], face_id)
    known = np.flatnonzero(rows >= 0)
    end = int(known[-1]) + 1 if len(known) else 0
    stream.skip(end)
    strangers = np.flatnonzero(rows[:end] < 0)
    _strangers(table["face_id"].take(strangers), stream.path, findings)
    back = known[1:][np.diff(rows[known]) < 0]
    findings.add("faces", 0, back, lambda at: f"{table['face_id'][at]} is out of order in {stream.path.name}")
    return table.take(known), rows[known]


def _strangers(face_id: pa.ChunkedArray, path: Path, findings: Findings) -> None:
    findings.add(
        "faces", len(face_id), face_id, lambda name: f"{name} in {path.name} is not of the store, or not in its order"
    )


def _compare(said: pa.Table, there: pa.Table, findings: Findings) -> None:
    for column in ("identity", "source"):
        same = pc.fill_null(pc.equal(said[column], there[column]), False).to_numpy()

        def say(at: int, column: str = column) -> str:
            return f"{there['face_id'][at]} has the {column} {there[column][at]}, not {said[column][at]}"

        findings.add("faces", 0, np.flatnonzero(~same), say)


def _fill(claims: Claims, rows: Rows, table: pa.Table) -> None:
    claims.sparsity[rows] = _floats(table["sparsity"])
    claims.suppression[rows] = _steps(table["suppression_cosine"])
    if "reason" not in table.column_names:
        claims.fate[rows] = KEPT
        return
    code = pc.fill_null(pc.index_in(table["reason"], value_set=pa.array(FATES[:MISSING])), UNKNOWN).to_numpy()
    claims.fate[rows] = np.where(code == KEPT, UNKNOWN, code)
    rival = _positions(table["rival"], claims.face_id)
    nobody = pc.is_null(table["rival"]).to_numpy()
    claims.rival[rows] = np.where(rival >= 0, rival, np.where(nobody, NOBODY, NO_SUCH_FACE))
    claims.cosine[rows] = _steps(table["cosine"])


def _positions(values: pa.ChunkedArray, among: pa.Array) -> Rows:
    at: Rows = pc.fill_null(pc.index_in(values, value_set=among, skip_nulls=True), -1).to_numpy().astype(np.int64)
    return at


def _floats(column: pa.ChunkedArray) -> Floats:
    floats: Floats = pc.fill_null(column, np.nan).to_numpy()
    return floats


def _steps(cosines: pa.ChunkedArray) -> Steps:
    return (_floats(cosines).astype(np.float64) + 1) * STEPS
