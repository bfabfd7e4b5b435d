"""What piles up in a process that embeds shard after shard, and in one that selects again and again.

Resident memory, open files, threads and child processes are read from /proc whenever another unit is done.

python benchmarks/soak.py --shards 1_100 --selections 400
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import record
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE, EACH = 32, 10  # pixels, and faces of an identity, which is a shard of its own
SELECTED_FROM = 200  # identities
WARM = 100  # shards or selections, after which a process has allocated what it keeps

_SELECT = """
import sys
from pathlib import Path
from facecore.select import Nms, select
store, folder, times = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for turn in range(times):
    select(store, Nms(), keep=0.3 + 0.5 * turn / times, out=folder / f"{turn:05d}.parquet", threads=1)
"""


@dataclass(frozen=True)
class Sample:
    """What a process holds at a moment."""

    done: int  # shards or selections
    seconds: float
    memory_mb: float  # resident
    files: int  # open
    threads: int
    processes: int  # with its children


def sampled(process: "subprocess.Popen[str]", done: Callable[[], int]) -> list[Sample]:
    """What a process holds, from whenever another unit is done, until it ends; raises RuntimeError if it fails."""
    began, found, last = time.perf_counter(), [], -1
    while process.poll() is None:
        if (now := done()) > last:
            try:
                held = _held(process.pid)
            except FileNotFoundError:
                break  # it has ended in this moment
            found.append(Sample(now, time.perf_counter() - began, *held))
            last = now
        time.sleep(0.01)
    if process.wait():
        raise RuntimeError(f"ended with {process.returncode}: {process.stderr.read() if process.stderr else ''}")
    return found


def _held(pid: int) -> tuple[float, int, int, int]:
    proc = Path("/proc") / str(pid)
    pages = int((proc / "statm").read_text().split()[1])
    children = (proc / "task" / str(pid) / "children").read_text().split()
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return memory, len(os.listdir(proc / "fd")), len(os.listdir(proc / "task")), 1 + len(children)


def summary(samples: list[Sample], total: int) -> dict[str, Any]:
    """The first sample after warming up and the last, and the most that was ever held between them."""
    warm = [sample for sample in samples if sample.done >= min(WARM, total // 4)] or samples[-1:]
    first, last = warm[0], warm[-1]
    half = len(warm) // 2
    means = [float(np.mean([sample.memory_mb for sample in part])) for part in (warm[: half + 1], warm[half:])]
    return {
        "units": total,
        "samples": len(warm),
        "first": asdict(first),
        "last": asdict(last),
        "memory_mb_first_half": means[0],
        "memory_mb_second_half": means[1],
        "most": {name: max(getattr(sample, name) for sample in warm) for name in ("memory_mb", *COUNTS)},
        "least": {name: min(getattr(sample, name) for sample in warm) for name in ("memory_mb", *COUNTS)},
    }


COUNTS = ("files", "threads", "processes")


def write_faces(root: Path, identities: int) -> Path:
    """A folder of identities; the images are few, and repeat."""
    draw = np.random.default_rng(0)
    images = []
    for _ in range(EACH):
        stream = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(stream, "JPEG")
        images.append(stream.getvalue())
    for number in range(identities):
        folder = root / f"{number:06}"
        folder.mkdir(parents=True)
        for face, image in enumerate(images):
            (folder / f"{face:02}.jpg").write_bytes(image)
    return root


def write_network(path: Path) -> Path:
    """A network of two products."""
    draw = np.random.default_rng(0)
    shapes = {"w": (16, 3, 3, 3), "v": (64, 16)}
    weights = {name: draw.standard_normal(shape).astype(np.float32) * np.float32(0.1) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["out"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "soak",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def start(*command: str | Path) -> "subprocess.Popen[str]":
    """A process on one thread."""
    environment = {**os.environ, **record.ONE_THREAD}
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def count_in(folder: Path) -> Callable[[], int]:
    """A function that counts the finished files in a folder."""

    def count() -> int:
        if not folder.is_dir():
            return 0
        return sum(name.endswith(".parquet") and ".dropped." not in name for name in os.listdir(folder))

    return count


def main() -> None:
    """Write the result."""
    parser = record.arguments(__doc__, "soak")
    parser.add_argument("--shards", type=int, default=1_100, help="shards to embed")
    parser.add_argument("--selections", type=int, default=400, help="subsets to choose, all in one process")
    asked = parser.parse_args()
    shards, selections = (200, 12) if asked.smoke else (asked.shards, asked.selections)
    with record.folder_for(None) as folder:
        faces, network = write_faces(folder / "faces", shards), write_network(folder / "net.onnx")
        store, subsets = folder / "store", folder / "subsets"
        embed = start(*record.FACECORE, "embed", faces, "--model", network, "--out", store, "--shard-rows", str(EACH))
        embedded = sampled(embed, count_in(store / "metadata"))
        few = write_faces(folder / "few", SELECTED_FROM)
        record.child(*record.FACECORE, "embed", few, "--model", network, "--out", folder / "small")
        again = start(sys.executable, "-c", _SELECT, folder / "small", subsets, str(selections))
        selected = sampled(again, count_in(subsets))
    facts = {"faces": shards * EACH, "embed": summary(embedded, shards), "nms": summary(selected, selections)}
    record.write_result(asked.out, facts)


if __name__ == "__main__":
    main()
