"""IJB-B and IJB-C in InsightFace's layout: the folders meta and loose_crop.

meta/ijbc_face_tid_mid.txt        image template media, a line an image
meta/ijbc_template_pair_label.txt template template 0|1, a line a pair
meta/ijbc_name_5pts_score.txt     image, five landmarks (x y), detector score: in the order of the first file
meta/ijbc_1N_gallery_G1.csv       TEMPLATE_ID and SUBJECT_ID; _G2, too, and ijbc_1N_probe_mixed.csv (IJB-B: _S1, _S2)
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from facecore.errors import DataError
from facecore.images import Floats, opened_image
from facecore.readers.files import leads_out, read_below
from facecore.verify.align import SIDE, aligned
from facecore.verify.meta import read_columns, read_table_columns
from facecore.verify.templates import Rows, Search, TemplateProtocol

IMAGES = "loose_crop"
FACES = "_face_tid_mid.txt"
COORDINATES = [f"{axis}{point}" for point in range(5) for axis in "xy"]
Ids = npt.NDArray[np.int64]


def read_ijb(folder: Path) -> TemplateProtocol:
    """The protocol of a folder, without reading an image.

    Raises DataError if a file is missing or amiss, an image is not there, or a template of a pair has no image.
    """
    prefix = _prefix(folder)
    path = folder / "meta" / f"{prefix}{FACES}"
    faces = read_columns(
        path, {"image": pa.string(), "template": pa.uint32(), "media": pa.uint32()}, expected="'IMAGE TEMPLATE MEDIA'"
    )
    images = tuple(faces["image"].to_pylist())
    templates, template = np.unique(faces["template"].to_numpy().astype(np.int64), return_inverse=True)
    landmarks, scores = _landmarks(folder / "meta" / f"{prefix}_name_5pts_score.txt", images)
    read, fingerprint = _reader(folder, path, images, landmarks)
    pairs_path = folder / "meta" / f"{prefix}_template_pair_label.txt"
    pairs = read_columns(
        pairs_path,
        {"left": pa.uint32(), "right": pa.uint32(), "same": pa.bool_()},
        expected="'TEMPLATE TEMPLATE LABEL', the label being 0 or 1",
    )
    left, right = (_rows(pairs[side].to_numpy(), templates, pairs_path, path) for side in ("left", "right"))
    return TemplateProtocol(
        path=folder,
        images=images,
        template=template.astype(np.int32),
        media=faces["media"].to_numpy().astype(np.int64),
        detector_score=scores,
        templates=templates,
        left=left,
        right=right,
        same=pairs["same"].to_numpy(),
        searches=_searches(folder / "meta", prefix, templates, path),
        read=read,
        fingerprint=fingerprint,
    )


def _prefix(folder: Path) -> str:
    """What the names of the meta files begin with: ijbb, ijbc."""
    found = sorted(path.name for path in (folder / "meta").glob(f"*{FACES}"))
    if len(found) != 1:
        raise DataError(
            f"{folder / 'meta'} has {len(found) or 'no'} files *{FACES}, expected one, such as ijbc{FACES}; "
            "put the meta files of one protocol there"
        )
    return found[0].removesuffix(FACES)


def _landmarks(path: Path, images: tuple[str, ...]) -> tuple[Floats | None, Floats | None]:
    """Landmarks (images, 10) and detector scores (images,), or nothing if there is no such file."""
    if not path.is_file():
        return None, None
    types = {"image": pa.string(), **dict.fromkeys([*COORDINATES, "score"], pa.float32())}
    table = read_columns(path, types, expected="'IMAGE X1 Y1 ... X5 Y5 SCORE', eleven numbers")
    names = table["image"].to_pylist()
    for number, (name, image) in enumerate(zip(names, images, strict=False), 1):
        if name != image:
            raise DataError(
                f"{path}:{number}: is of {name}, but line {number} of *{FACES} is of {image}; "
                "the two list the same images in the same order"
            )
    if len(names) != len(images):
        raise DataError(
            f"{path} has {len(names):,} lines, but *{FACES} {len(images):,}; "
            "the two list the same images in the same order"
        )
    values = np.stack([table[name].to_numpy() for name in (*COORDINATES, "score")], axis=1)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(f"{path}:{bad[0] + 1}: has a number that is not finite")
    return values[:, :10], values[:, 10]


def _reader(
    folder: Path, path: Path, images: tuple[str, ...], landmarks: Floats | None
) -> tuple[Callable[[str], bytes], str]:
    """What reads an image as an aligned crop, and the sha256 of names, landmarks and sizes of all images.

    Images are taken for aligned if there are no landmarks, or if the first is SIDE x SIDE. Raises DataError if one is
    not there.
    """
    root = folder / IMAGES
    sizes = [-1 if leads_out(name) else _size(root / name) for name in images]
    missing = [name for name, size in zip(images, sizes, strict=True) if size < 0]
    if missing:
        raise DataError(
            f"{len(missing):,} of the {len(images):,} images of {path} are not under {root}, the first is {missing[0]}"
        )
    if landmarks is not None and _is_aligned(root, images[0]):
        landmarks = None
    digest = hashlib.sha256("\n".join(images).encode())
    digest.update(np.array(sizes, np.int64).tobytes() + (b"" if landmarks is None else landmarks.tobytes()))
    if landmarks is None:
        return lambda name: read_below(root, name), digest.hexdigest()
    row = dict(zip(images, range(len(images)), strict=True))
    for number, name in enumerate(images):
        if not np.array_equal(landmarks[number], landmarks[row[name]]):
            raise DataError(f"{path} lists {name} twice, with other landmarks; every face needs an image of its own")
    return lambda name: aligned(read_below(root, name), landmarks[row[name]]), digest.hexdigest()


def _size(path: Path) -> int:
    """The bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # not there, a name too long, or one with a null byte
        return -1


