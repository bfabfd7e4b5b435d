"""Do readers keep up with the decoder? Images decoded in a second from each format, against a bare loop.

python benchmarks/readers_speed.py
"""

import statistics
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import record
from data_loading import drawn_faces, write_folder

from facecore.export import ExportOptions, export
from facecore.images import decode
from facecore.readers import Dataset, open_dataset

SIZE = 112
Read = Callable[[str], bytes]
Result = dict[str, dict[str, float]]  # by format

EXPORTED = ("recordio", "webdataset", "parquet")


def write_zip(path: Path, folder: Path) -> Path:
    """The images of a folder as a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for image in sorted(folder.rglob("*.jpg")):
            archive.write(image, image.relative_to(folder))
    return path


@dataclass(frozen=True)
class Speed:
    """Images in a second, on the wall and of all processors."""

    wall: float
    cpu: float


def decoded(read: Read, sources: Sequence[str], workers: int) -> Speed:
    """How fast images are read and decoded, in as many threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        count = sum(len(pixels) > 0 for pixels in pool.map(lambda source: decode(read(source), SIZE), sources))
    return Speed(count / (time.perf_counter() - wall), count / (time.process_time() - cpu))


def compared(datasets: Mapping[str, Dataset], root: Path, order: Sequence[int], workers: int, turns: int) -> Result:
    """Every format in this order, against the files of the folder without any reader."""
    reads: dict[str, Read] = {"bare loop": lambda source: (root / source).read_bytes()}
    sources = {"bare loop": datasets["folder"].faces["source"].to_pylist()}
    for name, one in datasets.items():
        reads[name], sources[name] = one.read, one.faces["source"].to_pylist()
    works = [partial(decoded, read, [sources[name][row] for row in order], workers) for name, read in reads.items()]
    alone, *speeds = record.in_turns(turns, *works)
    return {
        name: {
            "images_per_second": statistics.median(one.wall for one in ran),
            "over_bare": statistics.median(own.wall / other.wall for own, other in zip(ran, alone, strict=True)),
            "cpu_over_bare": statistics.median(own.cpu / other.cpu for own, other in zip(ran, alone, strict=True)),
        }
        for name, ran in zip(reads, [alone, *speeds], strict=True)
    }


def main() -> None:
    """Write the result."""
    parser = record.arguments(__doc__, "readers_speed")
    parser.add_argument("--faces", type=int, default=10_000, help="faces of the data set")
    parser.add_argument("--workers", type=int, default=2, help="threads that read and decode")
    parser.add_argument("--turns", type=int, default=6, help="how often; of several the first does not count")
    asked = parser.parse_args()
    faces, turns = (2_000, 1) if asked.smoke else (asked.faces, asked.turns)
    with TemporaryDirectory() as name:
        folder = write_folder(Path(name) / "folder", drawn_faces(), faces)
        data = open_dataset(folder)
        datasets = {"folder": data, "zip": open_dataset(write_zip(Path(name) / "faces.zip", folder))}
        for to in EXPORTED:
            export(data, to, Path(name) / to, ExportOptions())
            datasets[to] = open_dataset(Path(name) / to)
        orders = {"in_order": np.arange(faces), "shuffled": np.random.default_rng(0).permutation(faces)}
        runs = {how: compared(datasets, folder, order.tolist(), asked.workers, turns) for how, order in orders.items()}
    record.write_result(asked.out, {"faces": faces, "workers": asked.workers, **runs})


if __name__ == "__main__":
    main()
