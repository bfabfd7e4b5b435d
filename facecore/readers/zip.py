"""A zip archive: identity/image.jpg inside, as a folder of images would have it."""

import stat
import zipfile
from pathlib import Path

import pyarrow as pa

from facecore.errors import DataError, StorageError, counted
from facecore.readers.files import check_size
from facecore.readers.names import LeftOut, Listing, is_image, refused
from facecore.storage import is_remote, opened

SOUGHT = "they are sought as IDENTITY/image with one of .jpg, .jpeg, .png, .bmp, .webp"
ENCRYPTED = 1  # the bit of a member's flags


class Zip:
    """The images of a zip archive, which is not unpacked.

    The identity is the first folder; where all images lie in one, with folders inside, it is the one below. face_id and
    source are the name in the archive. Links, encrypted files and names that would lie outside are left out with a
    warning; names that begin with a dot, and the folder __MACOSX, are ignored.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_file():
            raise DataError(f"no data set at {root}; give a .zip archive")
        self._root = root
        try:
            self._archive = zipfile.ZipFile(opened(root) if is_remote(root) else root)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # ValueError: a name that is not UTF-8
            raise DataError(f"{root} is not a whole zip archive: {error}; copy it again") from error

    def faces(self) -> pa.Table:
        """List the archive; raises DataError if it has no images, or images outside every identity's folder."""
        listing = Listing(self._root)
        names = self._images(listing.left_out)
        below = len({name.partition("/")[0] for name in names}) == 1 and all(name.count("/") > 1 for name in names)
        loose = [name for name in names if "/" not in name]
        if loose:
            raise DataError(
                f"{counted(len(loose), 'image')} directly in {self._root}, first {min(loose)}, and nothing says whose; "
                "pack each in a folder of its identity"
            )
        for name in names:
            listing.add(name, name.split("/")[int(below)], name)
        return listing.table(SOUGHT)

    def read(self, source: str) -> bytes:
        """The encoded image; raises DataError if there is none, or it is damaged."""
        member = self._archive.NameToInfo.get(source)
        if member is None:
            raise DataError(f"no image {source} in {self._root}")
        check_size(member.file_size)  # more is not unpacked, whatever the packed data hold
        try:
            return self._archive.read(member)
        except StorageError:
            raise
        except Exception as error:  # zipfile and the decompressors that it calls raise a dozen kinds
            raise DataError(f"damaged, or packed in an unusual way: {error}") from error

    def exists(self, source: str) -> bool:
        """Whether the archive has a file of this name."""
        return source in self._archive.NameToInfo

    def _images(self, left_out: LeftOut) -> list[str]:
        """The names of the images that are taken."""
        names: dict[str, None] = {}
        for member in self._archive.infolist():
            name = member.filename
            if not is_image(name) or name.startswith("__MACOSX/"):
                continue
            why = _refused(member) or ("repeat a name, whose last file is taken" if name in names else None)
            if why:
                left_out.add(why, name)
            else:
                names[name] = None
        return list(names)


def _refused(member: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(member.external_attr >> 16):
        return "are links"
    return "are encrypted" if member.flag_bits & ENCRYPTED else refused(member.filename)
