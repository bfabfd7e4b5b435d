"""The files of a selection shard by shard, see `select.parts`: what is there, what is missing, and a survey by them."""

import functools
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from facecore.embeddings import Embeddings, Shard
from facecore.embeddings.store import PIECE_ROWS
from facecore.errors import DataError, StorageError
from facecore.npy import load_npy
from facecore.provenance import (
    canonical_json,
    check_folder,
    sha256_of,
    sha256_of_file,
    write_text_whole,
    written_whole,
)
from facecore.select.run import Job, Stage
from facecore.select.selector import Ranked, Ranking
from facecore.select.survey import Lines, Survey, Table
from facecore.select.threshold import Threshold, threshold_at
from facecore.storage import is_remote, read_whole

MERGED = ("profile", "cut")


@dataclass(frozen=True)
class Step:
    """What there is to do now, and for which shards it is not done yet."""

    name: str
    shards: int  # of how many
    missing: tuple[int, ...]

    @property
    def merges(self) -> bool:
        """Whether `merge` comes next when nothing is missing; else another step does."""
        return self.name in MERGED


class Unfinished(Exception):
    """A look over the whole store that is not complete."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.name)
        self.step = step


class PartFiles:
    """The parts of one job."""

    def __init__(self, job: Job, faces: Embeddings) -> None:
        self.job, self.faces = job, faces
        rows = [int(entry["rows"]) for entry in faces.meta["shards"]]
        told = canonical_json([job.selector.name, job.options, faces.sha256, rows])
        self.root = job.parts
        self.path = self.root / sha256_of(told)[:16]
        self.surveyed, self.found = self.path / "survey.json", self.path / "threshold.json"

    def check_alone(self) -> None:
        """Raise DataError if there are parts of another job, or what is no folder is in the way."""
        check_folder(self.path)
        if self.root.exists() and any(path.name != self.path.name for path in self.root.iterdir()):
            raise DataError(
                f"{self.root} holds parts of other options or faces; give the options of then, choose another --out, "
                "or delete it"
            )

    def part(self, name: str, number: int) -> Path:
        """The file of one shard."""
        return self.path / f"{name}-{number:05d}.npz"

    def step(self, name: str, numbers: Iterable[int]) -> Step:
        """A step for some shards, and which of them are missing."""
        numbers = list(numbers)
        return Step(name, len(numbers), tuple(n for n in numbers if not self.part(name, n).exists()))

    def write(self, name: str, number: int, **arrays: npt.NDArray[Any]) -> None:
        """Write what a step found out about a shard."""
        with written_whole(self.part(name, number), shared=True) as part, part.open("wb") as stream:
            np.savez_compressed(stream, **cast(Any, arrays))

    def read(self, name: str, number: int, *arrays: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays of what a step found out about a shard."""
        path = self.part(name, number)
        try:
            data = read_whole(path)
            with zipfile.ZipFile(io.BytesIO(data)) as whole:
                if whole.testzip():  # numpy reads no further than an array claims to go, and so checks no sum
                    raise ValueError(path)
            with np.load(io.BytesIO(data)) as found:
                return {array: found[array] for array in arrays}
        except StorageError:
            raise
        except Exception as error:  # numpy, zip and zlib each raise their own
            raise DataError(f"{path} is missing or damaged; delete it and run that task of the array again") from error

    def write_known(self, path: Path, known: Mapping[str, Any]) -> None:
        """Write what is known of all shards, and its sha256."""
        text = canonical_json({"known": known, "sha256": sha256_of(canonical_json(known))})
        write_text_whole(path, text, shared=True)

    def read_known(self, path: Path) -> Mapping[str, Any]:
        """What was written there; raises DataError if it is damaged."""
        try:
            found = json.loads(read_whole(path))
            known: Mapping[str, Any] = found["known"]
            if found["sha256"] == sha256_of(canonical_json(known)):
                return known
        except (OSError, ValueError, TypeError, KeyError):
            pass
        raise damaged(path)

    @functools.cached_property
    def _survey(self) -> Mapping[str, Any]:
        return self.read_known(self.surveyed)

    @property
    def levels(self) -> tuple[int, int]:
        """Between which levels the first pass counts."""
        lowest, highest = self._survey["levels"]
        return lowest, highest

    def threshold(self) -> Threshold | None:
        """The one given or found."""
        if self.job.max_cosine is not None:
            return threshold_at(self.job.max_cosine)
        return Threshold(**self.read_known(self.found)) if self.found.exists() else None

    def stage(self, threads: int) -> Stage:
        """Goes by the ranks that the first pass found, if there was one."""
        if self.job.keep is None:
            of = self.job.selector.ranking(SurveyInParts(self, threads)).of
        else:
            of = self._ranks_found()
        return Stage(self.faces, self.job.selector.cutter(Ranking(of, lambda: self._survey["facts"])), threads)

    def _ranks_found(self) -> Callable[[Shard], Ranked]:
        firsts = np.array([self.faces.first(number) for number in range(len(self.faces))])

        @functools.lru_cache(maxsize=4)
        def of_shard(number: int) -> Mapping[str, npt.NDArray[Any]]:
            return self.read("profile", number, "sparsity", "values")

        def ranked(shard: Shard) -> Ranked:
            number = int(np.searchsorted(firsts, shard.first, "right")) - 1
            found, begin = of_shard(number), shard.first - int(firsts[number])
            rows = slice(begin, begin + len(shard))
            return Ranked(found["sparsity"][rows], found["values"][rows])

        return ranked

    def remove(self) -> None:
        """Remove all parts."""
        if not is_remote(self.root):
            shutil.rmtree(self.root, ignore_errors=True)  # a task run twice may be writing still
            return
        for path in self.path.iterdir():
            path.unlink()
        for folder in (self.path, self.root):
            with suppress(OSError):  # most remote storage has no folders
                folder.rmdir()


