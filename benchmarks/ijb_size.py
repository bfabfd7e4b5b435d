"""Verification of the size of IJB-C: 15.66 million pairs of 23,124 templates, in time and memory, without a network.

The lists have the form and the numbers of those of IJB-C, the embeddings are made up: what is measured is all that
comes after the network, in a process of its own.

python benchmarks/ijb_size.py
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv
from record import arguments, child, folder_for, in_turns, medians, write_result

from facecore.images import Floats
from facecore.verify.embedding import PART
from facecore.verify.ijb import Ids, read_ijb
from facecore.verify.run import judge_templates, pair_cosines
from facecore.verify.templates import pooled

DIMENSION = 512
STAGES = ("read the lists", "pool the templates", "compare the pairs", "TAR at FAR")


@dataclass(frozen=True)
class Size:
    """How large a protocol is."""

    images: int
    templates: int
    subjects: int
    pairs: int
    same: int  # pairs of one subject


IJBC = Size(images=469_375, templates=23_124, subjects=3_531, pairs=15_658_489, same=19_557)
SMOKE = Size(images=3_000, templates=400, subjects=50, pairs=20_000, same=500)


def write_protocol(folder: Path, size: Size) -> None:
    """Lists in IJB's layout with empty images, and the embeddings of these images, in parts."""
    draw = np.random.default_rng(0)
    more = draw.integers(0, size.templates, size.images - size.templates)
    template = np.sort(np.concatenate([np.arange(size.templates), more]))
    subject = draw.integers(0, size.subjects, size.templates)
    subject[: size.subjects] = np.arange(size.subjects)
    (folder / "meta").mkdir(parents=True)
    names = [f"{number // 1000}/{number}.jpg" for number in range(size.images)]
    for name in names:
        if name.endswith("000.jpg") or name == names[0]:
            (folder / "loose_crop" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "loose_crop" / name).touch()
    _write_lines(folder / "meta" / "ijbc_face_tid_mid.txt", names, template, draw.integers(0, 1 << 20, size.images))
    _write_lines(folder / "meta" / "ijbc_template_pair_label.txt", *_pairs(subject, size, draw))
    centres = draw.standard_normal((size.subjects, DIMENSION), np.float32)
    for start in range(0, size.images, PART):
        rows = subject[template[start : start + PART]]
        noise = draw.standard_normal((len(rows), DIMENSION), np.float32)
        np.save(folder / f"{start // PART:05d}.npy", centres[rows] + 2 * noise)


def _pairs(subject: Ids, size: Size, draw: np.random.Generator) -> list[Ids]:
    """Two templates and whether they are of one subject, for every pair; each of the first `same` pairs is."""
    order = np.argsort(subject, kind="stable")
    beside = np.flatnonzero(subject[order[1:]] == subject[order[:-1]])
    at = draw.choice(beside, size.same)
    left, right = (draw.integers(0, size.templates, size.pairs) for _ in range(2))
    left[: size.same], right[: size.same] = order[at], order[at + 1]
    return [left, right, (subject[left] == subject[right]).astype(np.int64)]


def _write_lines(path: Path, *columns: object) -> None:
    table = pa.table({str(number): pa.array(column) for number, column in enumerate(columns)})
    options = csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    csv.write_csv(table, path, options)


def _parts(folder: Path, images: int) -> Iterator[tuple[slice, Floats]]:
    for start in range(0, images, PART):
        yield slice(start, min(start + PART, images)), np.load(folder / f"{start // PART:05d}.npy")


def measure(folder: Path) -> dict[str, float]:
    """The seconds of each stage, on the wall."""
    at = [time.perf_counter()]
    protocol = read_ijb(folder)
    at.append(time.perf_counter())
    vectors = pooled(protocol, _parts(folder, len(protocol.images)), DIMENSION, detector_score=False)
    at.append(time.perf_counter())
    cosines = pair_cosines(vectors, protocol)
    at.append(time.perf_counter())
    found = judge_templates(cosines, vectors, protocol)
    at.append(time.perf_counter())
    assert found.pairs == len(protocol)
    return dict(zip(STAGES, np.diff(at).tolist(), strict=True))


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "ijb_size", turns=4)
    parser.add_argument("--measure", type=Path, help="measure a protocol that is there, in this process")
    given = parser.parse_args()
    if given.measure:
        (given.measure / "stages.json").write_text(json.dumps(measure(given.measure)))
        return
    size, turns = (SMOKE, 1) if given.smoke else (IJBC, given.turns)
    with folder_for(given.folder) as folder:
        place = folder / "IJBC"
        if not place.exists():
            write_protocol(place, size)
        (taken,) = in_turns(turns, lambda: (child(sys.executable, __file__, "--measure", place), _stages(place)))
    seconds = [{"stage": name, "seconds": float(np.median([of[name] for _, of in taken]))} for name in STAGES]
    result = {"images": size.images, "templates": size.templates, "pairs": size.pairs, "turns": turns}
    write_result(given.out, {**result, "whole": medians([run for run, _ in taken]), "stages": seconds})


def _stages(place: Path) -> dict[str, float]:
    stages: dict[str, float] = json.loads((place / "stages.json").read_text())
    return stages


if __name__ == "__main__":
    main()
