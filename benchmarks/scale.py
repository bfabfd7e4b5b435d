"""How selection grows with the number of faces, and what the line through it says of WebFace42M.

python benchmarks/scale.py [--sizes 1_000_000 2_000_000 4_000_000 8_000_000] [--rank identity] [--folder DIR]

Each size is measured as in select_speed, from a cold page cache. A size that the result holds already, for the same
commit without changes, is not measured again; one store grows from size to size.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from generator import write_store
from record import arguments, folder_for, made_with, write_result
from select_speed import measure

WEBFACE42M = 42_474_557
QUANTITIES = ("wall_seconds", "cpu_seconds", "peak_gb")


def fit(sizes: list[dict[str, Any]]) -> dict[str, Any]:
    """For each quantity the line through the sizes, its largest error in their range, and its value at WebFace42M."""
    faces = np.array([size["faces"] for size in sizes]) / 1e6
    lines = {}
    for name in QUANTITIES:
        values = np.array([size["nms"][name] for size in sizes])
        slope, constant = np.polyfit(faces, values, 1).tolist()
        lines[name] = {
            "constant": constant,
            "per_million_faces": slope,
            "largest_error": float(np.abs(constant + slope * faces - values).max()),
            "at_42_million": constant + slope * WEBFACE42M / 1e6,
        }
    return lines


def measured_before(path: Path, commit: str, rank: str) -> dict[int, dict[str, Any]]:
    """The sizes that a result holds already for this commit and rank, by number of faces."""
    if not path.is_file():
        return {}
    result = json.loads(path.read_text(encoding="utf-8"))
    if "dirty" in commit or result["made_with"]["commit"] != commit or result["rank"] != rank:
        return {}
    return {size["faces"]: size for size in result["sizes"]}


def main() -> None:
    """Measure size after size, writing the result after each."""
    parser = arguments(__doc__, "scale", turns=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 2_000_000, 4_000_000, 8_000_000])
    parser.add_argument("--rank", default="identity")
    given = parser.parse_args()
    done = measured_before(given.out, made_with()["commit"], given.rank)
    sizes: list[dict[str, Any]] = []
    with folder_for(given.folder) as folder:
        for faces in sorted([2_000, 4_000] if given.smoke else given.sizes):
            if faces not in done:
                store = write_store(folder / "store", faces=faces)
                found = measure(store, turns=1 if given.smoke else given.turns, rank=given.rank, cold=True)
                done[faces] = {"faces": faces, "identities": store.identities, **found}
            sizes.append(done[faces])
            lines = fit(sizes) if len(sizes) > 1 else None
            write_result(given.out, {"faces": faces, "rank": given.rank, "sizes": sizes, "fit": lines})


if __name__ == "__main__":
    main()
