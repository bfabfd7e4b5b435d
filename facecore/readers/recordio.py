"""InsightFace's RecordIO: train.rec holds the images, train.idx says where.

A record is framed as: magic word, then 3 bits of flag and 29 of length, then the payload, padded to 4 bytes. A payload
that contains the magic word at a multiple of 4 bytes is cut there into pieces (flags 1, 2.., 3), the word left out.
The payload is a header (flag, label, id, id2), then `flag` labels in place of the one, then the image.

As InsightFace packs it, record 0 holds no image but two labels: the first key that is no image, and one past the last.
The keys from there on are identities: no image either, two labels, the first key of its images and one past the last.
"""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from facecore.errors import DataError
from facecore.manifest import sort_faces
from facecore.progress import progress
from facecore.readers.files import files_ending
from facecore.storage import Records, for_arrow

MAGIC = b"\x0a\x23\xd7\xce"
FRAME = struct.Struct("<4sI")
HEADER = struct.Struct("<IfQQ")
FRAME_AND_LABEL = struct.Struct("<4sIIf16xf")  # frame, flag, label, ids skipped, the first of several labels
LENGTH = (1 << 29) - 1
KEYS = float(1 << 63)  # beyond what an integer of 64 bits holds, and below infinity

Keys = npt.NDArray[np.int64]


class RecordIO:
    """The images of a .rec file; identity is the label as an integer, face_id and source are the key."""

    def __init__(self, root: Path) -> None:
        self._rec = _find_rec(root)
        self._idx = self._rec.with_suffix(".IDX" if self._rec.suffix.isupper() else ".idx")
        self._keys, self._offsets = _read_index(self._idx, self._rec)
        self._file = Records(self._rec)
        self._size = self._file.size
        self._check_end()  # a file cut short is found now, not after a day of reading

    def faces(self) -> pa.Table:
        """List the images, from the identities' records where those can be relied on, else from each image's label."""
        images, identities = self._split_keys()
        if not len(images):
            raise DataError(f"no images in {self._rec}; {self._idx} lists {len(self._keys):,} records, none an image")
        keys = pa.array(self._keys[images]).cast(pa.string())
        labels = pa.array(self._labels(images, self._borders(images, identities))).cast(pa.string())
        return sort_faces(pa.table({"face_id": keys, "identity": labels, "source": keys}))

    def read(self, source: str) -> bytes:
        """The encoded image of a key; raises DataError if there is none, its label is no number, or it is damaged.

        Where identities' records say whose images are whose, no label between their borders is read before.
        """
        row = self._row(source)
        if row is None:
            raise DataError(f"no key {source} in {self._idx}")
        labels, image = self._unpack(row)
        self._whole(labels[0], row)
        return image

    def exists(self, source: str) -> bool:
        """Whether the index has the key."""
        return self._row(source) is not None

    def _row(self, source: str) -> int | None:
        """The place of a key in the index."""
        # as `faces` writes it: Python's int takes 01 and ٣ for 1 and 3, and raises at over 4,300 digits
        if not (source.isascii() and source.isdecimal() and len(source) <= 19 and str(int(source)) == source):
            return None
        row = int(np.searchsorted(self._keys, int(source)))
        return row if row < len(self._keys) and self._keys[row] == int(source) else None

    def _split_keys(self) -> tuple[Keys, Keys]:
        """The rows of the index that are images, and those that are identities."""
        rows = np.arange(len(self._keys))
        if self._keys[0] != 0:
            return rows, rows[:0]
        labels, image = self._unpack(0)
        if image or len(labels) < 2 or not 0 <= labels[0] < KEYS:
            return rows, rows[:0]
        first = int(labels[0])
        slack = int(_rounding(np.array([first]))[0])
        border, past = np.searchsorted(self._keys, [first - slack, first + slack + 1])
        while border < past and self._unpack(int(border))[1]:
            border += 1
        return rows[1:border], rows[border:]

    def _borders(self, images: Keys, identities: Keys) -> Keys | None:
        """The keys at which the label may change, or None if the identities' records do not say.

        Labels are float32, exact up to 2**24 only: in the 17 million images of Glint360K ranges are off by one image
        (InsightFace issue 1447), in 42 million by two. So the keys within the rounding error are borders, too.
        """
        ranges = [self._unpack(row)[0] for row in identities.tolist()]
        if not ranges or any(len(labels) < 2 for labels in ranges):
            return None
        pairs = np.array([labels[:2] for labels in ranges])  # (identities, 2)
        if not np.all((pairs >= 0) & (pairs < KEYS)):
            return None
        starts, ends = np.sort(pairs.astype(np.int64), axis=0).T
        last = self._keys[images[-1]] + 1
        seamless = np.array_equal(starts[1:], ends[:-1]) and starts[0] == self._keys[images[0]]
        if not seamless or abs(ends[-1] - last) > _rounding(ends[-1:])[0]:
            return None
        slack = _rounding(starts)
        most = int(slack.max())
        return np.unique(np.concatenate([starts + np.clip(d, -slack, slack) for d in range(-most, most + 1)]))

    def _labels(self, images: Keys, borders: Keys | None) -> Keys:
        """The label of every image: read at the first image from each border on, the same until the next one."""
        if borders is None:
            look = np.ones(len(images), bool)
        else:
            look = np.zeros(len(images) + 1, bool)
            look[np.searchsorted(self._keys[images], borders)] = True
            look = look[:-1]
            look[0] = True
        labels = np.zeros(len(images), np.int64)
        with progress(int(look.sum()), "list", "records") as bar:
            for i in np.flatnonzero(look).tolist():
                labels[i] = self._label(int(images[i]))
                bar.update()
        last_look = np.maximum.accumulate(np.where(look, np.arange(len(images)), 0))
        return labels[last_look]

    def _label(self, row: int) -> int:
        """The label of a record; reads 36 bytes where it can, for there may be tens of millions."""
        head = self._file.read(int(self._offsets[row]), FRAME_AND_LABEL.size)
        if len(head) == FRAME_AND_LABEL.size:
            magic, mark, flag, label, first = FRAME_AND_LABEL.unpack(head)
            if magic == MAGIC and FRAME_AND_LABEL.size - FRAME.size <= mark <= LENGTH:
                return self._whole(first if flag else label, row)
        return self._whole(self._unpack(row)[0][0], row)

    def _whole(self, label: float, row: int) -> int:
        if not abs(label) < KEYS or label != int(label):
            raise DataError(
                f"record {self._keys[row]} of {self._rec} has the label {label:g}, not a whole number; "
                "pack the data set again"
            )
        return int(label)

    def _unpack(self, row: int) -> tuple[tuple[float, ...], bytes]:
        """The labels and the image of a record."""
        payload = self._record(int(self._offsets[row]))
        flag, label = HEADER.unpack_from(payload)[:2] if len(payload) >= HEADER.size else (0, 0.0)
        image = HEADER.size + 4 * flag  # where it begins
        if len(payload) < image:
            raise DataError(
                f"record {self._keys[row]} of {self._rec} is shorter than its header, {len(payload)} bytes of {image}; "
                "pack the data set again"
            )
        return struct.unpack_from(f"<{flag}f", payload, HEADER.size) if flag else (label,), payload[image:]

    def _check_end(self) -> None:
        """Raise DataError unless the last record of the index is whole and the last of the file."""
        end = self._pieces(int(self._offsets.max()))[1]
        if end < self._size:
            raise DataError(
                f"{self._idx} lists no record from byte {end:,} on, but {self._rec} has {self._size:,}; "
                "the index was cut short or is of another file, copy it again"
            )

    def _record(self, offset: int) -> bytes:
        """The payload of the record at an offset, its pieces joined."""
        return MAGIC.join(self._pieces(offset)[0])

    def _pieces(self, offset: int) -> tuple[list[bytes], int]:
        """The pieces of the record at an offset, and the byte at which the next record begins."""
        pieces: list[bytes] = []
        at = offset
        while True:
            magic, mark = FRAME.unpack(self._bytes(at, FRAME.size))
            flag, length = mark >> 29, mark & LENGTH
            if magic != MAGIC or flag not in ((2, 3) if pieces else (0, 1)):
                raise DataError(
                    f"{self._rec} has no record at byte {at:,}; it is damaged, or {self._idx.name} is of another file"
                )
            pieces.append(self._bytes(at + FRAME.size, length))
            at += FRAME.size + length + -length % 4
            if flag in (0, 3):
                return pieces, at

    def _bytes(self, at: int, count: int) -> bytes:
        whole = at + count <= self._size  # else memory would be taken for what is not there
        data = self._file.read(at, count) if whole else b""
        if len(data) < count:
            raise DataError(
                f"{self._rec} has {self._size:,} bytes, but a record goes on to byte {at + count:,}; "
                "it was cut short or is damaged, copy it again"
            )
        return data


