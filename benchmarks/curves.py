"""Accuracy against the fraction of the data: what finished sweeps of `facecore curve` found, side by side.

python benchmarks/curves.py LFW=curve-lfw CFP=curve-cfp "CFP, equal epochs=curve-cfp-epochs"

Each argument is the name of a pool of faces and the folder of a sweep over it. The plots are kept beside the result.
--add-to RESULT.json keeps what an earlier result holds of other pools.
"""

import csv
import json
import re
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from record import RESULTS, arguments, write_result
from sources import example

from facecore.accuracy import Check
from facecore.curve import CurveOptions, Store, Sweep, curve
from facecore.embed import EmbedOptions, embed
from facecore.manifest import provenance_of
from facecore.quantize import QuantizeOptions
from facecore.readers import open_dataset

REFERENCES = ("teacher", "calibrated")


def found(name: str, folder: Path) -> dict[str, Any]:
    """The means over seeds of one sweep, and what is above random."""
    rows = pq.read_table(folder / "curve.parquet").to_pylist()
    made = provenance_of(folder / "curve.parquet")
    assert made is not None, "facecore curve records how"
    with (folder / "differences.csv").open(encoding="utf-8", newline="") as stream:
        differences = list(csv.DictReader(stream))
    places = sorted(
        {(row["protocol"], row["fraction"], row["method"]) for row in rows if row["method"] not in REFERENCES}
    )
    points = []
    for place in places:
        at = [row for row in rows if (row["protocol"], row["fraction"], row["method"]) == place]
        names = dict(zip(("protocol", "fraction", "method"), place, strict=True))
        means = {of: statistics.mean(row[of] for row in at) for of in ("accuracy", "points_lost", "seconds_quantize")}
        points.append({**names, "faces": at[0]["faces"], "seeds": len(at), **means})
    return {
        "pool": name,
        "bits": made.options["bits"],
        **{of: made.options[of] for of in ("budget", "steps", "epochs")},
        "references": [row for row in rows if row["method"] in REFERENCES],
        "points": points,
        "differences": differences,
    }


def smallest_sweep(folder: Path) -> Path:
    """A sweep for tests of this script."""
    given = example(folder)
    images, network, pairs = folder / "grey", folder / "network.onnx", given[given.index("--verify") + 1]
    embed(open_dataset(images), network, folder / "store", EmbedOptions())
    options = CurveOptions((1.0,), seeds=1, quantize=QuantizeOptions(steps=1, batch_size=4))
    pool = Store(folder / "store", ("nms", "random"), 0)
    curve(Sweep(pool, network, folder / "curve", options, (Check.parse(pairs),)))
    return folder / "curve"


def main() -> None:
    """Collect and write the result."""
    parser = arguments(__doc__, "curves")
    parser.add_argument("sweeps", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--add-to", type=Path, metavar="RESULT.json")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folders = {name: Path(folder) for name, folder in (text.split("=", 1) for text in given.sweeps)}
        if given.smoke:
            folders = {"grey": smallest_sweep(Path(temporary))}
        earlier = json.loads(given.add_to.read_text())["pools"] if given.add_to else []
        pools = [of for of in earlier if of["pool"] not in folders]
        pools += [found(name, folder) for name, folder in folders.items()]
        for name, folder in folders.items():
            if given.out.parent == RESULTS:
                for kind in ("png", "csv"):
                    called = re.sub(r"\W+", "_", name.lower())
                    shutil.copyfile(folder / f"curve.{kind}", RESULTS / f"curve_{called}.{kind}")
    write_result(given.out, {"pools": pools})


if __name__ == "__main__":
    main()
