"""How small a proxy will do: what proxies keep that learnt from a share of the identities, and what is learnt from it.

python benchmarks/proxies.py proxies/agreement.json 0.1=scratch/0.1 0.3=scratch/0.3 1=scratch/1 teacher=scratch/all

The first argument is what pipelines/proxy_share.py wrote; the others are shares, or `teacher`, and folders that
pipelines/from_scratch.py filled from their stores.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from click.testing import CliRunner
from record import arguments, recipe, write_result
from sources import example
from which_rank import found

from facecore.embed import EmbedOptions, embed
from facecore.readers import open_dataset

TEACHER = "teacher"


def collected(agreement: Mapping[str, Any], learnt: Mapping[str, Path]) -> dict[str, Any]:
    """A row a proxy and method, and the teacher's."""
    agree = {(f"{of['identities']:g}", of["method"]): of["agree"] for of in agreement["rows"]}
    keeps, methods = (
        {of["keep"] for of in agreement["rows"]},
        list(dict.fromkeys(of["method"] for of in agreement["rows"])),
    )
    (keep,) = keeps
    pools = {name: found(name, [folder]) for name, folder in learnt.items()}
    rows = []
    for proxy in dict.fromkeys([*(share for share, _ in agree), *pools]):
        learnt_from = reversed(pools[proxy]["rows"]) if proxy in pools else ()  # so that the longest training counts
        of_proxy = {of["method"]: of for of in learnt_from if of["keep"] == keep}
        for method in methods:
            of = of_proxy.get(method, {"seeds": 0, "accuracy": None, "accuracy_half": None})
            figures = {name: of[name] for name in ("seeds", "accuracy", "accuracy_half")}
            rows.append({"proxy": proxy, "method": method, "agree": agree.get((proxy, method)), **figures})
    protocol = ", ".join(sorted({pool["protocol"] for pool in pools.values()}))
    return {"faces_in_all": agreement["faces"], "keep": keep, "protocol": protocol, "rows": rows}


def smallest(folder: Path) -> tuple[Path, dict[str, Path]]:
    """An agreement and what was learnt, for tests of this script."""
    given = example(folder)
    images, network, pairs = folder / "grey", folder / "network.onnx", given[given.index("--verify") + 1]
    embed(open_dataset(images), network, folder / "store", EmbedOptions())
    short = ["--steps", "1", "--batch-size", "4", "--methods", "nms", "--keep", "0.5"]
    learn = ["--images", images, "--verify", pairs, "--seeds", "1"]
    for name, command in (
        ("proxy_share", [images, folder / "store", folder / "out", "--shares", "1"]),
        ("from_scratch", [folder / "out" / "1-1" / "store", folder / "learnt", *learn]),
    ):
        done = CliRunner().invoke(recipe(name).main, [*map(str, command), *short], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return folder / "out" / "agreement.json", {"1": folder / "learnt"}


def main() -> None:
    """Collect and write the result."""
    parser = arguments(__doc__, "proxies")
    parser.add_argument("agreement", nargs="?", type=Path)
    parser.add_argument("learnt", nargs="*", metavar="SHARE=FOLDER")
    given = parser.parse_args()
    with TemporaryDirectory() as temporary:
        agreement = given.agreement
        learnt = {name: Path(folder) for name, folder in (text.split("=", 1) for text in given.learnt)}
        if given.smoke:
            agreement, learnt = smallest(Path(temporary))
        result = collected(json.loads(agreement.read_text(encoding="utf-8")), learnt)
    write_result(given.out, result)


if __name__ == "__main__":
    main()
