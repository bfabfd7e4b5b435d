"""WebDataset: tar shards of 00000000.jpg, 00000000.cls (the label) and 00000000.json (the names)."""

import io
import tarfile
from collections.abc import Sequence

import pyarrow as pa

from facecore.export.plan import Face, Form, Plan, kind_of
from facecore.provenance import canonical_json, written_whole


class WebDatasetWriter:
    """Writes a shard a batch; a member's name is a number, so that no name can leave its shard or meet another."""

    form = Form("webdataset")

    def __init__(self, plan: Plan) -> None:
        self._part = plan.part
        self._faces = plan.options.shard_faces

    def refuses(self, face: Face) -> str | None:
        """Every kind of image is taken."""
        return None if kind_of(face.data) else "neither JPEG, PNG, BMP nor WebP by its first bytes"

    def write(self, number: int, written: int, faces: Sequence[Face]) -> list[str]:
        """Write a shard."""
        shard = f"{number:06d}.tar"
        sources = []
        with written_whole(self._part / shard) as part:
            with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
                for place, face in enumerate(faces, number * self._faces):
                    names = {"face_id": face.face_id, "identity": face.identity, "source": face.source}
                    sources.append(f"{shard}#{archive.offset + tarfile.BLOCKSIZE}+{len(face.data)}")
                    _add(archive, f"{place:09d}.{kind_of(face.data)}", face.data)
                    _add(archive, f"{place:09d}.cls", str(face.label).encode())
                    _add(archive, f"{place:09d}.json", canonical_json(names).encode())
        return sources

    def finish(self, written: pa.Table) -> None:
        """Every shard is whole already."""


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file of nobody's, made at no time: TarInfo's own defaults."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
