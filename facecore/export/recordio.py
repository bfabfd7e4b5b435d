"""RecordIO as InsightFace packs it: train.rec, train.idx and property, which arcface_torch trains on.

The images have the keys from 1 on, sorted by label. Then come the identities, each a record of the first key of its
images and one past the last; record 0 holds the first key of these, and one past the last. A shuffled file has neither,
and its images have the keys from 0 on: so arcface_torch's shuffle_rec.py writes it, and DALI, which takes every record
for an image, reads it.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from facecore.export.plan import Face, Form, Plan, Rows, kind_of
from facecore.provenance import filling, write_text_whole
from facecore.readers.recordio import FRAME, HEADER, MAGIC

SIDE = 112  # what `property` says of the images, as for all of InsightFace's sets
TAKEN = ("jpg", "png", "bmp")  # what OpenCV, which decodes for MXNet, can always read


class RecordIOWriter:
    """Appends records to train.rec, and the byte at which each begins to train.idx."""

    form = Form("recordio", named="label", grows=("train.rec", "train.idx"))

    def __init__(self, plan: Plan) -> None:
        self._part = plan.part
        self._shuffled = plan.options.shuffle is not None
        self._classes = len(plan.names)

    def refuses(self, face: Face) -> str | None:
        """MXNet decodes JPEG, PNG and BMP, and the images are copied as they are."""
        kind = kind_of(face.data)
        return None if kind in TAKEN else f"RecordIO takes {', '.join(TAKEN)}, not {kind or 'this'}"

    def write(self, number: int, written: int, faces: Sequence[Face]) -> list[str]:
        """Append the images of a batch."""
        first = written + (not self._shuffled)
        keys = list(range(first, first + len(faces)))
        self._append(
            (key, HEADER.pack(0, face.label, key, 0) + face.data) for key, face in zip(keys, faces, strict=True)
        )
        return list(map(str, keys))

    def finish(self, written: pa.Table) -> None:
        """Append the identities and record 0."""
        if not self._shuffled:
            counts = np.bincount(written["label"].to_numpy(), minlength=self._classes)
            ends: Rows = 1 + np.cumsum(counts)
            keys = int(ends[-1]) + np.arange(self._classes)
            ranges = zip(keys.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
            self._append((key, _pair(key, start, end)) for key, start, end in ranges)
            self._append([(0, _pair(0, int(keys[0]), int(keys[-1]) + 1))])
        write_text_whole(self._part / "property", f"{self._classes},{SIDE},{SIDE}\n")

    def _append(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Append (key, payload)."""
        path = self._part / "train.rec"
        with filling(path), path.open("ab") as rec, path.with_suffix(".idx").open("a") as idx:
            at = rec.seek(0, 2)
            for key, payload in records:
                idx.write(f"{key}\t{at}\n")
                at += rec.write(framed(payload))


def framed(payload: bytes) -> bytes:
    """A payload as a record: cut into pieces at every magic word at a multiple of 4 bytes, which is left out."""
    pieces, start, at = [], 0, payload.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            pieces.append(payload[start:at])
            start = at + 4
        at = payload.find(MAGIC, at + 1 if at % 4 else start)
    pieces.append(payload[start:])
    flags = [0] if len(pieces) == 1 else [1, *[2] * (len(pieces) - 2), 3]
    return b"".join(
        FRAME.pack(MAGIC, flag << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
        for flag, piece in zip(flags, pieces, strict=True)
    )


def _pair(key: int, first: int, past: int) -> bytes:
    """A record of two keys.

    They are float32, exact up to 2**24. Beyond, they are rounded down: a reader that believes record 0 then misses an
    image or two at the end, instead of taking an identity for an image; facecore's own reader finds the true border.
    """
    pair = np.array([first, past], np.float64)
    near = pair.astype("<f4")
    down = np.where(near > pair, np.nextafter(near, np.float32(0)), near).astype("<f4")
    return HEADER.pack(2, 0, key, 0) + down.tobytes()
