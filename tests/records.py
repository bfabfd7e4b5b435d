"""A writer of RecordIO files, as MXNet and InsightFace's packers write them."""

import struct

import numpy as np

MAGIC = struct.pack("<I", 0xCED7230A)


def framed(payload):
    """A record: cut at every aligned magic word, which is left out, then padded."""
    cuts = [i for i in range(0, len(payload) - 3, 4) if payload[i : i + 4] == MAGIC]
    pieces = [payload[a:b] for a, b in zip([0, *(c + 4 for c in cuts)], [*cuts, len(payload)], strict=True)]
    out = b""
    for i, piece in enumerate(pieces):
        flag = 0 if len(pieces) == 1 else 1 if i == 0 else 3 if i == len(pieces) - 1 else 2
        out += MAGIC + struct.pack("<I", flag << 29 | len(piece)) + piece
    return out + bytes(-len(out) % 4)


def packed(label, image=b"", key=0):
    """Header and image; several labels follow the header, as float32."""
    if isinstance(label, (int, float)):
        return struct.pack("<IfQQ", 0, label, key, 0) + image
    labels = np.asarray(label, "<f4")  # this is where a key above 2**24 is rounded
    return struct.pack("<IfQQ", len(labels), 0, key, 0) + labels.tobytes() + image


def write_records(root, records, name="train"):
    """Write {key: payload} in that order as NAME.rec and NAME.idx; returns the folder."""
    root.mkdir(parents=True, exist_ok=True)
    rec, idx = b"", ""
    for key, payload in records.items():
        idx += f"{key}\t{len(rec)}\n"
        rec += framed(payload)
    (root / f"{name}.rec").write_bytes(rec)
    (root / f"{name}.idx").write_text(idx)
    return root


def insightface(people, first=1, labels=None):
    """Records as InsightFace packs them: images from key `first`, an identity record each, and record 0.

    `people` is a list of lists of images; `labels` are those of the people, by default 0, 1, ...
    """
    records, ranges, key = {}, [], first
    for label, images in zip(labels or range(len(people)), people, strict=True):
        ranges.append((key, key + len(images)))
        for image in images:
            records[key] = packed([label, 1], image, key)
            key += 1
    border = key
    for pair in ranges:
        records[key] = packed(pair, key=key)
        key += 1
    return {0: packed([border, key]), **records}
