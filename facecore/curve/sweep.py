"""A sweep: what is run, where its files go, and that a folder holds the points of one sweep only."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from facecore.accuracy import Check
from facecore.curve.options import ALL, CurveOptions, Point
from facecore.curve.pools import Pool
from facecore.errors import DataError, OptionError
from facecore.models import load_backbone
from facecore.provenance import Provenance, check_folder, sha256_of_file, write_text_whole
from facecore.quantize import QuantizeOptions
from facecore.quantize.artefacts import REPORT

SWEEP = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """Every point of `options` in `out`, each verified by all `checks`; small, and sent to other processes.

    Raises OptionError unless there is a protocol, and each has a name of its own that a file may have.
    """

    pool: Pool
    model: Path
    out: Path
    options: CurveOptions
    checks: tuple[Check, ...]
    images: Path | None = None  # root of the images, if not where they were
    arch: str | None = None

    def __post_init__(self) -> None:
        names = [check.name for check in self.checks]
        if not names:
            raise OptionError("a curve is of the accuracy on some pairs; add --verify NAME=PAIRS[,IMAGES]")
        if len(set(names)) < len(names):
            raise OptionError(f"protocols need names of their own; got {', '.join(names)}")
        for name in names:
            if not re.fullmatch(r"[\w.-]+", name):
                raise OptionError(f"files are called by the protocol: letters, digits, -, _ and . only; got {name!r}")

    @cached_property
    def faces(self) -> int:
        """How many faces the fraction 1 is of."""
        return self.pool.faces

    @cached_property
    def quantize(self) -> QuantizeOptions:
        """How every point is quantized, but for its seed."""
        return self.options.resolved(self.faces)

    @cached_property
    def sha256(self) -> Mapping[str, str]:
        """Of the pairs of every protocol, by its name."""
        return {check.name: sha256_of_file(check.pairs) for check in self.checks}

    @property
    def points(self) -> list[Point]:
        """All, the largest fractions first: they take longest, and references are of the first."""
        return [
            point
            for fraction in reversed(self.options.fractions)
            for seed in self.options.seed_range
            for point in dict.fromkeys(self.point(method, fraction, seed) for method in self.pool.methods)
        ]

    def point(self, method: str, fraction: float, seed: int) -> Point:
        """The point that stands for a method there."""
        return Point(ALL if fraction == 1 else method, fraction, seed)

    def folder(self, point: Point) -> Path:
        """Where the files of a point are."""
        return self.out / "points" / point.name

    def report(self, point: Point) -> dict[str, Any] | None:
        """What is known of a point; None before it is quantized. Raises DataError if the file is damaged."""
        return read_json(self.folder(point) / REPORT)

    @property
    def provenance(self) -> Provenance:
        """What all points have in common: how they are made, and of what."""
        facts = dataclasses.asdict(self.quantize) | {"bits": str(self.quantize.bits)}
        options = {name: value for name, value in facts.items() if name not in ("seed", "workers")}
        record = dict(self.pool.record)
        inputs = {name: value for name, value in record.items() if isinstance(value, str)} | {"model": self._model}
        others = {name: value for name, value in record.items() if name not in inputs}
        return Provenance("curve", {**options, **others, "budget": self.options.budget, "arch": self.arch}, inputs)

    @cached_property
    def _model(self) -> str:
        return load_backbone(self.model, arch=self.arch).sha256

    def check(self) -> None:
        """Raise what would go wrong later, before any work: OptionError or DataError."""
        if not self.model.is_file():
            raise DataError(f"no network at {self.model}; check --model")
        for check in self.checks:
            check.open()
        self.options.check_faces(self.faces)
        self.pool.check(self.options.fractions)
        check_folder(self.out)
        self._check_same()
        for point in self.points:
            self._check_protocols(point)

    def _check_same(self) -> None:
        """Raise DataError if the folder holds another sweep; else say of which it is."""
        path, text = self.out / SWEEP, self.provenance.to_json()
        there = read_json(path)
        if there is None:
            if any(there.name != f"{SWEEP}.part" for there in self.out.glob("*")):
                raise DataError(f"{self.out} holds other things than a sweep; choose another --out")
            write_text_whole(path, text)
        elif differing := _differing(there, json.loads(text)):
            raise DataError(f"{self.out} holds points made otherwise ({differing}); choose another --out")

    def _check_protocols(self, point: Point) -> None:
        known = (self.report(point) or {}).get("accuracy", {})
        for name, sha256 in self.sha256.items():
            if name in known and known[name]["fine_tuned"]["sha256"] != sha256:
                raise DataError(f"{self.folder(point)} was verified on other pairs called {name}; call these otherwise")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None if there is no such file; raises DataError if it is anything else."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged; delete it and run the same command again")
    return found


def _differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What was otherwise, as `name then, now`, of the options and inputs of two provenances."""

    def flat(made: Mapping[str, Any]) -> dict[str, Any]:
        return {**made.get("options", {}), **made.get("inputs", {})}

    def shown(value: Any) -> str:
        return str(value)[:12]

    before, after = flat(there), flat(now)
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name} {shown(before.get(name))}, now {shown(after.get(name))}" for name in names)
