"""InsightFace's .bin: a verification set of pairs, with the encoded images in it."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

from facecore.errors import DataError
from facecore.images import decode
from facecore.provenance import refuse_to_overwrite, written_whole
from facecore.readers.bin import read_pairs

PROTOCOL = 4  # the first that has byte strings of its own; read by Python 3.4 and later, and by `read_pairs`
SIDE = 112


def write_bin(
    names: Sequence[str],
    same: Sequence[bool],
    read: Callable[[str], bytes],
    out: Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[Path] = (),
) -> int:
    """Write 2N images, by name, and for each pair of them whether both show one person, as a .bin; read back at once.

    Its folds are tenths in this order. Images are copied as they are; returns how many different ones there are. Raises
    DataError if one cannot be read: a lost pair would change the figures.
    """
    refuse_to_overwrite(out, overwrite=overwrite, inputs=inputs)
    images: dict[str, bytes] = {}
    for name in names:
        if name not in images:
            images[name] = _readable(name, read)
    encoded, flags = [images[name] for name in names], [bool(one) for one in same]
    with written_whole(out) as part:
        part.write_bytes(pickle.dumps((encoded, flags), PROTOCOL))
        if read_pairs(part) != (encoded, flags):
            raise DataError(f"{part} was read back, and has other bytes; the disk may be failing, export to another")
    return len(images)


def _readable(name: str, read: Callable[[str], bytes]) -> bytes:
    try:
        data = read(name)
        decode(data, SIDE)
    except (DataError, OSError) as error:
        raise DataError(f"{name} cannot be read: {error}; mend it, a .bin needs the images of all pairs") from error
    return data
