"""A line of CSV for every step, there as soon as the step is done."""

import csv
from itertools import islice
from pathlib import Path

from facecore.errors import DataError
from facecore.provenance import filling, written_whole
from facecore.train.loop import Learnt

HEAD = ("step", "epoch", "learning_rate", "loss", "gradient_norm")


class Log:
    """log.csv, cut back to the steps that a run goes on from."""

    def __init__(self, path: Path, steps: int) -> None:
        """Keep the lines of the first steps; raises DataError if they are not all there."""
        if steps:
            self._cut(path, steps)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(HEAD) + "\n", encoding="utf-8")
        self._path = path
        self._file = path.open("a", encoding="utf-8", newline="", buffering=1)  # a line at a time
        self._writer = csv.writer(self._file, lineterminator="\n")

    def _cut(self, path: Path, steps: int) -> None:
        lines = []
        if path.is_file():
            with path.open(encoding="utf-8") as stream:
                lines = list(islice(stream, steps + 1))
        if len(lines) < steps + 1:
            raise DataError(f"{path} lacks lines of the {steps:,} steps of the checkpoint beside it; delete both")
        with written_whole(path) as part:
            part.write_text("".join(lines), encoding="utf-8")

    def write(self, step: int, epoch: float, learnt: Learnt) -> None:
        """Add a step, the first of which is 1."""
        with filling(self._path):
            self._writer.writerow([step, f"{epoch:.4f}", repr(learnt.rate), repr(learnt.loss), repr(learnt.gradient)])

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
