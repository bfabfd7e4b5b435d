"""A data set of drawn faces, with near-duplicates and wrong labels planted in it and the truth written down.

Nothing is downloaded, and every face is a function of (seed, identity, face): equal options give equal bytes.
"""

import csv
import dataclasses
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facecore.errors import DataError, OptionError
from facecore.manifest import provenance_of, with_provenance
from facecore.progress import progress
from facecore.provenance import Provenance
from facecore.synthesis.face import Person, a_person, a_shot
from facecore.synthesis.paint import draw_face
from facecore.synthesis.picture import encode, encode_again
from facecore.synthesis.streams import MISFILED, PAIRS, PEOPLE, PLANTED, SHOTS, SIZES, STRANGERS, stream

FOLDS = 10
_TEST_FACES = 8  # of each identity of the test set
_FEWEST = 3  # faces of an identity, however long the tail
_SPREAD = 0.55  # standard deviation of the logarithm of an identity's size
_JITTER = 0.08  # of a burst, as a part of what a new picture would vary by
_STAGE = "draw"

TRUTH = pa.schema(
    [(name, pa.string()) for name in ("face_id", "identity", "true_identity", "duplicate_of", "kind")]
)  # identity is the label a face is filed under; duplicate_of the face_id of its original, or null


@dataclass(frozen=True)
class DrawOptions:
    """How large a drawn data set is, and how much of it is wrong on purpose."""

    identities: int = field(default=120, metadata={"help": "Identities to draw."})
    faces: int = field(default=14, metadata={"help": "Mean number of different faces of an identity."})
    duplicates: float = field(default=0.25, metadata={"help": "Fraction of all faces that are near-duplicates."})
    wrong_labels: int = field(default=8, metadata={"help": "Faces filed under somebody else."})
    test_identities: int = field(default=60, metadata={"help": "Other identities, for the test; a multiple of 10."})
    test_pairs: int = field(default=800, metadata={"help": "Pairs of the test, half of them same; a multiple of 20."})
    seed: int = field(default=0, metadata={"help": "Another seed draws other people."})

    def __post_init__(self) -> None:
        if self.identities < 2:
            raise OptionError(f"identities must be at least 2, got {self.identities}")
        if self.faces < _FEWEST:
            raise OptionError(f"faces is the mean number of faces of an identity, at least {_FEWEST}; got {self.faces}")
        if not 0 <= self.duplicates < 1:
            raise OptionError(f"duplicates is a fraction of the faces, in [0, 1); got {self.duplicates}")
        if not 0 <= self.wrong_labels <= self.identities:
            raise OptionError(f"wrong_labels must be from 0 to identities ({self.identities}), got {self.wrong_labels}")
        if self.test_identities < 2 * FOLDS or self.test_identities % FOLDS:
            raise OptionError(f"test_identities must be a multiple of 10 from 20 on, got {self.test_identities}")
        most = 2 * self.test_identities * math.comb(_TEST_FACES, 2)
        if not 2 * FOLDS <= self.test_pairs <= most or self.test_pairs % (2 * FOLDS):
            raise OptionError(f"test_pairs must be a multiple of 20 from 20 to {most:,}, got {self.test_pairs}")
        if self.seed < 0:
            raise OptionError(f"seed must be at least 0, got {self.seed}")


@dataclass(frozen=True)
class Drawn:
    """What was drawn, in numbers, and where."""

    images: Path  # a data set in the folder format
    truth: Path
    test_images: Path
    test_pairs: Path
    faces: int
    identities: int
    duplicates: int
    wrong_labels: int
    pairs: int


@dataclass(frozen=True)
class _Face:
    """A picture about to be written, with the truth about it."""

    identity: str
    name: str
    data: bytes = field(repr=False)
    true_identity: str
    duplicate_of: str | None
    kind: str  # original, burst, re-encoding or wrong-label

    @property
    def face_id(self) -> str:
        return f"{self.identity}/{self.name}"


def draw_dataset(out: Path, options: DrawOptions, *, overwrite: bool = False) -> Drawn:
    """Draw a data set, its truth, and a test of pairs of other people; the folder appears whole or not at all.

    Writes out/images/IDENTITY/NNNN.jpg, out/truth.parquet, out/test/images/IDENTITY/NNNN.jpg and out/test/pairs.csv.
    Raises DataError if `out` exists, or, with `overwrite`, if it is anything but a drawn data set.
    """
    _check_out(out, overwrite=overwrite)
    with _folder_written_whole(out) as part:
        truth = _write_faces(part / "images", options)
        counts = {
            "faces": len(truth),
            "identities": options.identities,
            "duplicates": sum(face.duplicate_of is not None for face in truth),
            "wrong_labels": options.wrong_labels,
            "pairs": options.test_pairs,
        }
        _write_truth(part / "truth.parquet", truth, Provenance(_STAGE, dataclasses.asdict(options), {}, counts))
        _write_test(part / "test", options)
    return Drawn(out / "images", out / "truth.parquet", out / "test" / "images", out / "test" / "pairs.csv", **counts)


def person_of(seed: int, number: int, *, stranger: bool = False) -> Person:
    """Somebody of the data set or, if a stranger, of the test: a function of the arguments alone."""
    return a_person(stream(seed, STRANGERS if stranger else PEOPLE, number))


