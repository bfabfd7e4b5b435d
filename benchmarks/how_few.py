"""How few faces will do: what networks lose that were quantized on more and more faces.

python benchmarks/how_few.py FOLDER [FOLDER ...]

The folders are those that pipelines/small_data.py filled, complete or not. --add-to RESULT.json counts what an earlier
result was made of, too; the folders must then hold other points.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from click.testing import CliRunner
from record import arguments, recipe, write_result
from sources import example

from facecore.embed import EmbedOptions, embed
from facecore.readers import open_dataset

SAME = ("bits", "faces", "loss", "method")  # points that differ in their seed alone
LOST = {"points_lost": "fine_tuned", "points_lost_calibrated": "calibrated"}  # after which stage


def found(folders: Sequence[Path], earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The means over seeds, in points of accuracy lost; those of `earlier` count as often as they have seeds."""
    read = [json.loads(path.read_text(encoding="utf-8")) for of in folders for path in sorted(of.glob("*/point.json"))]
    known = earlier["points"] if earlier else []
    if len({(of["protocol"], of["steps"]) for of in [*read, *([earlier] if earlier else [])]}) != 1:
        raise SystemExit(
            f"{', '.join(map(str, folders))}: no points, or points of other steps or protocols; tell those apart"
        )
    points = [*known, *({**point, "seeds": 1, **_lost(point["accuracy"])} for point in read)]
    rows = []
    for way in dict.fromkeys(tuple(point[name] for name in SAME) for point in points):
        at = [point for point in points if tuple(point[name] for name in SAME) == way]
        seeds = [point["seeds"] for point in at]
        lost = {name: statistics.fmean([point[name] for point in at], seeds) for name in LOST}
        rows.append({**dict(zip(SAME, way, strict=True)), "seeds": sum(seeds), **lost})
    of = earlier or read[0]
    return {"protocol": of["protocol"], "steps": of["steps"], "points": rows}


def _lost(accuracy: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: 100 * (accuracy["float"]["accuracy"] - accuracy[stage]["accuracy"]) for name, stage in LOST.items()}


def smallest(folder: Path) -> Path:
    """A folder as the recipe leaves it, for tests of this script."""
    given = example(folder)
    network, pairs = given[given.index("--model") + 1], given[given.index("--verify") + 1]
    embed(open_dataset(folder / "grey"), Path(network), folder / "store", EmbedOptions())
    short = ["--faces", "12", "--methods", "random", "--losses", "cosine", "--steps", "1"]
    command = [str(folder / "store"), str(folder / "out"), "--model", network, "--images", str(folder / "grey")]
    done = CliRunner().invoke(recipe("small_data").main, [*command, "--verify", pairs, *short], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "out"


def main() -> None:
    """Collect and write the result."""
    parser = arguments(__doc__, "how_few")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--add-to", type=Path, metavar="RESULT.json")
    given = parser.parse_args()
    if not (given.smoke or given.folders):
        parser.error("name folders that pipelines/small_data.py filled")
    with TemporaryDirectory() as temporary:
        earlier = json.loads(given.add_to.read_text(encoding="utf-8")) if given.add_to else None
        result = found([smallest(Path(temporary))] if given.smoke else given.folders, earlier)
    write_result(given.out, result)


if __name__ == "__main__":
    main()
