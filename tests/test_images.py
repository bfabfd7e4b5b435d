"""Bytes to pixels to network input."""

import io
import math
import struct
import threading
import zlib

import numpy as np
import pytest
from pictures import encoded, jpeg, pixels
from PIL import Image

from facecore.errors import DataError, OptionError
from facecore.images import Preprocess, decode, load_batches, to_input
from facecore.report.faces import thumbnail


def saved(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refusal(data, size=16):
    with pytest.raises(DataError) as caught:
        decode(data, size)
    return str(caught.value)


# decode


def test_a_png_comes_back_as_it_was():
    found = decode(encoded(pixels(0, 16), "PNG"), 16)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels(0, 16))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_kinds_come_back_nearly(kind):
    assert np.abs(decode(encoded(pixels(0), kind), 112).astype(int) - pixels(0)).mean() < 6


def test_red_comes_first():
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    found = decode(encoded(red), 16)
    assert found[..., 0].min() > 240
    assert found[..., 1:].max() < 10


def test_grey_is_three_equal_channels():
    grey = pixels(1, 16)[..., 0]
    np.testing.assert_array_equal(decode(saved(Image.fromarray(grey)), 16), np.stack([grey] * 3, -1))


def test_alpha_is_dropped():
    alpha = np.full((16, 16, 1), 7, np.uint8)
    found = decode(saved(Image.fromarray(np.concatenate([pixels(2, 16), alpha], -1))), 16)
    np.testing.assert_array_equal(found, pixels(2, 16))


def test_a_palette():
    image = Image.fromarray(pixels(3, 16)).quantize(16)
    np.testing.assert_array_equal(decode(saved(image), 16), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg():
    found = decode(saved(Image.fromarray(pixels(4, 112)).convert("CMYK"), "JPEG", quality=95), 112)
    assert np.abs(found.astype(int) - pixels(4, 112)).mean() < 6


def test_one_bit():
    bits = np.eye(16, dtype=np.uint8) * 255
    np.testing.assert_array_equal(decode(saved(Image.fromarray(bits).convert("1")), 16)[..., 1], bits)


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.int32, "I"), (np.float32, "F")])
def test_more_than_8_bits_are_not_clipped_in_silence(dtype, mode):
    image = Image.fromarray(np.full((16, 16), 300, dtype))
    assert refusal(saved(image, "TIFF")) == (f"not 8 bits a channel but Pillow's mode {mode}, which convert would clip")


def test_a_thumbnail_shows_what_the_network_sees():
    grey = saved(Image.fromarray(np.full((16, 16), 300, np.uint16)))
    with pytest.raises(DataError) as caught:
        thumbnail(grey)
    assert str(caught.value) == refusal(grey) == "not 8 bits a channel but Pillow's mode I;16, which convert would clip"


def test_of_16_bit_colours_the_high_bytes_are_taken():
    rows = b"".join(b"\0" + np.full((16, 3), [0x01FF, 0x8000, 0xFF00], ">u2").tobytes() for _ in range(16))
    chunks = (b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    framed = (struct.pack(">I", len(of)) + kind + of + struct.pack(">I", zlib.crc32(kind + of)) for kind, of in chunks)
    found = decode(b"\x89PNG\r\n\x1a\n" + b"".join(framed), 16)
    np.testing.assert_array_equal(found, np.broadcast_to(np.uint8([0x01, 0x80, 0xFF]), (16, 16, 3)))


def test_another_size_is_resized():
    found = decode(encoded(pixels(5, 224), "PNG"), 112)
    assert found.shape == (112, 112, 3)
    halves = pixels(5, 224).reshape(112, 2, 112, 2, 3).mean((1, 3))
    assert np.abs(found - halves).mean() < 2
    np.testing.assert_array_equal(decode(encoded(np.full((50, 50, 3), 77, np.uint8), "PNG"), 112), 77)


def test_not_square():
    assert refusal(encoded(pixels(0, 16)[:9])) == "not square: 16 x 9 pixels, aligned crops are wanted"


@pytest.mark.parametrize("data", [b"GIF89a? no", bytes(1000), b"<html>"])
def test_not_an_image(data):
    assert refusal(data) == "not an image: unknown image format"


def test_nothing_is_not_an_image():
    assert refusal(b"") == "not an image: it is empty"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_anywhere(kind):
    whole = encoded(pixels(6, 64), kind)
    for part in (0.1, 0.5, 0.9):
        assert refusal(whole[: int(len(whole) * part)], 64).startswith("not an image: ")


def test_a_truncated_jpeg_says_so():
    assert refusal(jpeg(6)[:-20], 112).startswith("not an image: image file is truncated")


def test_random_bytes_after_the_head_never_raise_anything_else():
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        whole = bytearray(
            encoded(pixels(7, 16), kind) if kind != "GIF" else saved(Image.fromarray(pixels(7, 16)), kind)
        )
        for _ in range(30):
            data = whole.copy()
            for at in rng.integers(0, len(data), 8):
                data[at] = rng.integers(256)
            try:
                found = decode(bytes(data), 16)
            except DataError:
                continue
            assert found.shape == (16, 16, 3)


# to_input


def test_default_input():
    batch = to_input(np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3), Preprocess())
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, np.float32([-1, -0.5 / 127.5, 1]).reshape(1, 3, 1, 1))


