"""Where the faces of a point come from: methods that choose from a store, or the first rows of an order."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from facecore.curve.options import ALL, Point
from facecore.embeddings import Embeddings
from facecore.errors import DataError, OptionError
from facecore.manifest import read_manifest
from facecore.provenance import sha256_of_file
from facecore.select import SELECTORS, Nms, Selector, faces_to_keep, select, take

_WAYS = re.compile(
    r"(:(?!nested$)(?P<rank>[a-z]+))?(:(?P<cosine>-?\d+(\.\d+)?))?(:(?P<then>[a-z]+-[a-z-]+))?(:(?P<nested>nested))?"
)
RANDOM = "random"  # in SELECTORS: what every method is compared with


class Pool(Protocol):
    """All the faces, and ways to choose a fraction of them; small, and sent to other processes."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways to choose."""
        ...

    @property
    def faces(self) -> int:
        """How many there are; raises DataError if they cannot be had."""
        ...

    @property
    def record(self) -> Mapping[str, Any]:
        """What it is, for the provenance: equal records give equal subsets."""
        ...

    def check(self, fractions: Sequence[float]) -> None:
        """Raise OptionError if a method cannot keep one of the fractions."""
        ...

    def choose(self, point: Point, out: Path, *, threads: int) -> None:
        """Write the faces of a point as a manifest."""
        ...


@dataclass(frozen=True)
class Store:
    """An embedding store; methods are names in SELECTORS, or nms in one of its ways, as nms:twin:0.9:nested.

    The ways are a rank, a min_threshold, then (largest-identities, say) and nested: any of these, in this order.
    min_per_identity None is each method's own; min_share is the share of its faces that every identity keeps.
    """

    path: Path
    methods: tuple[str, ...]
    min_per_identity: int | None = None
    min_share: float = 0.0

    def __post_init__(self) -> None:
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise OptionError(f"name one method or more, each once; got {','.join(self.methods) or 'none'}")
        for method in self.methods:
            self.selector(method, 0)

    def selector(self, method: str, seed: int) -> Selector:
        """What a method stands for; raises OptionError if it stands for nothing."""
        name, *ways = method.split(":")
        found = _WAYS.fullmatch(":".join(["", *ways]))
        if name not in SELECTORS or (ways and name != Nms.name) or not found:
            raise OptionError(
                f"no method {method}; there are {', '.join(SELECTORS)}, and ways of nms as nms:twin, nms:0.9 or "
                "nms:twin:0.9:nested"
            )
        made = SELECTORS[name]
        given: dict[str, Any] = {"min_share": self.min_share}
        if rank := found["rank"]:
            given["rank"] = rank
        if cosine := found["cosine"]:
            given["min_threshold"] = float(cosine)
        if then := found["then"]:
            given |= {"then": then, "min_per_identity": 0}  # whole identities go
        if found["nested"]:
            given["nested"] = True
        if "seed" in {field.name for field in dataclasses.fields(cast(Any, made))}:
            given["seed"] = seed
        if self.min_per_identity is not None:
            given["min_per_identity"] = self.min_per_identity
        try:
            return made(**given)
        except OptionError as error:
            if not ways:
                raise
            raise OptionError(f"method {method}: {error}") from error

    @property
    def faces(self) -> int:
        """How many the store holds."""
        return Embeddings.open(self.path).rows

    @property
    def record(self) -> Mapping[str, Any]:
        """What the store holds, and what every identity keeps."""
        floors = {"min_per_identity": self.min_per_identity}
        share = {"min_share": self.min_share} if self.min_share else {}  # sweeps from before there was one go on
        return {"embeddings": Embeddings.open(self.path).sha256, **floors, **share}

    def check(self, fractions: Sequence[float]) -> None:
        """Raise OptionError if a fraction is less than the faces that every identity keeps."""
        store = Embeddings.open(self.path)
        sizes = np.concatenate([np.diff(store.starts(number)) for number in range(len(store))])
        for method in self.methods:
            limits = self.selector(method, 0).limits
            least = int(limits.floors(sizes).sum())
            lower = "a lower --min-share" if self.min_share else "--min-per-identity 0"
            for fraction in fractions:
                count = faces_to_keep(fraction, store.rows)
                if count < least:
                    raise OptionError(
                        f"the fraction {fraction:g} of {store.rows:,} faces is {count:,}, but "
                        f"with {method} every identity keeps at least {limits.floor_in_words}, {least:,} in all; "
                        f"use {lower}, or fractions from {least / store.rows:.2g} on"
                    )

    def choose(self, point: Point, out: Path, *, threads: int) -> None:
        """Select the faces of a point; for all of them a draw of all, which writes the same files."""
        method = RANDOM if point.method == ALL else point.method
        select(
            self.path,
            self.selector(method, point.seed),
            keep=point.fraction,
            out=out,
            overwrite=True,
            threads=threads,
        )


@dataclass(frozen=True)
class Order:
    """A manifest of which every prefix is a subset, as nms --order writes it; the one method is called as the file."""

    path: Path

    @property
    def methods(self) -> tuple[str, ...]:
        """One: to take the first rows."""
        return (self.path.stem,)

    @property
    def faces(self) -> int:
        """How many rows the manifest has; raises DataError if it is no order."""
        table, made = read_manifest(self.path)
        if made is None or not made.options.get("order"):
            raise DataError(
                f"{self.path} is no order, so its first rows are no subset; facecore nms --order writes one"
            )
        return len(table)

    @property
    def record(self) -> Mapping[str, Any]:
        """The file's content."""
        return {"order": sha256_of_file(self.path)}

    def check(self, fractions: Sequence[float]) -> None:
        """Any prefix can be taken."""

    def choose(self, point: Point, out: Path, *, threads: int) -> None:
        """Take the first rows."""
        take(self.path, keep=point.fraction, out=out, overwrite=True)