def originals_of(number: int, options: DrawOptions) -> int:
    """How many different faces an identity has: log-normal about the mean, so that some have several times as many."""
    size = stream(options.seed, SIZES, number).lognormal(math.log(options.faces) - _SPREAD**2 / 2, _SPREAD)
    return max(_FEWEST, round(size))


def _write_faces(root: Path, options: DrawOptions) -> list[_Face]:
    """Draw everybody; returns the faces without their pictures, sorted by face_id."""
    misfiled = _misfiled(options)
    truth: list[_Face] = []
    with progress(options.identities, "draw", "identities") as bar:
        for number in range(options.identities):
            faces = list(_faces_of(number, options))
            if number in misfiled:
                faces.append(_misfiled_face(number, misfiled[number], len(faces), options.seed))
            (root / _name(number)).mkdir(parents=True)
            for face in faces:
                (root / face.face_id).write_bytes(face.data)
                truth.append(dataclasses.replace(face, data=b""))
            bar.update()
    return sorted(truth, key=lambda face: face.face_id)


def _faces_of(number: int, options: DrawOptions) -> Iterator[_Face]:
    """The originals and the near-duplicates of one identity, in an order that does not tell them apart."""
    seed, identity, person = options.seed, _name(number), person_of(options.seed, number)
    originals = originals_of(number, options)
    copies = round(originals * options.duplicates / (1 - options.duplicates))
    planted = stream(seed, PLANTED, number)
    names = [f"{place:04d}.jpg" for place in planted.permutation(originals + copies).tolist()]
    shots = [a_shot(stream(seed, SHOTS, number, face)) for face in range(originals)]
    pictures = [encode(draw_face(person, shot)) for shot in shots]
    for name, picture in zip(names, pictures, strict=False):
        yield _Face(identity, name, picture, identity, None, "original")
    for name in names[originals:]:
        source = int(planted.integers(originals))
        if planted.random() < 0.5:
            kind, data = "burst", encode(draw_face(person, shots[source].jittered(planted, _JITTER)))
        else:
            kind, data = "re-encoding", encode_again(pictures[source], planted)
        yield _Face(identity, name, data, identity, f"{identity}/{names[source]}", kind)


def _misfiled(options: DrawOptions) -> dict[int, int]:
    """Identities that hold one wrong face, each with the number of whom it shows."""
    random = stream(options.seed, MISFILED)
    chosen = random.choice(options.identities, options.wrong_labels, replace=False)
    away = random.integers(1, options.identities, options.wrong_labels)
    return dict(zip(chosen.tolist(), ((chosen + away) % options.identities).tolist(), strict=True))


def _misfiled_face(filed: int, shown: int, place: int, seed: int) -> _Face:
    shot = a_shot(stream(seed, MISFILED, filed))
    picture = encode(draw_face(person_of(seed, shown), shot))
    return _Face(_name(filed), f"{place:04d}.jpg", picture, _name(shown), None, "wrong-label")


def _write_truth(path: Path, faces: list[_Face], made: Provenance) -> None:
    columns = {name: [getattr(face, name) for face in faces] for name in TRUTH.names}
    pq.write_table(pa.table(columns, with_provenance(TRUTH, made)), path, compression="zstd")


def _write_test(root: Path, options: DrawOptions) -> None:
    """The test set: people who are nowhere in the data set, no two folds with one in common."""
    names = [f"stranger{number:04d}" for number in range(options.test_identities)]
    with progress(len(names), "draw the test", "identities") as bar:
        for number, name in enumerate(names):
            folder = root / "images" / name
            folder.mkdir(parents=True)
            person = person_of(options.seed, number, stranger=True)
            for face in range(_TEST_FACES):
                shot = a_shot(stream(options.seed, STRANGERS, number, face))
                (folder / f"{face:04d}.jpg").write_bytes(encode(draw_face(person, shot)))
            bar.update()
    with (root / "pairs.csv").open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("left", "right", "same", "fold"))
        for fold, people in enumerate(np.array_split(names, FOLDS), 1):
            random = stream(options.seed, PAIRS, fold)
            writer.writerows((*pair, fold) for pair in _pairs(people.tolist(), options.test_pairs // FOLDS, random))


def _pairs(people: list[str], pairs: int, random: np.random.Generator) -> Iterator[tuple[str, str, int]]:
    """Different pairs of faces, half of one person and half of two."""
    faces = [(person, f"{person}/{face:04d}.jpg") for person in people for face in range(_TEST_FACES)]
    for same in (1, 0):
        every = [(left, right) for (a, left), (b, right) in combinations(faces, 2) if (a == b) == bool(same)]
        for row in sorted(random.choice(len(every), pairs // 2, replace=False).tolist()):
            yield *every[row], same


def _name(number: int) -> str:
    return f"person{number:04d}"


def _check_out(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise DataError(f"{out} exists; choose another --out, or add --overwrite to replace it")
    truth = out / "truth.parquet"
    try:
        made = provenance_of(truth)
    except (OSError, pa.ArrowException):
        made = None
    if made is None or made.stage != _STAGE:
        raise DataError(f"{out} is not a drawn data set, so it is not replaced; choose another --out")


@contextmanager
def _folder_written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, in place of what is there, when the block ends well."""
    beside = path.with_name(f".{path.name}.part")  # a rename stays on one disk
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    part, old = beside / "part", beside / "old"
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(part, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
