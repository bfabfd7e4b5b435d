"""Images as the world has them: each is read as documented, or listed with a reason; nothing else is printed."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import encoded, folder_of, jpeg, pixels
from PIL import Image
from test_cli import facecore
from test_models_onnx import written
from test_quantize import network

from facecore.errors import DataError
from facecore.images import MAX_PIXELS, decode


def saved(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(seed=0, mode="RGB"):
    return Image.fromarray(pixels(seed, 16)).convert(mode)


def turned(image):
    """As a camera writes it that was held upright: the pixels as they came, and a note to turn them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, "PNG", exif=exif)


def transparent_palette():
    image = picture(mode="P")
    return saved(image, transparency=bytes(range(256)))  # of which Pillow warns when it converts


def png_of_16_bits(colours):
    """(n, n, 3) uint8 as the high bytes of a PNG that Pillow itself cannot write."""
    size = len(colours)
    wide = np.stack([colours, np.full_like(colours, 200)], axis=-1).reshape(size, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    framed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


# A face that is kept: the colours it must have.
READ = {
    "alpha": (saved(picture(1, "RGBA")), pixels(1, 16)),
    "grey with alpha": (saved(picture(1, "LA")), np.asarray(picture(1, "LA").convert("RGB"))),
    "palette with transparency": (transparent_palette(), np.asarray(picture(mode="P").convert("RGB"))),
    "first of an animation": (
        saved(picture(2), save_all=True, append_images=[picture(3)], default_image=False),
        pixels(2, 16),
    ),
    "stored, not turned by EXIF": (turned(picture(4)), pixels(4, 16)),
    "the high bytes of 16 bits a colour": (png_of_16_bits(pixels(5, 16)), pixels(5, 16)),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", READ)
def test_what_is_read(name):
    data, expected = READ[name]
    np.testing.assert_array_equal(decode(data, 16), expected)


def test_what_is_rejected_has_a_reason_and_nothing_else_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(network(), Path("net.onnx"))
    bad = {
        "cut": (jpeg(1, 16)[:-30], "not an image: image file is truncated (1 bytes not processed)"),
        "empty": (b"", "not an image: it is empty"),
        "page": (b"<html>404</html>", "not an image: unknown image format"),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n", "not an image: unknown image format"),
        "16 bits of grey": (
            saved(Image.fromarray(np.full((16, 16), 300, np.uint16))),
            "not 8 bits a channel but Pillow's mode I;16, which convert would clip",
        ),
        "not square": (encoded(pixels(0, 16)[:9]), "not square: 16 x 9 pixels, aligned crops are wanted"),
        "large": (saved(Image.new("1", (4097, 4097))), "4,097 x 4,097 pixels, more than 16,777,216 in all"),
        "bomb": (saved(Image.new("1", (10_000, 10_000))), "10,000 x 10,000 pixels, more than 16,777,216 in all"),
        "larger bomb": (
            saved(Image.new("1", (14_000, 14_000))),
            "not an image: Image size (196000000 pixels) exceeds limit of 178956970 pixels, could be decompression "
            "bomb DOS attack.",
        ),
    }
    good = {"cmyk": saved(picture(1, "CMYK"), "JPEG"), "palette": transparent_palette(), "plain": jpeg(3, 16)}
    folder_of(Path("faces"), {f"a/{name}.jpg": data for name, (data, _) in bad.items()})
    folder_of(Path("faces"), {f"b/{name}.jpg": data for name, data in good.items()})
    code, output = facecore("embed", "faces", "--model", "net.onnx", "--max-rejected", "0.8")
    assert code == 0
    first, second = output.splitlines()
    assert first.startswith("embeddings: 3 faces of 1 identity in ")
    assert second == "9 faces rejected, see embeddings/rejected.parquet"
    found = {row["face_id"]: row["reason"] for row in pq.read_table("embeddings/rejected.parquet").to_pylist()}
    cut = found.pop("a/cut.jpg")
    assert cut.startswith("not an image: image file is truncated")
    assert found == {f"a/{name}.jpg": reason for name, (_, reason) in bad.items() if name != "cut"}


def test_the_largest_image_that_is_read():
    side = int(MAX_PIXELS**0.5)
    assert decode(saved(Image.new("1", (side, side))), 8).shape == (8, 8, 3)
    with pytest.raises(DataError):
        decode(saved(Image.new("1", (side + 1, side + 1))), 8)


def test_every_command_that_reads_images_lists_what_it_cannot_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(network(), Path("net.onnx"))
    folder_of(Path("faces"), {f"{who}/{n}.png": 4 * n + len(who) for who in ("ann", "bo") for n in range(4)})
    assert facecore("embed", "faces", "--model", "net.onnx")[0] == 0
    assert facecore("nms", "--keep", "0.9")[0] == 0
    Path("faces/ann/1.png").write_bytes(saved(Image.new("1", (9000, 9000))))
    reason = "9,000 x 9,000 pixels, more than 16,777,216 in all"
    assert facecore("export", "faces", "--to", "folder", "--out", "out") == (
        1,
        "Error: 1 of 8 faces rejected so far, more than --max-rejected 0.01 allows; first ann/1.png: "
        f"{reason}; see out.part/whole/rejected.parquet, then run again with a larger --max-rejected, it goes on "
        "where it was\n",
    )
    Path("pairs.csv").write_text("left,right,same\nann/0.png,ann/1.png,1\nann/0.png,bo/1.png,0\n")
    assert facecore("verify", "--model", "net.onnx", "--pairs", "pairs.csv", "--images", "faces") == (
        1,
        "Error: 1 of the 3 images of pairs.csv cannot be read, the first is ann/1.png: "
        f"{reason}; replace them, a protocol cannot do without a pair\n",
    )
    code, output = facecore("report", ".")
    assert code == 0
    assert reason in Path("report.html").read_text()
    for words in (
        ("quantize", "--manifest", "subset.parquet", "--model", "net.onnx", "--steps", "1"),
        ("train", "faces", "--arch", "tiny", "--steps", "1", "--batch-size", "8"),
    ):
        code, output = facecore(*words)
        assert code == 1
        assert output.startswith("Error: 1 ")
        assert reason in output