def test_bgr_mean_and_scale():
    batch = to_input(np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3), Preprocess(mean=10, scale=2, bgr=True))
    assert batch.ravel().tolist() == [10, 5, 0]


def test_pixels_keep_their_place():
    faces = np.stack([pixels(i, 5) for i in range(3)])
    batch = to_input(faces, Preprocess(0, 1))
    for n, y, x, c in [(0, 0, 0, 0), (1, 4, 0, 1), (2, 1, 3, 2)]:
        assert batch[n, c, y, x] == faces[n, y, x, c]
    assert to_input(faces[:0], Preprocess()).shape == (0, 3, 5, 5)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((math.nan, 1), "mean is subtracted from every pixel and must be finite; got nan"),
        ((0, 0), "scale divides every pixel and must be above 0; got 0"),
        ((0, math.inf), "scale divides every pixel and must be above 0; got inf"),
        ((0, -1), "scale divides every pixel and must be above 0; got -1"),
    ],
)
def test_preprocess_out_of_range(arguments, line):
    with pytest.raises(OptionError) as caught:
        Preprocess(*arguments)
    assert str(caught.value) == line


# load_batches


FILES = {f"{i:02d}": encoded(np.full((8, 8, 3), i, np.uint8), "PNG") for i in range(25)}


def read(source):
    if source == "gone":
        raise FileNotFoundError(2, "No such file or directory", "/a/path")
    if source == "locked":
        raise PermissionError(13, "Permission denied")
    if source == "lost":
        raise DataError("no key lost in train.idx")
    return FILES.get(source, b"")


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 25, 100])
def test_batches_come_in_order_and_hold_every_face(workers, batch_size):
    batches = list(load_batches(read, list(FILES), size=8, batch_size=batch_size, workers=workers))
    assert [len(batch.rows) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    rows = np.concatenate([batch.rows for batch in batches])
    assert rows.tolist() == list(range(25))
    for batch in batches:
        assert batch.pixels.shape == (len(batch.rows), 8, 8, 3)
        np.testing.assert_array_equal(batch.pixels[:, 0, 0, 0], batch.rows)
    assert not any(batch.rejected for batch in batches)


def test_the_rejected_have_their_place_and_reason():
    sources = ["00", "gone", "02", "locked", "lost", "empty", "06"]
    batches = list(load_batches(read, sources, size=8, batch_size=3))
    assert [batch.rows.tolist() for batch in batches] == [[0, 2], [], [6]]
    assert [batch.pixels.shape for batch in batches] == [(2, 8, 8, 3), (0, 8, 8, 3), (1, 8, 8, 3)]
    assert [rejected for batch in batches for rejected in batch.rejected] == [
        (1, "no such file"),
        (3, "[Errno 13] Permission denied"),
        (4, "no key lost in train.idx"),
        (5, "not an image: it is empty"),
    ]


def test_no_sources():
    assert list(load_batches(read, [], size=8, batch_size=3)) == []


def test_a_bug_in_read_is_not_a_rejection():
    with pytest.raises(ZeroDivisionError):
        list(load_batches(lambda source: 1 // 0, ["00"] * 9, size=8, batch_size=2))


def test_only_a_few_batches_are_read_ahead():
    seen, lock = [], threading.Lock()

    def counted(source):
        with lock:
            seen.append(source)
        return FILES["00"]

    batches = load_batches(counted, [str(i) for i in range(1000)], size=8, batch_size=10, workers=2)
    next(batches)
    batches.close()
    assert len(seen) <= 30
