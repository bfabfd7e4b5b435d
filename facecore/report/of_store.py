"""The part of a page about an embedding store: how many faces of how many people, and who could not be read."""

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes

from facecore.embeddings import Embeddings
from facecore.parquet import check_expansion
from facecore.provenance import Provenance
from facecore.report.charts import COLOURS, Chart, Mark, bin_axis, chart, count_axis
from facecore.report.numbers import doubling_bins
from facecore.report.page import Section
from facecore.report.subset import reading

REJECTED = 20  # faces listed


def store_section(store: Embeddings, name: str, slug: str) -> Section:
    """Describe a store; raises DataError if its rows are not what it says."""
    sizes = np.concatenate([np.empty(0, np.int64), *(np.diff(store.starts(number)) for number in range(len(store)))])
    listed, count = store.path / "rejected.parquet", 0
    rejected: list[dict[str, str]] = []
    if listed.is_file():
        with reading(listed), pq.ParquetFile(listed, pre_buffer=False) as file:
            count = file.metadata.num_rows
            check_expansion(listed, footer=file.metadata)
            first = next(file.iter_batches(batch_size=REJECTED, columns=["face_id", "reason"]), None)
            rejected = first.to_pylist() if first is not None else []
    figures = [
        (f"{store.rows:,}", "faces"),
        (f"{store.identities:,}", "identities"),
        (f"{store.rows / max(store.identities, 1):.1f}", "faces per identity"),
        (f"{count:,}", "faces rejected"),
    ]
    meta = {key: value for key, value in store.meta.items() if key not in ("shards", "stage")}
    made = Provenance(str(store.meta.get("stage", "unknown")), {}, {}, {**meta, "shards": len(store)})
    values = {"charts": [_sizes_chart(sizes, slug)], "rejected": rejected, "rejected_count": count}
    return Section("store", name, slug, figures, made, values)


def _sizes_chart(sizes: np.ndarray[tuple[int], np.dtype[np.int64]], slug: str) -> Chart:
    names, counts = doubling_bins(sizes)

    def paint(axes: Axes) -> Sequence[Mark]:
        bars = axes.bar(names[1:], counts[1:], 0.8, color=COLOURS["accent"])
        bin_axis(axes, range(len(names) - 1), names[1:])
        count_axis(axes, "identities", counts)
        said = zip(names[1:], counts[1:].tolist(), strict=True)
        return list(zip(bars, [f"{name} faces: {count:,} identities" for name, count in said], strict=True))

    return chart(f"{slug}-sizes", "Faces per identity", paint)
