"""What the user may say about the vectors to import."""

import math
from dataclasses import dataclass, field

from facecore.errors import OptionError, check_max_rejected

DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class ImportOptions:
    """Where the input says whose face each row is, and how the store is made."""

    identity_column: str = field(default="identity", metadata={"help": "Column that says whose face a row is."})
    face_id_column: str | None = field(
        default=None, metadata={"help": "Column of names.  [default: face_id if there, else the row number]"}
    )
    source_column: str | None = field(
        default=None, metadata={"help": "Column of image paths.  [default: source if there, else the face_id]"}
    )
    vector_column: str | None = field(
        default=None, metadata={"help": "Column of vectors in Parquet.  [default: the only one of such a type]"}
    )
    dtype: str | None = field(
        default=None,
        metadata={"help": "Numbers in a binary column: float16 or float32.  [default: the one that gives unit rows]"},
    )
    shard_rows: int = field(default=65536, metadata={"help": "Faces a shard; an identity never spans two shards."})
    memory: float = field(default=1.0, metadata={"help": "GB of rows held at a time to group what is not grouped."})
    max_rejected: float = field(default=0.01, metadata={"help": "Stop when more than this fraction is rejected."})

    def __post_init__(self) -> None:
        if self.dtype not in (None, *DTYPES):
            raise OptionError(f"dtype is one of {', '.join(DTYPES)}; got {self.dtype}")
        if self.shard_rows < 1:
            raise OptionError(f"shard_rows must be at least 1, got {self.shard_rows}")
        if not 1e-9 <= self.memory < math.inf:
            raise OptionError(f"memory is a finite number of GB, at least 1e-9, a byte; got {self.memory:g}")
        check_max_rejected(self.max_rejected)
