"""What a protocol is: pairs of images, each the same person or not, in folds, and how to read the images."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facecore.errors import DataError, OptionError
from facecore.readers.files import leads_out, read_below

FOLDS = 10


@dataclass(frozen=True)
class PairProtocol:
    """Pairs as rows into a list of distinct images, so that each image is embedded once."""

    path: Path  # the file the pairs came from
    images: tuple[str, ...]  # distinct, in order of first mention
    left: npt.NDArray[np.int32]  # (pairs,), rows of images
    right: npt.NDArray[np.int32]  # (pairs,)
    same: npt.NDArray[np.bool_]  # (pairs,), whether the two show one person
    fold: npt.NDArray[np.int32]  # (pairs,), a label; any distinct integers
    read: Callable[[str], bytes]  # the encoded bytes of an image; raises OSError or DataError

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True)
class NamedPairs:
    """Pairs as a file lists them: four columns of one length."""

    left: list[str]
    right: list[str]
    same: list[bool]
    fold: list[int]

    def protocol(self, path: Path, read: Callable[[str], bytes]) -> PairProtocol:
        """The protocol of these pairs; raises DataError if there is none."""
        if not self.same:
            raise DataError(f"{path} holds no pairs; check that it is the whole file")
        mentioned = chain.from_iterable(zip(self.left, self.right, strict=True))
        row = {name: number for number, name in enumerate(dict.fromkeys(mentioned))}
        return PairProtocol(
            path,
            tuple(row),
            np.array([row[name] for name in self.left], np.int32),
            np.array([row[name] for name in self.right], np.int32),
            np.array(self.same, np.bool_),
            np.array(self.fold, np.int32),
            read,
        )

    def protocol_under(self, root: Path, path: Path) -> PairProtocol:
        """The protocol of pairs whose names are paths below a folder.

        Raises DataError, before any work, if a named image is not there: a lost pair would change the figures.
        """
        protocol = self.protocol(path, lambda name: read_below(root, name))
        outside = [name for name in protocol.images if leads_out(name)]
        if outside:
            raise DataError(f"{path} names {outside[0]!a}, which leads out of {root}; name what lies there")
        # os.path, because Path.is_file raises at a name too long for the file system
        missing = [name for name in protocol.images if not os.path.isfile(root / name)]
        if missing:
            raise DataError(
                f"{len(missing):,} of the {len(protocol.images):,} images of {path} are not under {root}, "
                f"the first is {missing[0]}; name the folder that they are in"
            )
        return protocol


def contiguous_folds(pairs: int) -> list[int]:
    """Fold labels from 1, ten runs in file order that differ in length by one at most; one pair a fold below ten.

    The field's rule for files without folds (KFold without shuffling): the longer runs come first.
    """
    folds = np.array_split(np.arange(pairs), min(FOLDS, max(pairs, 1)))
    return [number for number, rows in enumerate(folds, 1) for _ in rows]


def is_count(text: str) -> bool:
    """Whether a text is a whole number of at most nine digits, which fits 32 bits."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def image_folder(path: Path, images: Path | None) -> Path:
    """The folder that the names of a pairs file are relative to; raises OptionError or DataError without one."""
    if images is None:
        raise OptionError(
            f"{path} names its images by path; give their folder: --images beside --pairs, "
            "NAME=PAIRS,IMAGES in --verify"
        )
    if not images.is_dir():
        raise DataError(f"no folder of images at {images}; check the path")
    return images


def read_text(path: Path) -> str:
    """The text of a pairs file; raises DataError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as such") from None
