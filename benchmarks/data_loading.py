"""Does training wait for its faces? The share of time that it does, from a folder and from RecordIO.

python benchmarks/data_loading.py
"""

import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import record

from facecore.readers import Dataset, open_dataset
from facecore.synthesis.drawn import person_of
from facecore.synthesis.face import a_shot
from facecore.synthesis.paint import draw_face
from facecore.synthesis.picture import encode
from facecore.train import TrainOptions, train
from facecore.train.loading import Loader
from facecore.train.sampling import Plan, Roster

DISTINCT = 200  # faces that are drawn; the others are copies, which take as long to read and decode
EACH = 20  # faces of an identity


def drawn_faces() -> list[bytes]:
    """Some images, all different."""
    shots = (a_shot(np.random.default_rng([0, number])) for number in range(DISTINCT))
    return [encode(draw_face(person_of(0, number), shot)) for number, shot in enumerate(shots)]


def write_folder(root: Path, images: Sequence[bytes], faces: int) -> Path:
    """A folder of identities."""
    for number in range(faces):
        path = root / f"{number // EACH:06}" / f"{number % EACH:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images[number % len(images)])
    return root


def write_recordio(root: Path, images: Sequence[bytes], faces: int) -> Path:
    """The same as InsightFace's RecordIO, without records of identities."""
    root.mkdir(parents=True)
    with (root / "train.rec").open("wb") as rec, (root / "train.idx").open("w") as idx:
        for number in range(faces):
            payload = struct.pack("<IfQQ", 0, number // EACH, number + 1, 0) + images[number % len(images)]
            idx.write(f"{number + 1}\t{rec.tell()}\n")
            rec.write(struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4))
    return root


def measured(dataset: Dataset, options: TrainOptions) -> dict[str, Any]:
    """A training, and its loader alone, on the same faces."""
    with TemporaryDirectory() as out:
        report = train(dataset, Path(out), options)
    roster = Roster(dataset, identities=None, faces=None, seed=options.seed)
    plan = Plan(roster.classes, sampling=options.sampling, batch_size=options.batch_size, seed=options.seed)
    began = time.perf_counter()
    loaded = sum(len(batch.labels) for batch in Loader(dataset, roster, plan, options).batches(0, report["steps"]))
    return {
        "arch": options.arch,
        "augment": options.augment,
        "waiting_share": report["waiting_share"],
        "faces_per_second": report["faces_per_second"],
        "loader_faces_per_second": loaded / (time.perf_counter() - began),
    }


def main() -> None:
    """Write the result."""
    parser = record.arguments(__doc__, "data_loading")
    parser.add_argument("--faces", type=int, default=20_000, help="faces of the data set")
    parser.add_argument("--steps", type=int, default=60, help="steps of each training")
    parser.add_argument("--workers", type=int, default=2, help="threads that load")
    asked = parser.parse_args()
    faces, steps = (2_000, 2) if asked.smoke else (asked.faces, asked.steps)
    tiny = TrainOptions(arch="tiny", steps=steps, batch_size=64, workers=asked.workers)
    networks = [tiny]
    if not asked.smoke:
        networks += [
            replace(tiny, augment="crop,colour,blur,jpeg"),
            replace(tiny, arch="mbf", steps=max(1, steps // 6)),
        ]
    images, runs = drawn_faces(), []
    with TemporaryDirectory() as folder:
        for source, write in (("folder", write_folder), ("RecordIO", write_recordio)):
            dataset = open_dataset(write(Path(folder) / source, images, faces))
            runs += [{"source": source, **measured(dataset, options)} for options in networks]
    facts = {
        "faces": faces,
        "identities": -(-faces // EACH),
        "steps": steps,
        "workers": asked.workers,
        "batch_size": 64,
    }
    record.write_result(asked.out, {**facts, "runs": runs})


if __name__ == "__main__":
    main()
