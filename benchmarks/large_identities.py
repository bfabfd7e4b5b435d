"""What one very large identity among ordinary ones costs.

python benchmarks/large_identities.py [--faces 500_000] [--large 10_000 100_000] [--folder DIR]

The whole nms command, as a process of its own, on the same ordinary faces alone and with one large identity added, in
turns. `gram_gb` is what the Gram matrix of that identity would take in float32.
"""

from functools import partial

from generator import write_store
from record import arguments, child, folder_for, in_turns, medians, write_result
from select_speed import nms


def main() -> None:
    """Measure and write the result."""
    parser = arguments(__doc__, "large_identities", turns=4)
    parser.add_argument("--faces", type=int, default=500_000)
    parser.add_argument("--large", type=int, nargs="+", default=[10_000, 100_000])
    given = parser.parse_args()
    faces, large, turns = (2_000, [500], 1) if given.smoke else (given.faces, given.large, given.turns)
    with folder_for(given.folder) as folder:
        stores = [
            write_store(folder / f"with_{size}", faces=faces, large=[size] if size else []) for size in [0, *large]
        ]
        ordinary, *others = in_turns(turns, *(partial(child, *nms(store.path)) for store in stores))
    result = {
        "faces": faces,
        "ordinary": medians(ordinary),
        "with_large": [
            {"size": size, "gram_gb": 4 * size**2 / 1e9, **medians(taken)}
            for size, taken in zip(large, others, strict=True)
        ],
    }
    write_result(given.out, result)


if __name__ == "__main__":
    main()
