"""Parquet with the images inside, in the layout of Hugging Face's datasets package."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facecore.export.plan import Face, Form, Plan
from facecore.provenance import canonical_json, written_whole

GROUP = 100  # rows read to read one, as in the datasets package

FEATURES: dict[str, Any] = {
    "image": {"_type": "Image"},
    "label": {"dtype": "int64", "_type": "Value"},  # and no ClassLabel: its names would be repeated in every file
    "identity": {"dtype": "string", "_type": "Value"},
    "face_id": {"dtype": "string", "_type": "Value"},
}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [("image", IMAGE), ("label", pa.int64()), ("identity", pa.string()), ("face_id", pa.string())],
    {"huggingface": canonical_json({"info": {"features": FEATURES}})},
)
COMPRESSION = {  # images are compressed already
    "image.bytes": "none",
    "image.path": "zstd",
    "label": "zstd",
    "identity": "zstd",
    "face_id": "zstd",
}


class ParquetWriter:
    """Writes a file a batch, data/train-00000-of-00001.parquet."""

    form = Form("parquet")

    def __init__(self, plan: Plan) -> None:
        self._part = plan.part
        self._shards = len(plan)

    def refuses(self, face: Face) -> str | None:
        """Every image is taken."""

    def write(self, number: int, written: int, faces: Sequence[Face]) -> list[str]:
        """Write a file."""
        name = f"data/train-{number:05d}-of-{self._shards:05d}.parquet"
        images = [{"bytes": face.data, "path": None} for face in faces]
        columns = [images, *([getattr(face, column) for face in faces] for column in SCHEMA.names[1:])]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
        with written_whole(self._part / name) as part:
            pq.write_table(
                pa.table(arrays, schema=SCHEMA),
                part,
                row_group_size=GROUP,
                compression=COMPRESSION,
                use_dictionary=["identity"],
                write_statistics=["label", "identity", "face_id"],  # of images they would repeat whole images
            )
        return [f"{name}#{row}" for row in range(len(faces))]

    def finish(self, written: pa.Table) -> None:
        """Every file is whole already."""
