"""What a small network learns from scratch from the faces that each method keeps.

python benchmarks/which_rank.py CFP=scratch/cfp "CFP, swollen=scratch/swollen"

Each argument is the name of a pool of faces and a folder that pipelines/from_scratch.py filled, complete or not.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from click.testing import CliRunner
from record import arguments, recipe, write_result
from sources import example

from facecore.curve.pools import RANDOM
from facecore.curve.statistics import Interval, over_seeds, paired_difference
from facecore.embed import EmbedOptions, embed
from facecore.readers import open_dataset

Folds = dict[int, npt.NDArray[np.float64]]  # by seed, the accuracy of every fold in %


def found(name: str, folder: Path) -> dict[str, Any]:
    """The means over seeds of one pool, best first at each fraction, and what is above random."""
    points = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/point.json"))]
    if len({(point["protocol"], point["steps"], point["min_per_identity"]) for point in points}) != 1:
        raise SystemExit(f"{folder} holds no points, or points made otherwise than others; give them folders")
    rows = []
    for keep, method in dict.fromkeys((point["fraction"], point["method"]) for point in points):
        ours, random = (_folds(points, keep, one) for one in (method, RANDOM))
        at = [point for point in points if (point["fraction"], point["method"]) == (keep, method)]
        mean = over_seeds(np.array([of.mean() for of in ours.values()]))
        row = {"method": method, "keep": keep, "faces": at[0]["faces"], "seeds": len(ours), "accuracy": mean.mean}
        rows.append({**row, "half": mean.half, **_above(ours, random, method)})
    return {
        "pool": name,
        **{key: points[0][key] for key in ("protocol", "steps", "min_per_identity")},
        "rows": sorted(rows, key=lambda row: (-row["keep"], -row["accuracy"])),
    }


def _folds(points: Sequence[dict[str, Any]], keep: float, method: str) -> Folds:
    at = [point for point in points if (point["fraction"], point["method"]) == (keep, method)]
    return {point["seed"]: 100 * np.array(point["folds"]) for point in at}


def _above(ours: Folds, random: Folds, method: str) -> dict[str, Any]:
    """By how many points a method is above random faces, over the seeds that both have; one seed does not tell."""
    both = sorted(ours.keys() & random.keys())
    if method == RANDOM or len(both) < 2:
        return {}
    above: Interval = paired_difference(*(np.array([of[seed] for seed in both]) for of in (ours, random)))
    return {"above_random": above.mean, "above_random_half": above.half, "noise": above.is_noise}


def smallest(folder: Path) -> Path:
    """A folder as the recipe leaves it, for tests of this script."""
    given = example(folder)
    images, network, pairs = folder / "grey", folder / "network.onnx", given[given.index("--verify") + 1]
    embed(open_dataset(images), network, folder / "store", EmbedOptions())
    short = ["--steps", "1", "--batch-size", "4", "--seeds", "1"]
    command = [str(folder / "store"), str(folder / "out"), "--images", str(images), "--verify", pairs, *short]
    CliRunner().invoke(recipe("from_scratch").main, command, catch_exceptions=False)
    return folder / "out"


def main() -> None:
    """Collect and write the result."""
    parser = arguments(__doc__, "which_rank")
    parser.add_argument("pools", nargs="*", metavar="NAME=FOLDER")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folders = {name: Path(folder) for name, folder in (text.split("=", 1) for text in given.pools)}
        if given.smoke:
            folders = {"grey": smallest(Path(temporary))}
        pools = [found(name, folder) for name, folder in folders.items()]
    write_result(given.out, {"pools": pools})


if __name__ == "__main__":
    main()
