"""What Face-NMS does to real faces: how many stay of each identity, and at which cosine.

python benchmarks/real_faces.py LFW=embeddings/lfw CFP=embeddings/cfp

Each argument is a name and an embedding store, made by facecore embed. Every rank is asked for the same 60 %.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from generator import write_store
from record import arguments, child, medians, write_result
from select_speed import KEEP, nms

from facecore.manifest import provenance_of
from facecore.select.ranks import RANKS

FACTS = ("faces", "identities", "kept", "identities_kept", "dropped", "max_cosine")


def measure(store: Path, subset: Path, rank: str) -> dict[str, Any]:
    """What one rank kept of a store, from the provenance of its subset, and what the command took."""
    run = child(*nms(store, rank, subset=subset))
    made = provenance_of(subset)
    assert made is not None
    return {"rank": rank, **medians([run]), **{name: made.facts[name] for name in FACTS}}


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "real_faces")
    parser.add_argument("stores", nargs="*", metavar="NAME=STORE")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stores = dict(text.split("=", 1) for text in given.stores)
        if given.smoke:
            stores = {"generated": write_store(folder / "store", faces=2_000).path}
        ranks = ["identity"] if given.smoke else list(RANKS)
        sets = [
            {"name": name, "ranks": [measure(Path(store), folder / "subset.parquet", rank) for rank in ranks]}
            for name, store in stores.items()
        ]
    faces = sum(of["ranks"][0]["faces"] for of in sets)
    write_result(given.out, {"faces": faces, "keep": KEEP, "sets": sets})


if __name__ == "__main__":
    main()
