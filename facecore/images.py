"""Bytes to RGB pixels to the float batch that a network expects."""

import io
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from facecore.errors import DataError, OptionError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Pillow would try fifty formats, one of which (EPS) starts Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
MAX_PIXELS = 1 << 24  # 50 MB once decoded; an aligned crop has 12,544, and a file of a few KB may claim any number


@dataclass(frozen=True)
class Preprocess:
    """How pixels become network input: (x - mean) / scale, in RGB order or, for `bgr`, in BGR order."""

    mean: float = field(
        default=127.5, metadata={"help": "Subtracted from every pixel.  [default: as recorded, or 127.5]"}
    )
    scale: float = field(default=127.5, metadata={"help": "Divides every pixel.  [default: as recorded, or 127.5]"})
    bgr: bool = field(default=False, metadata={"help": "Channels in BGR order.  [default: as recorded, or RGB]"})

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise OptionError(f"mean is subtracted from every pixel and must be finite; got {self.mean}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise OptionError(f"scale divides every pixel and must be above 0; got {self.scale}")


@dataclass(frozen=True)
class Batch:
    """Some faces of a longer list: which rows were decoded, their pixels, and the rows that were not, with reasons."""

    rows: npt.NDArray[np.int64]  # (n,), positions in the list
    pixels: Pixels  # (n, size, size, 3), RGB
    rejected: list[tuple[int, str]]  # (position, reason)


@contextmanager
def opened_image(data: bytes) -> Iterator[Image.Image]:
    """An encoded image of which only the header has been read.

    Raises DataError if it is none, of another format than FORMATS, of more than MAX_PIXELS, or if decoding it fails.
    """
    if not data:
        raise DataError("not an image: it is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{image.width:,} x {image.height:,} pixels, more than {MAX_PIXELS:,} in all")
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow's plug-ins raise OSError, ValueError, SyntaxError, struct.error and others
        raise DataError(f"not an image: {_reason(error)}") from error


def decode(data: bytes, size: int) -> Pixels:
    """One encoded image as (size, size, 3) RGB; a square image of another size is resized.

    Pixels are taken as they are stored: alpha is dropped, an EXIF orientation is not applied, and of an animation the
    first picture is taken. Raises DataError if the bytes are not a whole image, see `opened_image` and `to_rgb`, or not
    a square one: facecore takes aligned crops.
    """
    with opened_image(data) as image:
        if image.width != image.height:
            raise DataError(f"not square: {image.width} x {image.height} pixels, aligned crops are wanted")
        rgb = to_rgb(image)
    if rgb.width != size:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode the whole of an opened image.

    Raises DataError if it is one grey channel of more than 8 bits; of 16-bit colours Pillow gives the high bytes.
    """
    if image.mode.startswith(("I", "F")):
        raise DataError(f"not 8 bits a channel but Pillow's mode {image.mode}, which convert would clip")
    return image.convert("RGB")


def to_input(pixels: Pixels, preprocess: Preprocess) -> Floats:
    """Pixels (n, size, size, 3) as the float32 batch (n, 3, size, size) that a network expects."""
    channels = pixels[..., ::-1] if preprocess.bgr else pixels
    batch = channels.transpose(0, 3, 1, 2).astype(np.float32)
    batch -= np.float32(preprocess.mean)
    batch /= np.float32(preprocess.scale)
    return np.ascontiguousarray(batch)


def load_batches(
    read: Callable[[str], bytes], sources: Sequence[str], *, size: int, batch_size: int, workers: int = 2
) -> Iterator[Batch]:
    """Decode the sources in order, ahead of the consumer, in threads (Pillow releases the interpreter's lock).

    Every source is either decoded or rejected with a reason: what `read` or `decode` raises as DataError or OSError.
    """
    ahead = max(2, workers) + 1  # batches in flight: bounded memory, and a network that never waits
    pending: deque[list[Future[Pixels | str]]] = deque()
    starts = range(0, len(sources), batch_size)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for number, start in enumerate(starts):
            while number + len(pending) < len(starts) and len(pending) < ahead:
                first = (number + len(pending)) * batch_size
                names = sources[first : first + batch_size]
                pending.append([pool.submit(_load, read, name, size) for name in names])
            yield _collect(start, [future.result() for future in pending.popleft()], size)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _load(read: Callable[[str], bytes], source: str, size: int) -> Pixels | str:
    try:
        return decode(read(source), size)
    except (DataError, OSError) as error:
        return _reason(error)


def _collect(start: int, results: list[Pixels | str], size: int) -> Batch:
    good = [(start + i, pixels) for i, pixels in enumerate(results) if not isinstance(pixels, str)]
    rejected = [(start + i, reason) for i, reason in enumerate(results) if isinstance(reason, str)]
    pixels = np.stack([p for _, p in good]) if good else np.empty((0, size, size, 3), np.uint8)
    return Batch(np.array([row for row, _ in good], np.int64), pixels, rejected)


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without the addresses of objects, which differ from run to run."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "unknown image format" if text.startswith("cannot identify image file") else text
