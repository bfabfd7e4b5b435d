"""Who is to be forgotten, found among the rows of all files."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NAMING = ("face_id", "identity", "rival")  # columns that name faces or identities

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Forgotten:
    """Identities and single faces to be forgotten."""

    identities: frozenset[str]
    face_ids: frozenset[str]  # those named themselves
    faces: frozenset[str]  # the face_ids of all rows that go
    absent: tuple[str, ...] = ()  # names that no row has, in the order given

    @classmethod
    def among(cls, tables: Iterable[pa.Table], names: Sequence[str]) -> "Forgotten":
        """Find names in the columns identity and face_id of some tables; what is an identity anywhere is one."""
        wanted = pa.array(names, pa.string())
        faces_of: dict[str, set[str]] = {}
        face_ids: set[str] = set()
        for table in tables:
            of_identity = table.filter(pc.is_in(table["identity"], wanted))
            pairs = zip(of_identity["identity"].to_pylist(), of_identity["face_id"].to_pylist(), strict=True)
            for identity, face_id in pairs:
                faces_of.setdefault(identity, set()).add(face_id)
            face_ids.update(table["face_id"].filter(pc.is_in(table["face_id"], wanted)).to_pylist())
        absent = tuple(name for name in names if name not in faces_of and name not in face_ids)
        face_ids -= faces_of.keys()
        return cls(frozenset(faces_of), frozenset(face_ids), frozenset(face_ids).union(*faces_of.values()), absent)

    def rows(self, table: pa.Table) -> Mask:
        """Which rows go, (n,)."""
        identity = _among(table["identity"], self.identities)
        return identity | _among(table["face_id"], self.face_ids)

    def counts(self, table: pa.Table) -> tuple[int, int]:
        """How many rows go, and how many stay whose rival goes."""
        rows = self.rows(table)
        return int(rows.sum()), int((self._rivals(table) & ~rows).sum())

    def without(self, table: pa.Table) -> pa.Table:
        """The rows that stay. Where their rival goes, it and the cosine to it become null; the reason stays."""
        cleared = pa.array(self._rivals(table))
        for name in {"rival", "cosine"} & {*table.column_names} if pc.any(cleared).as_py() else ():
            at, column = table.column_names.index(name), table[name]
            table = table.set_column(at, table.field(name), pc.if_else(cleared, pa.scalar(None, column.type), column))
        return table.filter(pa.array(~self.rows(table)))

    def _rivals(self, table: pa.Table) -> Mask:
        if "rival" not in table.column_names:
            return np.zeros(len(table), np.bool_)
        return _among(table["rival"], self.faces)


def _among(column: pa.ChunkedArray, names: Collection[str]) -> Mask:
    found: Mask = pc.is_in(column, pa.array(names, pa.string())).to_numpy()
    return found
