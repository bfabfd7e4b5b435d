"""Whom selections drop: the share kept of every group of faces.

python benchmarks/fairness.py LFW=subset.parquet,lfw/images CFP=subset.parquet,cfp/images,frontal,profile

Each argument is the name of a pool, a subset of it, the root of its images, and texts that the sources of groups hold.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from click.testing import CliRunner
from record import arguments, recipe, write_result
from sources import example

from facecore.embed import EmbedOptions, embed
from facecore.manifest import provenance_of
from facecore.readers import open_dataset
from facecore.select import Nms, select


def found(name: str, subset: Path, images: Path, parts: list[str], folder: Path) -> dict[str, Any]:
    """What pipelines/who_is_dropped.py says of one subset, and how the subset was made."""
    out = folder / "found.json"
    command = [str(subset), "--images", str(images), "--out", str(out), *(f"--part={part}" for part in parts)]
    CliRunner().invoke(recipe("who_is_dropped").main, command, catch_exceptions=False)
    made = provenance_of(subset)
    if made is None:
        raise SystemExit(f"{subset} does not say how it was made; give one that facecore wrote")
    way = {key: made.options.get(key) for key in ("keep", "rank", "min_share")}
    told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {"pool": name, "method": made.stage, **way, **told}


def smallest(folder: Path) -> str:
    """An argument, for tests of this script."""
    given = example(folder)
    embed(open_dataset(folder / "grey"), Path(given[given.index("--model") + 1]), folder / "store", EmbedOptions())
    select(folder / "store", Nms(), keep=0.5, out=folder / "subset.parquet")
    return f"grey={folder / 'subset.parquet'},{folder / 'grey'},p0"


def main() -> None:
    """Look at every subset and write the result."""
    parser = arguments(__doc__, "fairness")
    parser.add_argument("subsets", nargs="*", metavar="NAME=SUBSET,IMAGES[,PART]...")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subsets = []
        for text in [smallest(folder)] if given.smoke else given.subsets:
            name, _, places = text.partition("=")
            subset, images, *parts = places.split(",")
            subsets.append(found(name, Path(subset), Path(images), parts, folder))
    write_result(given.out, {"subsets": subsets})


if __name__ == "__main__":
    main()