def _rounding(keys: Keys) -> Keys:
    """By how much a float32 that was an integer may be off."""
    return (np.spacing(keys.astype(np.float32)) / 2).astype(np.int64)


def _find_rec(root: Path) -> Path:
    """The .rec file meant by a folder or by itself."""
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"no data set at {root}; give a folder that holds train.rec and train.idx")
    found = files_ending(root, ".rec")
    if not found:
        raise DataError(f"no .rec file in {root}; a RecordIO data set holds train.rec and train.idx")
    trains = [path for path in found if path.name.lower() == "train.rec"]
    if not trains and len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{root} holds {names} and no train.rec; give the file instead of the folder")
    return (trains or found)[-1]  # that in lower case is the last


def _read_index(idx: Path, rec: Path) -> tuple[Keys, Keys]:
    """The keys of an .idx file, sorted, and the byte at which the record of each begins."""
    if not idx.is_file():
        raise DataError(f"{rec} has no {idx.name} beside it; copy it there, it says where each record begins")
    integers = {"key": pa.int64(), "offset": pa.int64()}
    try:
        table = csv.read_csv(
            for_arrow(idx),
            read_options=csv.ReadOptions(column_names=list(integers)),
            parse_options=csv.ParseOptions(delimiter="\t"),
            convert_options=csv.ConvertOptions(column_types=integers),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{idx} is not an index, lines of key, tab, offset; copy it again") from error
    if not len(table) or any(column.null_count or pc.min(column).as_py() < 0 for column in table.columns):
        raise DataError(f"{idx} is not an index, lines of key, tab, offset; copy it again")
    keys, offsets = table["key"].to_numpy(), table["offset"].to_numpy()
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    twice = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twice):
        raise DataError(f"{idx} has the key {keys[twice[0]]} twice; each record needs its own, pack the data set again")
    return keys, offsets