class SurveyInParts(Survey):
    """Finds out about the shards it is told to, by one step, and knows the rest from files."""

    def __init__(self, folder: PartFiles, threads: int, step: str = "", numbers: Iterable[int] = ()) -> None:
        super().__init__(folder.faces, threads)
        self._folder, self._step, self._numbers = folder, step, numbers

    def of_identities(
        self, name: str, lines: Lines, *, width: int, dtype: npt.DTypeLike, rows: int = PIECE_ROWS
    ) -> Table:
        """The lines of all shards; raises Unfinished if some are missing, or were to be found."""

        def find(number: int) -> Table:
            identities = len(self.store.starts(number)) - 1
            return self.fill(name, lines, self.store.pieces(number, rows=rows), np.empty((identities, width), dtype))

        return self._known(name, range(len(self.store)), find)

    def once(self, name: str, find: Callable[[], Table]) -> Table:
        """What one task finds out for all, as a part of the first shard."""
        return self._known(name, range(1), lambda _: find())

    def _known(self, name: str, units: range, find: Callable[[int], Table]) -> Table:
        folder, path = self._folder, self._folder.path / f"{name}.npy"
        if name == self._step:
            for number in self._numbers:
                folder.write(name, number, table=find(number))
        step = folder.step(name, units)
        if name == self._step or (step.missing and not path.exists()):
            raise Unfinished(step)
        if not path.exists():
            self._join(name, units)
        if _sha256_at(_sealed(path)) != sha256_of_file(path):
            raise damaged(path)
        return load_npy(path, "c")  # the processes of one machine hold it in memory once

    def _join(self, name: str, units: range) -> None:
        """Write the lines of all shards as one file, and its sha256 beside it."""
        parts = [self._folder.read(name, number, "table")["table"] for number in units]
        with written_whole(path := self._folder.path / f"{name}.npy", shared=True) as part:
            with part.open("wb") as stream:
                np.save(stream, np.concatenate(parts))
            write_text_whole(_sealed(path), sha256_of_file(part), shared=True)


def _sealed(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sha256_at(path: Path) -> str | None:
    try:
        return read_whole(path).decode()
    except (OSError, ValueError):
        return None


def damaged(path: Path) -> DataError:
    """What to say of a file that is made anew from the parts when it is gone."""
    return DataError(f"{path} is damaged; delete it and run the same command again")
