"""Where suppression chooses better than chance: the places of a result of which_rank.py, by their t*."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from told import Result, mean, table

from facecore.curve.statistics import over_seeds
from facecore.select import Nms

GUARDED = f"{Nms.name}:0.9"  # with --min-threshold 0.9
BOUNDS = (0.9, 0.7)  # of t*, chosen with the figures in sight: near-duplicates above, different pictures below

Row = Mapping[str, Any]


class Place(NamedTuple):
    """A fraction of a pool: what nms is above random faces there, and nms with a least threshold, if that was run."""

    pool: str
    nms: Row
    guarded: Row | None

    @property
    def threshold(self) -> float:
        """The t* of nms."""
        return float(self.nms["max_cosine"])


def longest(rows: Sequence[Mapping[str, Any]]) -> int:
    """The steps of the longest training of nms; of any, where that was not run: others may be looked at for longer."""
    return max((row["method"] == Nms.name, row["steps"]) for row in rows)[1] if rows else 0


def places(result: Result) -> list[Place]:
    """Every fraction of every pool, at its longest training; without those that are fewer faces than people."""
    found = []
    for pool in result["pools"]:
        for keep in sorted({row["keep"] for row in pool["rows"]}, reverse=True):
            at = [row for row in pool["rows"] if row["keep"] == keep and row["min_per_identity"] != 0]
            steps = longest(at)
            by_method = {row["method"]: row for row in at if row["steps"] == steps and "above_random" in row}
            if Nms.name in by_method:
                found.append(Place(pool["pool"], by_method[Nms.name], by_method.get(GUARDED)))
    return found


def by_threshold(result: Result) -> list[str]:
    """A table: the mean over places with a high t*, one between, and a low one."""
    there = places(result)
    upper, lower = BOUNDS
    kinds = {
        f"{upper} or more": [place for place in there if place.threshold >= upper],
        f"{lower} to {upper}": [place for place in there if lower <= place.threshold < upper],
        f"below {lower}": [place for place in there if place.threshold < lower],
    }
    rows = []
    for kind, of in kinds.items():
        guarded = [place for place in of if place.guarded is not None]
        rows.append(
            [
                kind,
                str(len(of)),
                over_places(place.nms for place in of),
                str(len(guarded)),
                over_places(place.nms for place in guarded),
                over_places(place.guarded for place in guarded),
                over_places((place.guarded for place in guarded), "above_nms"),
            ]
        )
    told = f"of them with {GUARDED}", "nms there", f"{GUARDED} there", f"{GUARDED} above nms"
    return table(["t*", "places", "nms above random", *told], rows)


def over_places(rows: Iterable[Row | None], above: str = "above_random") -> str:
    """The mean over places, with the 95 % interval that it would have if they were independent."""
    values = np.array([row[above] for row in rows if row is not None and row.get(above) is not None])
    if not len(values):
        return ""
    return mean(*over_seeds(values), signed=True)
