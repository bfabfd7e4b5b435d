"""What a user would pick instead: time, memory, exactness, and what becomes of planted near-duplicates.

python benchmarks/rivals_100k.py [--turns 2] [--semhash-python PYTHON] [--only NAME ...] [--folder DIR]

85,000 distinct faces of 5,000 identities and 15,000 near-duplicates of them (cosine 0.955 to 0.995), of which 60 % are
to stay. Every method is a process of its own, from its start to the written result, on one thread; methods take turns,
and of several turns the first, in which ours compiles, does not count. semhash is no dependency: name a Python that
has it. For every method, beside what it took:

    kept             how many of the faces stay; 60,000 are asked for
    broken           planted pairs of which at most one stays
    lost_pairs       planted pairs of which none stays
    lost_faces       distinct faces of which neither the face nor its near-duplicate stays
    lost_identities  identities without any face left
    cover            mean cosine of a dropped face to its nearest kept one of its identity, where there is one
    reproducible     whether all turns kept the same faces
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
from foreign import METHODS
from generator import planted
from record import FACECORE, ONE_THREAD, Run, arguments, child, folder_for, medians, write_result

from facecore.embeddings import Embeddings, vectors_path, write_meta, write_shard
from facecore.provenance import Provenance
from facecore.select import SELECTORS
from facecore.select.ranks import RANKS

KEEP = 0.6
FULL = {"faces": 100_000, "identities": 5_000, "pairs": 15_000}
SMOKE = ("nms --rank identity", "numpy", "k-center")

Kept = npt.NDArray[np.bool_]
Method = Callable[["Planted"], tuple[Run, Kept]]


@dataclass(frozen=True)
class Planted:
    """The input of all methods, on disk and in memory."""

    folder: Path
    store: Embeddings
    rows: npt.NDArray[np.float32]  # (n, d), unit
    identity: npt.NDArray[np.int64]  # (n,), sorted
    pairs: npt.NDArray[np.int64]  # (pairs, 2), an original and its near-duplicate


def prepare(folder: Path, *, faces: int, identities: int, pairs: int) -> Planted:
    """Generate the faces and write them, as a store and as plain arrays."""
    store = folder / "planted"
    halves, table, pair_rows = planted(0, faces, identities, pairs)
    write_shard(store, 0, halves, table, Provenance("benchmark"))
    write_meta(store, {"root": "", "format": "generated"}, dimension=halves.shape[1], shards=1)
    identity = table["identity"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    np.save(folder / "identity.npy", identity)
    rows = halves.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Planted(folder, Embeddings.open(store), rows, identity, pair_rows)


def ours(given: Planted, *, command: str) -> tuple[Run, Kept]:
    """Run one command of ours, such as `nms --rank identity`."""
    subset = given.folder / "subset.parquet"
    options = ("--keep", KEEP, "--embeddings", given.store.path, "--out", subset, "--overwrite", "--threads", 1)
    run = child(*FACECORE, *command.split(), *map(str, options), environment=ONE_THREAD)
    kept = pq.read_table(subset, columns=["face_id"])["face_id"]
    return run, pc.is_in(given.store.faces(0)["face_id"], value_set=kept).to_numpy()


def theirs(given: Planted, *, method: str, python: str) -> tuple[Run, Kept]:
    """Run one foreign method."""
    script, out = Path(__file__).with_name("foreign.py"), given.folder / "kept.npy"
    files = (vectors_path(given.store.path, 0), given.folder / "identity.npy", out)
    run = child(python, script, method, *files, "--keep", str(KEEP), environment=ONE_THREAD)
    return run, np.load(out)


def judge(given: Planted, kept: Kept) -> dict[str, Any]:
    """What a choice of faces is worth."""
    stays = kept[given.pairs]  # (pairs, 2)
    twin = np.zeros(len(kept), np.bool_)
    twin[given.pairs[:, 1]] = True
    content = kept & ~twin
    content[given.pairs[:, 0]] |= stays[:, 1]  # a near-duplicate stands for its original
    found = np.bincount(given.identity, weights=kept)
    return {
        "kept": int(kept.sum()),
        "broken": int((~stays.all(axis=1)).sum()),
        "lost_pairs": int((~stays.any(axis=1)).sum()),
        "lost_faces": int((~content & ~twin).sum()),
        "lost_identities": int((found == 0).sum()),
        "cover": cover(given, kept),
    }


def cover(given: Planted, kept: Kept) -> float:
    """The mean cosine of a dropped face to its nearest kept one, over identities that keep any."""
    nearest = []
    for a, b in itertools.pairwise(np.flatnonzero(np.diff(given.identity, prepend=-1, append=-1)).tolist()):
        stays = kept[a:b]
        if stays.any() and not stays.all():
            nearest.append((given.rows[a:b][~stays] @ given.rows[a:b][stays].T).max(axis=1))
    return float(np.concatenate(nearest).mean())


def methods(semhash_python: str | None) -> dict[str, Method]:
    """All methods, by name: our commands, and foreign ones."""
    commands = [*(f"nms --rank {rank}" for rank in RANKS), "nms --rank identity --nested"]
    # diffprob needs the probability that a classifier gives every face, which generated faces lack.
    commands += [f"select {name}" for name in SELECTORS if name not in ("nms", "diffprob")]
    pythons = {name: semhash_python if name == "semhash" else sys.executable for name in METHODS}
    foreign = {name: partial(theirs, method=name, python=python) for name, python in pythons.items() if python}
    return {**{command: partial(ours, command=command) for command in commands}, **foreign}


def summary(given: Planted, turns: Sequence[tuple[Run, Kept]]) -> dict[str, Any]:
    """What a method took, the first of several turns left out, and what its choice is worth."""
    runs, (kept, *others) = [run for run, _ in turns], [kept for _, kept in turns]
    same = all(np.array_equal(kept, other) for other in others) if others else None
    return {**medians(runs[1:] or runs), **judge(given, kept), "reproducible": same}


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "rivals_100k", turns=2)
    parser.add_argument("--semhash-python", help="a Python that has the package semhash")
    parser.add_argument("--only", nargs="+", help="names of methods")
    given = parser.parse_args()
    only, turns = (SMOKE, 1) if given.smoke else (given.only, given.turns)
    size = {"faces": 2_000, "identities": 100, "pairs": 300} if given.smoke else FULL
    chosen = {name: method for name, method in methods(given.semhash_python).items() if not only or name in only}
    with folder_for(given.folder) as folder:
        faces = prepare(folder, **size)
        runs = [{name: method(faces) for name, method in chosen.items()} for _ in range(turns)]
        found = [{"name": name, **summary(faces, [turn[name] for turn in runs])} for name in chosen]
    skipped = {} if given.semhash_python else {"semhash": "no dependency; --semhash-python names a Python that has it"}
    asked = round(KEEP * size["faces"])
    write_result(given.out, {**size, "asked": asked, "turns": turns, "methods": found, "skipped": skipped})


if __name__ == "__main__":
    main()
