"""What a small network learns from scratch from the faces that each method keeps.

python benchmarks/which_rank.py CFP=scratch/cfp "CFP, swollen=scratch/swollen,scratch/swollen-240"

Each argument is the name of a pool of faces and folders that pipelines/from_scratch.py filled, complete or not. Points
of one pool may differ in their steps; each is compared with as many random faces at as many steps, and with the whole
pool for as many epochs and for as many steps, where that was run. --add-to RESULT.json counts the points that an
earlier result holds, too; the folders may then hold the new ones alone.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from click.testing import CliRunner
from learnt import PER_IDENTITY
from record import arguments, recipe, write_result
from sources import example

from facecore.curve.options import ALL
from facecore.curve.pools import RANDOM
from facecore.curve.statistics import Interval, over_seeds, paired_difference
from facecore.embed import EmbedOptions, embed
from facecore.manifest import read_manifest
from facecore.readers import open_dataset
from facecore.select import Nms

PLANTED = r"_burst\d+"  # what pipelines/swell.py adds to a face's name for its near-duplicates

Folds = dict[int, npt.NDArray[np.float64]]  # by seed, the accuracy of every fold in %


class Place(NamedTuple):
    """Where points can be compared: the same number of faces of one pool, trained on for as many steps."""

    keep: float
    steps: int


def found(name: str, folders: Sequence[Path], earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The means over seeds of one pool, best first at each place; a point counts instead of the same in `earlier`."""
    read = [_read(path) for of in folders for path in sorted(of.glob("*/point.json"))]
    verified = [point for point in read if "accuracy" in point]
    points = list({_what(point): point for point in [*_points_of(earlier or {"rows": []}), *verified]}.values())
    by_place = {(Place(point["fraction"], point["steps"]), point["method"]) for point in points}
    floors = {(place, point["min_per_identity"]) for place, _ in by_place for point in _at(points, place)}
    if len({point["protocol"] for point in points}) != 1 or len(floors) > len({place for place, _ in by_place}):
        raise SystemExit(f"{name}: no points, or points of other protocols or floors; give those names of their own")
    rows = []
    for place, method in sorted(by_place):
        ours, random, each, default = (_folds(points, place, of) for of in (method, RANDOM, PER_IDENTITY, Nms.name))
        faces = next(point["faces"] for point in points if point["fraction"] == place.keep)
        rows.append(
            {
                **{"method": method, **place._asdict(), "faces": faces, "seeds": len(ours)},
                "min_per_identity": _at(points, place, method)[0]["min_per_identity"],
                **{of: _median(points, place, method, of) for of in ("pictures", "max_cosine")},
                **_told("accuracy", over_seeds(np.array([of.mean() for of in ours.values()]))),
                **(_told("above_random", _above(ours, random)) if method not in (ALL, RANDOM) else {}),
                **(_told("above_random_per_identity", _above(ours, each)) if method not in (ALL, PER_IDENTITY) else {}),
                **(_told("above_nms", _above(ours, default)) if method not in (ALL, Nms.name) else {}),
                **_told("above_whole_epochs", _above_whole(points, ours, round(place.steps / place.keep), method)),
                **_told("above_whole_steps", _above_whole(points, ours, place.steps, method)),
                "folds": {seed: of.tolist() for seed, of in sorted(ours.items())},
            }
        )
    return {
        "pool": name,
        "protocol": points[0]["protocol"],
        "rows": sorted(rows, key=lambda row: (-row["keep"], -row["steps"], -row["accuracy"])),
    }


def _points_of(pool: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points that a result of this script was made of."""
    return [
        {
            **{key: row[key] for key in ("method", "steps", "faces", "min_per_identity", "pictures", "max_cosine")},
            **{"protocol": pool["protocol"], "fraction": row["keep"], "seed": int(seed)},
            "folds": [fold / 100 for fold in folds],
        }
        for row in pool["rows"]
        for seed, folds in row["folds"].items()
    ]


def _read(path: Path) -> dict[str, Any]:
    """A point, how many different pictures it learnt from, and the cosine from which on nms suppressed."""
    point: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    point["method"] += f", min-share {point['min_share']:g}" if point.get("min_share") else ""
    faces, made = read_manifest(path.with_name("subset.parquet"))
    pictures = pc.count_distinct(pc.replace_substring_regex(faces["face_id"], PLANTED, "")).as_py()
    return {
        **{**point, "pictures": pictures},
        "max_cosine": made.facts["max_cosine"] if made and made.stage == Nms.name else None,
    }


def _what(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point[key] for key in ("fraction", "steps", "method", "seed"))


def _at(points: Sequence[dict[str, Any]], place: Place, method: str | None = None) -> list[dict[str, Any]]:
    """The points of one place, or those that differ in their seed alone."""
    here = [point for point in points if (point["fraction"], point["steps"]) == place]
    return here if method is None else [point for point in here if point["method"] == method]


def _folds(points: Sequence[dict[str, Any]], place: Place, method: str) -> Folds:
    """As they are written, so that a result says what any later one makes of it."""
    return {point["seed"]: np.round(100 * np.array(point["folds"]), 4) for point in _at(points, place, method)}


def _median(points: Sequence[dict[str, Any]], place: Place, method: str, of: str) -> float | None:
    """The median over seeds, to four places, of those that have it."""
    found = [point[of] for point in _at(points, place, method) if point[of] is not None]
    return round(statistics.median(found), 4) if found else None


def _above(ours: Folds, theirs: Folds) -> Interval | None:
    """By how many points a method is above another, over the seeds that both have; one seed does not tell."""
    both = sorted(ours.keys() & theirs.keys())
    return (
        paired_difference(*(np.array([of[seed] for seed in both]) for of in (ours, theirs))) if len(both) > 1 else None
    )


def _above_whole(points: Sequence[dict[str, Any]], ours: Folds, steps: int, method: str) -> Interval | None:
    """By how many points a method is above all faces at so many steps."""
    return None if method == ALL else _above(ours, _folds(points, Place(1.0, steps), ALL))


def _told(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {name: interval.mean, f"{name}_half": interval.half} if interval else {}


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
    parser.add_argument("pools", nargs="*", metavar="NAME=FOLDER[,FOLDER]")
    parser.add_argument("--add-to", type=Path, metavar="RESULT.json")
    given = parser.parse_args()
    if not given.smoke and not ((given.pools or given.add_to) and all("=" in text for text in given.pools)):
        parser.error("name pools and their folders, such as CFP=scratch/cfp")
    with TemporaryDirectory() as temporary:
        folders = {name: of.split(",") for name, of in (text.split("=", 1) for text in given.pools)}
        if given.smoke:
            folders = {"grey": [str(smallest(Path(temporary)))]}
        earlier = {of["pool"]: of for of in json.loads(given.add_to.read_text())["pools"]} if given.add_to else {}
        names = dict.fromkeys((*earlier, *folders))
        pools = [found(name, [Path(of) for of in folders.get(name, ())], earlier.get(name)) for name in names]
    write_result(given.out, {"pools": pools})


if __name__ == "__main__":
    main()
