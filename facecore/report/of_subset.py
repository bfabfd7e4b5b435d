"""The part of a page about a subset: what came in and out, who was dropped beside whom, and where to look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes

from facecore.errors import DataError
from facecore.readers import Reader
from facecore.report.charts import COLOURS, Chart, Mark, bin_axis, chart, count_axis
from facecore.report.faces import Album, Face
from facecore.report.numbers import Rows, doubling_bins, nearest, spread
from facecore.report.page import Section
from facecore.report.subset import REASONS, Subset, Tally, rows_at, rows_where

JUST_DROPPED, JUST_KEPT = 8, 6  # faces nearest to t*, on either side
LOST_MOST = 15  # identities
WIDTH = 0.02  # of a bar of cosines
NO_COSINE = -1  # suppression cosine of the best face of an identity, which nothing could suppress


@dataclass(frozen=True)
class Pair:
    """A dropped face, and the face that was kept instead."""

    dropped: Face
    kept: Face
    cosine: float
    reason: str


def subset_section(subset: Subset, name: str, slug: str, *, album: Album, pairs: int, where: Reader | str) -> Section:
    """Read a subset and say what became of whom; at most `pairs` pairs, with pictures as far as the album goes.

    `where` its images are read, or why they cannot be.
    """
    tally = subset.tally()
    barely_dropped, barely_kept = _barely(subset, tally)
    gallery = tally.cosine.copy()
    gallery[barely_dropped] = np.nan  # shown already
    shown = spread(gallery, max(pairs - JUST_DROPPED - JUST_KEPT // 2, 0))
    values = {
        "max_cosine": subset.max_cosine,
        "reasons": [(reason, count, REASONS.get(reason, "")) for reason, count in tally.reasons.items()],
        "charts": [_faces_chart(tally, slug), _cosine_chart(tally, slug, subset.max_cosine)],
        "barely_dropped": _pairs(subset, barely_dropped, where, album),
        "barely_kept": _kept(subset, barely_kept, where, album),
        "gallery": _pairs(subset, shown, where, album),
        "without_rival": int(np.isnan(tally.cosine).sum()),
        "losers": _losers(tally),
        "dropped": tally.dropped,
    }
    return Section("subset", name, slug, _figures(subset, tally), subset.made, values)


def _figures(subset: Subset, tally: Tally) -> list[tuple[str, str]]:
    before, identities = tally.kept + tally.dropped, len(tally.people)
    stay = int(pc.sum(pc.greater(tally.people["kept"], 0)).as_py() or 0)
    share = f"{100 * tally.kept / before:.4g} %" if before else "none"
    figures = [
        (f"{tally.kept:,}", f"of {before:,} faces kept"),
        (share, "of the faces"),
        (f"{stay:,}", f"of {identities:,} identities kept"),
    ]
    if subset.max_cosine is not None:
        figures.append((f"{subset.max_cosine:.4f}", "t*, the highest cosine of two kept faces of one identity"))
    return figures


def _barely(subset: Subset, tally: Tally) -> tuple[Rows, Rows]:
    """The rows of the dropped and of the kept faces nearest to t*; none if there is no t*."""
    if subset.max_cosine is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    below = np.where(tally.kept_suppression <= subset.max_cosine, tally.kept_suppression, np.float32(np.nan))
    below[below == NO_COSINE] = np.nan
    return nearest(tally.cosine, subset.max_cosine, JUST_DROPPED), nearest(below, subset.max_cosine, JUST_KEPT)


def _pairs(subset: Subset, rows: Rows, where: Reader | str, album: Album) -> list[Pair]:
    """Dropped faces beside their rivals."""
    dropped = rows_at(subset.dropped, rows, ["face_id", "identity", "source", "rival", "cosine", "reason"])
    if alone := [row for row in dropped if row["rival"] is None]:
        raise DataError(f"{subset.dropped} gives {alone[0]['face_id']} a cosine but no rival; run facecore nms again")
    names = sorted({row["rival"] for row in dropped})
    rivals = rows_where(subset.path, "face_id", names, ["face_id", "identity", "source"]).to_pylist() if names else []
    by_name = {row["face_id"]: row for row in rivals}
    return [
        Pair(album.face(where, row), _rival(row, by_name, where, album), row["cosine"], row["reason"])
        for row in dropped
    ]


def _rival(row: Mapping[str, Any], kept: Mapping[str, Any], where: Reader | str, album: Album) -> Face:
    if row["rival"] in kept:
        return album.face(where, kept[row["rival"]])
    return Face(row["rival"], row["identity"], reason="not in the subset any more")


def _kept(subset: Subset, rows: Rows, where: Reader | str, album: Album) -> list[tuple[Face, float]]:
    found = rows_at(subset.path, rows, ["face_id", "identity", "source", "suppression_cosine"])
    return [(album.face(where, row), row["suppression_cosine"]) for row in found]


def _losers(tally: Tally) -> list[dict[str, Any]]:
    """The identities that lost most faces; of equals the earlier name."""
    order = [("dropped", "descending"), ("identity", "ascending")]
    found = pc.select_k_unstable(tally.people, LOST_MOST, order)
    return [row for row in tally.people.take(found).to_pylist() if row["dropped"]]


def _faces_chart(tally: Tally, slug: str) -> Chart:
    kept = _numbers(tally.people, "kept")
    names, before = doubling_bins(kept + _numbers(tally.people, "dropped"))
    after = doubling_bins(np.append(kept, kept + _numbers(tally.people, "dropped")))[1] - before
    first = 0 if after[0] else 1  # no identity had no face before

    def paint(axes: Axes) -> Sequence[Mark]:
        places = np.arange(len(names))[first:]
        marks: list[Mark] = []
        for label, colour, shift, counts in (("before", "soft", -0.2, before), ("after", "kept", 0.2, after)):
            bars = axes.bar(places + shift, counts[first:], 0.38, color=COLOURS[colour], label=label)
            said = zip(names[first:], counts[first:].tolist(), strict=True)
            marks += zip(bars, [f"{_faces(bin)}: {_people(count)} {label}" for bin, count in said], strict=True)
        bin_axis(axes, places.tolist(), names[first:])
        count_axis(axes, "identities", np.concatenate([before, after]))
        axes.legend()
        return marks

    return chart(f"{slug}-faces", "Faces per identity, before and after", paint)


def _cosine_chart(tally: Tally, slug: str, max_cosine: float | None) -> Chart:
    kept, dropped = (side[side > NO_COSINE] for side in (tally.kept_suppression, tally.dropped_suppression))
    lowest = min((float(side.min()) for side in (kept, dropped) if len(side)), default=0.0)
    edges = np.arange(np.floor(lowest / WIDTH), round(1 / WIDTH) + 1) * WIDTH
    counts = [np.histogram(side, np.append(edges[:-1], 1.0001))[0] for side in (kept, dropped)]

    def paint(axes: Axes) -> Sequence[Mark]:
        marks: list[Mark] = []
        for label, floor, of in (("kept", np.zeros_like(counts[0]), counts[0]), ("dropped", counts[0], counts[1])):
            bars = axes.bar(edges[:-1], of, WIDTH * 0.9, bottom=floor, align="edge", color=COLOURS[label], label=label)
            for bar, low, count in zip(bars, edges.tolist(), of.tolist(), strict=False):
                if count:
                    marks.append((bar, f"{low:.2f} to {low + WIDTH:.2f}: {count:,} {label}"))
        if max_cosine is not None:
            axes.axvline(
                max_cosine, color=COLOURS["ink"], linestyle="--", linewidth=1.2, label=f"t* = {max_cosine:.4f}"
            )
        axes.set_xlabel("suppression cosine")
        axes.set_ylabel("faces")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.legend(loc="upper left")
        return marks

    return chart(f"{slug}-cosines", "How near each face is to a better-ranked face of its identity", paint)


def _faces(bin: str) -> str:
    return f"{bin} face" if bin == "1" else f"{bin} faces"


def _people(count: int) -> str:
    return "1 identity" if count == 1 else f"{count:,} identities"


def _numbers(table: pa.Table, column: str) -> Rows:
    return np.asarray(table[column].to_numpy(), np.int64)
