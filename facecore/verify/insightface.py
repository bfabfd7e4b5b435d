"""The pairs of InsightFace's .bin files."""

from pathlib import Path

from facecore.errors import OptionError
from facecore.readers.bin import read_pairs
from facecore.verify.pairs import NamedPairs, PairProtocol, contiguous_folds


def read_bin(path: Path, images: Path | None) -> PairProtocol:
    """The pairs of an InsightFace .bin, in ten contiguous folds in file order, as the field has it.

    Raises OptionError if `images` is given, DataError if the file holds anything but images and booleans.
    """
    if images is not None:
        raise OptionError(f"{path} holds its images itself; leave out --images")
    encoded, same = read_pairs(path)
    names: dict[bytes, str] = {}
    for number, data in enumerate(encoded):
        names.setdefault(data, f"{path.name}[{number}]")  # the sets name an image once a pair; embed it once
    by_name = {name: data for data, name in names.items()}
    named = [names[data] for data in encoded]
    return NamedPairs(named[::2], named[1::2], same, contiguous_folds(len(same))).protocol(path, by_name.__getitem__)