def _is_aligned(root: Path, name: str) -> bool:
    try:
        with opened_image(read_below(root, name)) as image:
            return image.size == (SIDE, SIDE)
    except (DataError, OSError):  # it will be rejected with a reason when its turn comes
        return False


def _rows(ids: npt.NDArray[np.generic], templates: Ids, path: Path, faces: Path) -> Rows:
    """Rows of `templates`; raises DataError if one of the ids is not there."""
    rows = np.searchsorted(templates, ids.astype(np.int64)).astype(np.int32)
    lacking = np.flatnonzero(templates[np.minimum(rows, len(templates) - 1)] != ids)
    if len(lacking):
        count = len(np.unique(ids[lacking]))
        raise DataError(
            f"{count:,} templates of {path} have no image in {faces}, the first is {ids[lacking[0]]}; "
            "both files must be of one protocol"
        )
    return rows


def _searches(meta: Path, prefix: str, templates: Ids, faces: Path) -> tuple[Search, ...]:
    """A search of the mixed probes in every gallery; none if there is no gallery."""
    galleries = sorted(meta.glob(f"{prefix}_1N_gallery_*.csv"))
    if not galleries:
        return ()
    probes, probe_subject = _subjects(meta / f"{prefix}_1N_probe_mixed.csv", templates, faces)
    return tuple(
        Search(path.stem.rsplit("_", 1)[1], *_subjects(path, templates, faces), probes, probe_subject)
        for path in galleries
    )


def _subjects(path: Path, templates: Ids, faces: Path) -> tuple[Rows, Ids]:
    """The templates of a gallery or of probes, each once, and whom each shows."""
    table = read_table_columns(path, {"TEMPLATE_ID": pa.uint32(), "SUBJECT_ID": pa.uint32()})
    ids, subjects = (table[name].to_numpy().astype(np.int64) for name in ("TEMPLATE_ID", "SUBJECT_ID"))
    if not len(ids):
        raise DataError(f"{path} lists no template; check that it is the whole file")
    distinct, first, place = np.unique(ids, return_index=True, return_inverse=True)
    two = np.flatnonzero(subjects != subjects[first][place])
    if len(two):
        raise DataError(
            f"{path}:{two[0] + 2}: template {ids[two[0]]} is of subject {subjects[two[0]]}, but further up "
            f"of {subjects[first][place[two[0]]]}; a template shows one person"
        )
    return _rows(distinct, templates, path, faces), subjects[first]
