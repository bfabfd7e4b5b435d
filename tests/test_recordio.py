"""The RecordIO reader, on files written here as MXNet and InsightFace write them."""

import os
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pictures import jpeg
from records import MAGIC, framed, insightface, packed, write_records

from facecore.errors import DataError
from facecore.readers import open_dataset
from facecore.readers.recordio import RecordIO

PEOPLE = [[b"image a0", b"image a1", b"image a2"], [b"image b0"], [b"image c0", b"image c1"]]


def listed(root):
    return {row["face_id"]: row["identity"] for row in open_dataset(root).faces.to_pylist()}


def refusal(root, do=open_dataset):
    with pytest.raises(DataError) as caught:
        do(root)
    return str(caught.value)


def test_insightface_layout(tmp_path):
    root = write_records(tmp_path / "set", insightface(PEOPLE))
    data = open_dataset(root)
    assert data.format == "recordio"
    assert data.faces.to_pydict() == {
        "face_id": ["1", "2", "3", "4", "5", "6"],
        "identity": ["0", "0", "0", "1", "2", "2"],
        "source": ["1", "2", "3", "4", "5", "6"],
    }
    assert [data.read(key) for key in data.faces["source"].to_pylist()] == [
        image for images in PEOPLE for image in images
    ]


def test_identities_come_from_few_records(tmp_path, monkeypatch):
    records = insightface([[jpeg(0, 16)] * 50, [jpeg(1, 16)] * 50], labels=[7, 3])
    seen = []
    label = RecordIO._label
    monkeypatch.setattr(RecordIO, "_label", lambda self, row: seen.append(row) or label(self, row))
    assert list(listed(write_records(tmp_path, records)).values()) == ["3"] * 50 + ["7"] * 50
    assert seen == [1, 51]


def test_one_label_in_two_ranges_is_one_identity(tmp_path):
    root = write_records(tmp_path, insightface([[b"x"] * 2, [b"y"], [b"z"] * 2], labels=[5, 6, 5]))
    assert listed(root) == {"1": "5", "2": "5", "4": "5", "5": "5", "3": "6"}


@pytest.mark.parametrize("first", [2**24 - 999, 2**24 + 2, 2**25 - 1000, 2**25 + 4, 2**26 - 3000])
def test_keys_that_float32_cannot_hold(tmp_path, monkeypatch, first):
    people = [[b"image"] * int(n) for n in np.random.default_rng(first).integers(1, 99, 60)]
    people[30:36] = [[b"image"]] * 6  # shorter than the rounding error
    expected, key, seen = {}, first, []
    for label, images in enumerate(people):
        for _ in images:
            expected[str(key)] = str(label)
            key += 1
    records = insightface(people, first)
    label = RecordIO._label
    monkeypatch.setattr(RecordIO, "_label", lambda self, row: seen.append(row) or label(self, row))
    assert listed(write_records(tmp_path, records)) == expected
    assert len(seen) <= 5 * len(people) < len(expected) / 5


@pytest.mark.parametrize("first", [2**24 + 1, 2**25 + 1, 2**25 + 2, 2**25 + 3])
def test_a_first_key_that_float32_cannot_hold(tmp_path, first):
    assert listed(write_records(tmp_path, insightface(PEOPLE, first))) == {
        str(first + i): person for i, person in enumerate("000122")
    }


@pytest.mark.parametrize(
    "identities",
    [
        {7: packed([1.0, 4.0]), 8: packed([5.0, 7.0])},  # a gap
        {7: packed([1.0, 4.0]), 8: packed([4.0, 6.0])},  # too short
        {7: packed([1.0, 4.0]), 8: packed([3.0, 7.0])},  # an overlap
        {7: packed(1.0), 8: packed([4.0, 7.0])},  # not a range, as in a merge of old
        {7: packed([1.0, 4.0]), 8: packed([float("nan"), 7.0])},
        {},
    ],
)
def test_ranges_that_do_not_fit_are_not_believed(tmp_path, identities):
    labels = {1: 0, 2: 0, 3: 4, 4: 1, 5: 1, 6: 0}
    images = {key: packed([label, 1], b"image") for key, label in labels.items()}
    root = write_records(tmp_path, {0: packed([7, 9]), **images, **identities})
    assert listed(root) == {str(key): str(label) for key, label in labels.items()}


def test_an_image_that_the_index_lost_does_not_shift_its_identity(tmp_path):
    root = write_records(tmp_path, insightface(PEOPLE))
    lines = (root / "train.idx").read_text().splitlines(keepends=True)
    (root / "train.idx").write_text("".join(line for line in lines if not line.startswith("5\t")))
    assert listed(root) == {"1": "0", "2": "0", "3": "0", "4": "1", "6": "2"}


def test_without_identity_records_every_header_is_read(tmp_path):
    records = {key: packed(label, b"image", key) for key, label in enumerate([3, 1.0, 3, 2])}  # shuffle_rec.py's layout
    assert listed(write_records(tmp_path, records)) == {"0": "3", "2": "3", "1": "1", "3": "2"}


