"""What a selection saves: training on the whole pool against training on a part of it for as many epochs.

python benchmarks/headline.py IMAGES --model M --points scratch/swollen,scratch/swollen-240

Every command is measured whole, in turns. Accuracies are those that pipelines/from_scratch.py found in the folders of
--points: all faces at --steps, a part of them at that part of the steps.
"""

import json
import statistics
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from record import FACECORE, Run, arguments, child, folder_for, in_turns, recipe, write_result
from sources import example
from which_rank import found

from facecore.embed import EmbedOptions, embed
from facecore.readers import open_dataset
from facecore.select import faces_to_keep

EPOCHS = 20  # of the longer trainings that are computed: as the field trains
MARGIN = ("--scale", "32", "--margin", "0.2")  # as pipelines/from_scratch.py


class Commands:
    """The commands that are measured, on one pool."""

    def __init__(self, given: Namespace, folder: Path) -> None:
        self._given, self._folder = given, folder

    def embed(self) -> Run:
        """By the network given."""
        return self._run("embed", self._given.images, "--model", self._given.model, "--out", self._folder / "store")

    def nms(self) -> Run:
        """The part, from the store that embed wrote."""
        out = ("--out", self._folder / "subset.parquet", "--min-per-identity", 0)
        return self._run("nms", "--embeddings", self._folder / "store", "--keep", self._given.keep, *out)

    def whole(self) -> Run:
        """Training on all faces."""
        return self._train("tiny", "whole", self._given.steps, self._given.images)

    def part(self) -> Run:
        """Training on the part for as many epochs."""
        steps = round(self._given.keep * self._given.steps)
        return self._train("tiny", "part", steps, "--manifest", self._folder / "subset.parquet")

    def small_proxy(self) -> Run:
        """Embedding by the network that was just trained."""
        network = self._folder / "whole" / "backbone.onnx"
        return self._run("embed", self._given.images, "--model", network, "--out", self._folder / "small")

    def larger(self) -> Run:
        """A few steps of a larger network, for what a face costs it."""
        return self._train(self._given.larger, "larger", self._given.larger_steps, self._given.images)

    def seconds_a_face(self, name: str) -> float:
        """What one face costs the last training of a name, its start left out."""
        report = json.loads((self._folder / name / "report.json").read_text(encoding="utf-8"))
        return float(sum(report["seconds"].values()) / (report["steps"] * self._given.batch_size))

    def _train(self, arch: str, name: str, steps: int, *data: object) -> Run:
        how = ("--arch", arch, "--steps", steps, "--batch-size", self._given.batch_size, *MARGIN)
        return self._run("train", *data, *how, "--out", self._folder / name)

    def _run(self, *words: object) -> Run:
        return child(*FACECORE, *map(str, words), "--overwrite")


def measure(given: Namespace, folder: Path) -> dict[str, Any]:
    """The seconds of every command, what is saved, and what accuracy is left."""
    of = Commands(given, folder)
    works = {
        "embed": of.embed,
        "nms": of.nms,
        "train_whole": of.whole,
        "train_part": of.part,
        "embed_by_tiny": of.small_proxy,
    }
    runs = dict(zip(works, in_turns(given.turns, *works.values()), strict=True))
    seconds = {name: statistics.median(run.wall for run in each) for name, each in runs.items()}
    of.larger()
    pool = found("pool", [Path(path) for path in given.points.split(",")])
    (whole,) = (row for row in pool["rows"] if (row["keep"], row["steps"]) == (1, given.steps))
    steps = round(given.keep * given.steps)
    part = [row for row in pool["rows"] if (row["keep"], row["steps"]) == (given.keep, steps)]
    selections = {
        "the network given": seconds["embed"] + seconds["nms"],
        "tiny": seconds["embed_by_tiny"] + seconds["nms"],
    }
    return {
        **{"faces_in_all": whole["faces"], "kept": faces_to_keep(given.keep, whole["faces"]), "keep": given.keep},
        **{"steps": given.steps, "protocol": pool["protocol"], "seconds": seconds},
        "selection": selections["the network given"],
        "methods": [{**row, "relative": 100 * row["accuracy"] / whole["accuracy"]} for row in part],
        "longer": [
            {"network": arch, "epochs": EPOCHS, "proxy": proxy, **_saved(cost * EPOCHS * whole["faces"], given, more)}
            for arch, cost in (("tiny", of.seconds_a_face("whole")), (given.larger, of.seconds_a_face("larger")))
            for proxy, more in selections.items()
        ],
    }


def _saved(whole: float, given: Namespace, selection: float) -> dict[str, float]:
    """How many times as fast a training of so many seconds gets."""
    return {"not_counted": 1 / given.keep, "counted": whole / (given.keep * whole + selection)}


def smallest(folder: Path) -> list[str]:
    """Arguments for tests of this script."""
    given = example(folder)
    images, network, pairs = folder / "grey", folder / "network.onnx", given[given.index("--verify") + 1]
    embed(open_dataset(images), network, folder / "store", EmbedOptions())
    for keep, steps in ((1, 2), (0.5, 1)):
        learn = [
            "--images",
            images,
            "--verify",
            pairs,
            "--seeds",
            1,
            "--batch-size",
            4,
            "--keep",
            keep,
            "--steps",
            steps,
        ]
        command = [str(word) for word in (folder / "store", folder / "points", *learn)]
        done = CliRunner().invoke(recipe("from_scratch").main, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    data = [str(images), "--model", str(network), "--points", str(folder / "points"), "--turns", "1"]
    return [*data, "--keep", "0.5", "--steps", "2", "--larger", "tiny", "--larger-steps", "1", "--batch-size", "4"]


def options() -> ArgumentParser:
    """The options of this benchmark."""
    parser = arguments(__doc__, "headline", turns=3)
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--points", metavar="FOLDER[,FOLDER]")
    parser.add_argument("--keep", type=float, default=0.6)
    parser.add_argument("--steps", type=int, default=400, help="on the whole pool")
    parser.add_argument("--larger", default="mbf", help="network whose longer training is computed")
    parser.add_argument("--larger-steps", type=int, default=10, help="that are run of it")
    parser.add_argument("--batch-size", type=int, default=64)
    return parser


def main() -> None:
    """Measure and write the result."""
    given = options().parse_args()
    with folder_for(given.folder) as folder:
        if given.smoke:
            given = options().parse_args(["--out", str(given.out), *smallest(folder)])
        write_result(given.out, measure(given, folder))


if __name__ == "__main__":
    main()
