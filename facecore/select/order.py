"""One row order whose every prefix is a subset: 10 % to 100 % from one manifest."""

import dataclasses
from pathlib import Path

import numpy as np

from facecore.embeddings import Embeddings
from facecore.errors import DataError, OptionError
from facecore.grid import LEVELS
from facecore.manifest import check_manifest_path, dropped_path, read_manifest, write_manifest
from facecore.provenance import Provenance, sha256_of_file
from facecore.select.nms import Nms
from facecore.select.run import Selection, Stage, summary
from facecore.select.selector import KEPT
from facecore.select.threshold import Target, Threshold, check_keep
from facecore.select.write import check_room, write_subset


def write_order(
    store: Path, selector: Nms, *, out: Path, overwrite: bool = False, threads: int | None = None
) -> Selection:
    """Write the faces of a store by rising suppression cosine, so that every prefix is the nested subset of its size.

    The best face of every identity comes first; of equals the sparser, then the earlier. What the limits forbid is
    not in it, but in the dropped faces beside it: with max_per_identity that is decided once, for all faces, where
    `select` decides it among those that stay at a size, so that a prefix may hold others. Holds the metadata of all
    faces in memory. Raises OptionError if min_per_identity is above 1, or min_share above 0: the order has no other
    floor; or with min_threshold. Otherwise as `select`.
    """
    if selector.min_per_identity > 1:
        raise OptionError(
            f"an order keeps one face of every identity first, not {selector.min_per_identity}; "
            "leave --min-per-identity out"
        )
    if selector.min_share:
        raise OptionError(
            f"an order keeps one face of every identity first, not {selector.min_share:g} of its faces; "
            "leave --min-share out"
        )
    if selector.min_threshold is not None:
        raise OptionError("an order goes down to every threshold; leave --min-threshold out")
    check_room(out, store, overwrite=overwrite)
    check_manifest_path(out)
    faces = Embeddings.open(store)
    nested = dataclasses.replace(selector, nested=True)
    stage = Stage.over(faces, nested, threads)
    fates, _ = stage.cut(faces.pieces(), everybody := Threshold(LEVELS - 1))
    rows = np.flatnonzero(fates.reason == KEPT)
    order = rows[np.lexsort((rows, -fates.sparsity[rows], fates.suppression[rows]))]
    selection = summary(faces, fates, everybody.max_cosine)
    made = stage.provenance(nested.name, {"order": True, **dataclasses.asdict(nested)}, selection)
    write_subset(faces, fates, made, out, threads=stage.threads, order=order)
    return selection


def take(order: Path, *, keep: float, out: Path, overwrite: bool = False) -> int:
    """Write the first round(keep * rows) rows of an order as a manifest of its own; returns how many.

    Raises OptionError unless keep is in (0, 1] and leaves a row, DataError if it is no order or `out` is there.
    """
    check_keep(keep)
    check_room(out, order, overwrite=overwrite)
    check_manifest_path(out)
    if not order.exists():
        raise DataError(f"no order at {order}; facecore nms --order writes one")
    table, made = read_manifest(order)
    if made is None or not made.options.get("order"):
        raise DataError(f"{order} is no order, so its first rows are no subset; facecore nms --order writes one")
    target = Target(keep, len(table))
    target.check_least(np.empty(0, np.int64))  # whether it leaves a row
    inputs, facts = {"manifest": sha256_of_file(order)}, {**made.facts, "kept": target.count}
    chosen = Provenance("take", {"keep": keep}, inputs, facts)
    dropped_path(out).unlink(missing_ok=True)  # of the subset that was there: this one has none
    write_manifest(table.slice(0, target.count), out, chosen)
    return target.count