def test_keys_need_not_begin_at_0(tmp_path):
    assert listed(write_records(tmp_path, {5: packed(1, b"x"), 3: packed(0, b"y")})) == {"3": "0", "5": "1"}


@pytest.mark.parametrize(
    "image",
    [
        MAGIC,
        MAGIC * 3,
        b"abcd" + MAGIC + b"efgh",
        b"ab" + MAGIC + b"efgh",  # not aligned: no cut
        b"abcd" + MAGIC + b"e",
        b"abcd" + MAGIC + MAGIC[:3],
        b"",
        b"x",
    ],
)
@pytest.mark.parametrize("label", [2, [2, 1]])
def test_any_bytes_come_back(tmp_path, image, label):
    root = write_records(tmp_path, {1: packed(label, image), 2: packed(0, b"after")})
    data = open_dataset(root)
    assert data.read("1") == image
    assert data.read("2") == b"after"
    assert listed(root) == {"1": "2", "2": "0"}


def test_the_magic_word_in_the_header(tmp_path):
    (as_float,) = struct.unpack("<f", MAGIC)
    record = struct.pack("<IfQQ", 1, 0, 0xCED7230A, 0) + struct.pack("<f", as_float) + b"image"
    assert framed(record)[:8] == MAGIC + struct.pack("<I", 1 << 29 | 8)
    root = write_records(tmp_path, {1: record})
    assert open_dataset(root).read("1") == b"image"
    assert listed(root) == {"1": str(int(as_float))}


def test_threads_read_at_once(tmp_path):
    images = [os.urandom(1000) for _ in range(200)]
    data = open_dataset(write_records(tmp_path, insightface([images])))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(data.read, map(str, range(1, 201)))) == images


def test_the_rec_file_by_name(tmp_path):
    first = write_records(tmp_path, {1: packed(0, b"first")}, "first")
    assert open_dataset(first).read("1") == b"first"
    write_records(tmp_path, {1: packed(0, b"second")}, "second")
    assert refusal(tmp_path) == (
        f"{tmp_path} holds first.rec, second.rec and no train.rec; give the file instead of the folder"
    )
    assert open_dataset(tmp_path / "second.rec").read("1") == b"second"
    write_records(tmp_path, {1: packed(0, b"train")})
    assert open_dataset(tmp_path).read("1") == b"train"


def test_suffixes_in_upper_case(tmp_path):
    write_records(tmp_path, insightface(PEOPLE))
    for suffix in ("rec", "idx"):
        (tmp_path / f"train.{suffix}").rename(tmp_path / f"TRAIN.{suffix.upper()}")
    write_records(tmp_path, {1: packed(0, b"first")}, "first")
    for root in (tmp_path, tmp_path / "TRAIN.REC"):
        data = open_dataset(root)
        assert (data.format, len(data), data.read("1")) == ("recordio", 6, b"image a0")
    write_records(tmp_path, {1: packed(0, b"lower case")})
    assert open_dataset(tmp_path).read("1") == b"lower case"


def test_no_such_key(tmp_path):
    data = open_dataset(write_records(tmp_path, insightface(PEOPLE)))
    for key in ("99", "x", "-1", "1.0", "", "01", "٣", "²", "9" * 19, "9" * 5000):
        assert refusal(key, data.read) == f"no key {key} in {tmp_path / 'train.idx'}"


def test_no_rec_file(tmp_path):
    assert refusal(tmp_path, RecordIO) == (
        f"no .rec file in {tmp_path}; a RecordIO data set holds train.rec and train.idx"
    )
    assert refusal(tmp_path / "gone", RecordIO) == (
        f"no data set at {tmp_path / 'gone'}; give a folder that holds train.rec and train.idx"
    )


def test_no_index(tmp_path):
    write_records(tmp_path, insightface(PEOPLE))
    (tmp_path / "train.idx").unlink()
    assert refusal(tmp_path) == (
        f"{tmp_path / 'train.rec'} has no train.idx beside it; copy it there, it says where each record begins"
    )


@pytest.mark.parametrize("text", ["", "1\n", "1\tx\n", "1,0\n", "1\t\n", "1\t-4\n", "a\t0\n", "1\t0\t0\n"])
def test_not_an_index(tmp_path, text):
    write_records(tmp_path, insightface(PEOPLE))
    (tmp_path / "train.idx").write_text(text)
    assert refusal(tmp_path) == f"{tmp_path / 'train.idx'} is not an index, lines of key, tab, offset; copy it again"


def test_a_key_twice(tmp_path):
    write_records(tmp_path, {3: packed(0, b"x")})
    (tmp_path / "train.idx").write_text("3\t0\n3\t0\n")
    assert refusal(tmp_path) == (
        f"{tmp_path / 'train.idx'} has the key 3 twice; each record needs its own, pack the data set again"
    )


