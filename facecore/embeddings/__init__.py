"""The embedding store: a directory of .npy vectors beside Parquet metadata, one pair a shard.

    img_emb/img_emb_00000.npy            (rows, d) float16, unit rows, C order
    metadata/metadata_00000.parquet      row i describes row i: face_id, identity, source, norm, and what rode along
    meta.json                            model, preprocessing, d, rows, identities, shard table; written last
    rejected.parquet                     faces that could not be embedded, each with a reason

clip-retrieval, autofaiss and embedding-reader read this layout as `parquet_npy`.
"""

from facecore.embeddings.files import (
    content_sha256,
    identity_starts,
    metadata_path,
    shard_starts,
    vectors_path,
    write_meta,
    write_shard,
)
from facecore.embeddings.pieces import Buffers, Piece, Shard, Vectors
from facecore.embeddings.store import Embeddings

__all__ = [
    "Buffers",
    "Embeddings",
    "Piece",
    "Shard",
    "Vectors",
    "content_sha256",
    "identity_starts",
    "metadata_path",
    "shard_starts",
    "vectors_path",
    "write_meta",
    "write_shard",
]
