"""How few faces will do: what networks lose that were quantized on more and more faces.

python benchmarks/how_few.py FOLDER [FOLDER ...]

The folders are those that pipelines/small_data.py filled, complete or not.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from click.testing import CliRunner
from record import arguments, recipe, write_result
from sources import example

from facecore.embed import EmbedOptions, embed
from facecore.readers import open_dataset

SAME = ("bits", "faces", "loss", "method")  # points that differ in their seed alone


def found(folders: Sequence[Path]) -> dict[str, Any]:
    """The means over seeds, in points of accuracy lost."""
    points = [
        json.loads(path.read_text(encoding="utf-8")) for of in folders for path in sorted(of.glob("*/point.json"))
    ]
    if len({(point["protocol"], point["steps"]) for point in points}) != 1:
        raise SystemExit(
            f"{', '.join(map(str, folders))}: no points, or points of other steps or protocols; tell those apart"
        )
    rows = []
    for way in dict.fromkeys(tuple(point[name] for name in SAME) for point in points):
        at = [point["accuracy"] for point in points if tuple(point[name] for name in SAME) == way]
        lost = {
            name: statistics.mean(100 * (of["float"]["accuracy"] - of[stage]["accuracy"]) for of in at)
            for name, stage in (("points_lost", "fine_tuned"), ("points_lost_calibrated", "calibrated"))
        }
        rows.append({**dict(zip(SAME, way, strict=True)), "seeds": len(at), **lost})
    return {"protocol": points[0]["protocol"], "steps": points[0]["steps"], "points": rows}


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
    given = parser.parse_args()
    if not (given.smoke or given.folders):
        parser.error("name folders that pipelines/small_data.py filled")
    with TemporaryDirectory() as temporary:
        result = found([smallest(Path(temporary))] if given.smoke else given.folders)
    write_result(given.out, result)


if __name__ == "__main__":
    main()