@pytest.mark.parametrize("lost", [1, 20, 100, 10**6])
def test_a_file_cut_short_is_found_on_opening(tmp_path, lost):
    rec = write_records(tmp_path, insightface(PEOPLE)) / "train.rec"
    whole = rec.read_bytes()
    rec.write_bytes(whole[: max(0, len(whole) - lost)])
    last = int((tmp_path / "train.idx").read_text().splitlines()[-1].split("\t")[1])
    left = max(0, len(whole) - lost)
    wanted = len(whole) if left >= last + 8 else last + 8  # the last record, or the frame that says how long it is
    assert refusal(tmp_path) == (
        f"{rec} has {left:,} bytes, but a record goes on to byte {wanted:,}; "
        "it was cut short or is damaged, copy it again"
    )


@pytest.mark.parametrize("lines", [1, 4, 6])
@pytest.mark.parametrize("identities", [True, False])
def test_an_index_cut_at_the_end_of_a_line_is_found_on_opening(lines, identities, tmp_path):
    records = insightface([[b"a" * 5, b"b"], [b"c", b"d", b"e"]])
    if not identities:  # images alone, shuffled
        records = {key: records[key] for key in (4, 1, 3, 5, 2, 7, 6)}
    folder = write_records(tmp_path / "x", records)
    idx, rec = folder / "train.idx", folder / "train.rec"
    whole = idx.read_text().splitlines(keepends=True)
    idx.write_text("".join(whole[:lines]))
    with pytest.raises(DataError) as error:
        RecordIO(folder)
    end = int(whole[lines].split()[1])
    assert str(error.value) == (
        f"{idx} lists no record from byte {end} on, but {rec} has {rec.stat().st_size}; "
        "the index was cut short or is of another file, copy it again"
    )
    idx.write_text("".join(whole))
    assert len(RecordIO(folder).faces()) == (5 if identities else 7)


def test_an_index_of_another_file(tmp_path):
    write_records(tmp_path, insightface(PEOPLE))
    lines = (tmp_path / "train.idx").read_text().splitlines()
    (tmp_path / "train.idx").write_text(
        "\n".join(f"{line.split()[0]}\t{int(line.split()[1]) + 4}" for line in lines[:-1])
    )
    at = int(lines[-2].split("\t")[1]) + 4
    assert refusal(tmp_path) == (
        f"{tmp_path / 'train.rec'} has no record at byte {at}; it is damaged, or train.idx is of another file"
    )


def test_a_damaged_record_is_named_when_read(tmp_path):
    rec = write_records(tmp_path, insightface(PEOPLE)) / "train.rec"
    data = open_dataset(tmp_path)
    at = int((tmp_path / "train.idx").read_text().splitlines()[2].split("\t")[1])
    damaged = bytearray(rec.read_bytes())
    damaged[at] ^= 1
    rec.write_bytes(damaged)
    assert data.read("1") == b"image a0"
    assert (
        refusal("2", data.read) == f"{rec} has no record at byte {at}; it is damaged, or train.idx is of another file"
    )


def test_a_piece_that_does_not_continue(tmp_path):
    record = packed(0, b"abcd" + MAGIC + b"efgh")
    rec = write_records(tmp_path, {1: record}) / "train.rec"
    cut = bytearray(rec.read_bytes())
    second = 8 + 24 + 4
    cut[second + 7] = 0  # flag 3 of the second piece becomes 0
    rec.write_bytes(cut)
    assert refusal(tmp_path) == f"{rec} has no record at byte {second}; it is damaged, or train.idx is of another file"


def test_shorter_than_its_header(tmp_path):
    root = write_records(tmp_path, {1: b"short", 2: struct.pack("<IfQQ", 9, 0, 0, 0)})
    rec = root / "train.rec"
    assert refusal(tmp_path) == (
        f"record 1 of {rec} is shorter than its header, 5 bytes of 24; pack the data set again"
    )
    write_records(tmp_path, {2: struct.pack("<IfQQ", 9, 0, 0, 0)})
    assert refusal(tmp_path) == f"record 2 of {rec} is shorter than its header, 24 bytes of 60; pack the data set again"


def test_a_label_that_is_no_number(tmp_path):
    rec = write_records(tmp_path, {1: packed(float("nan"), b"image")}) / "train.rec"
    assert refusal(tmp_path) == f"record 1 of {rec} has the label nan, not a whole number; pack the data set again"


def test_a_label_that_is_no_number_between_the_borders_of_an_identity(tmp_path):
    """It is not read to list the images; so it is found when the image is."""
    records = insightface([[b"1", b"2", b"3"], [b"4"]])
    records[2] = packed([0.5, 1], b"2", 2)
    dataset = open_dataset(write_records(tmp_path / "rec", records))
    assert dataset.faces["identity"].to_pylist() == ["0", "0", "0", "1"]
    assert dataset.read("1") == b"1"
    assert refusal("2", dataset.read) == (
        f"record 2 of {tmp_path}/rec/train.rec has the label 0.5, not a whole number; pack the data set again"
    )


def test_no_images(tmp_path):
    root = write_records(tmp_path, {0: packed([1, 1])})
    assert refusal(root) == (f"no images in {root / 'train.rec'}; {root / 'train.idx'} lists 1 records, none an image")
