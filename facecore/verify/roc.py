"""The whole trade-off: which fraction of genuine pairs passes at which fraction of impostors, as rows and picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from facecore.errors import DataError, OptionError
from facecore.manifest import with_provenance
from facecore.provenance import Provenance, written_whole
from facecore.verify.embedding import VerifyOptions
from facecore.verify.metrics import Roc

# Okabe and Ito's colours, told apart with any colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LOWEST = 1e-6  # the least FAR that is drawn
SCHEMA = pa.schema({"protocol": pa.string(), "min_cosine": pa.float32(), "far": pa.float64(), "tar": pa.float64()})


def check_roc_path(path: Path, *, overwrite: bool) -> None:
    """Raise OptionError unless the path ends in .png, DataError if it or its table is there and not to be replaced."""
    if path.suffix.lower() != ".png":
        raise OptionError(f"the ROC is drawn as .png, with a table as .parquet beside it; got {path}")
    for file in (path, path.with_suffix(".parquet")):
        if file.exists() and not overwrite:
            raise DataError(f"{file} exists; choose another --roc, or add --overwrite to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)


def write_roc(path: Path, curves: Mapping[str, Roc], *, model: str, options: VerifyOptions) -> None:
    """Write the curves, by protocol, as a picture and, beside it, as the table of SCHEMA; the same bytes every time.

    `model` is the network's sha256. Nothing is written of no curves.
    """
    if not curves:
        return
    made = Provenance("verify", {"flip": options.flip, "detector_score": options.detector_score}, {"model": model})
    tables = [
        pa.table([pa.array([name] * len(curve.far), pa.string()), *map(pa.array, curve[:3])], names=SCHEMA.names)
        for name, curve in curves.items()
    ]
    table = pa.concat_tables([table.cast(SCHEMA) for table in tables])
    with written_whole(path.with_suffix(".parquet")) as part:
        pq.write_table(table.cast(with_provenance(SCHEMA, made)), part, compression="zstd")
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = _figure(curves)
        with written_whole(path) as part:
            figure.savefig(part, format="png", dpi=160, metadata={"Software": None})


def _figure(curves: Mapping[str, Roc]) -> Figure:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    lowest = 1.0
    for number, (name, curve) in enumerate(curves.items()):
        # FAR 0 has no place on a logarithmic axis, and below one impostor pair there is nothing to know
        least = max(1 / curve.impostors, LOWEST)
        later = curve.far > least
        far = np.concatenate([[least], curve.far[later], [1.0]])
        tar = np.concatenate([[curve.tar[~later].max(initial=0)], curve.tar[later], [1.0]])
        lowest = min(lowest, least)
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.6, "label": name}
        style["linestyle"] = ("-", "--", ":")[number // len(COLOURS) % 3]
        axes.plot(far, tar, drawstyle="steps-post", **style)
    axes.set_xscale("log")
    axes.set_xlim(min(10 ** np.floor(np.log10(lowest)), 0.1), 1)
    axes.set_ylim(top=1.005)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(color="#e2e2e2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("false-accept rate (FAR)")
    axes.set_ylabel("true-accept rate (TAR)")
    axes.legend(loc="lower right", frameon=False)
    return figure
