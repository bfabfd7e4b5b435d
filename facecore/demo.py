"""The whole job on faces drawn here, with no data, no weights and no network: what to run first."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from facecore.embed import EmbedOptions, embed
from facecore.errors import DataError
from facecore.models import load_backbone
from facecore.quantize import QuantizeOptions, quantize
from facecore.readers import open_dataset
from facecore.select import Nms, select
from facecore.select.threshold import check_keep
from facecore.synthesis import Drawn, DrawOptions, draw_dataset
from facecore.train import TrainOptions, train
from facecore.verify import Verification, open_protocol, verify


@dataclass(frozen=True)
class DemoOptions:
    """How much the demo does; the defaults take about two minutes on two cores."""

    keep: float = field(default=0.6, metadata={"help": "Fraction of the faces to keep."})
    identities: int = field(default=120, metadata={"help": "People to draw."})
    steps: int = field(default=300, metadata={"help": "Batches to train the proxy on."})
    seed: int = field(default=0, metadata={"help": "Another seed draws other people."})

    def __post_init__(self) -> None:
        check_keep(self.keep)
        _ = self.drawing, self.training  # which check the rest

    @property
    def drawing(self) -> DrawOptions:
        """What to draw."""
        return DrawOptions(identities=self.identities, seed=self.seed, wrong_labels=min(8, self.identities))

    @property
    def training(self) -> TrainOptions:
        """How to train the proxy."""
        return TrainOptions(
            arch="tiny", margin=0.2, scale=24, steps=self.steps, batch_size=64, warm_up=0.1, seed=self.seed
        )


def demo(out: Path, options: DemoOptions, *, overwrite: bool = False) -> Iterator[str]:
    """Draw, train a proxy, embed, select, quantize and verify under `out`; yields what to tell the user, line by line.

    Raises DataError if `out` exists, unless `overwrite`; then only what an earlier demo wrote there is replaced.
    """
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists; choose another --out, or add --overwrite to replace it")
    began = time.perf_counter()
    drawn = draw_dataset(out / "faces", options.drawing, overwrite=overwrite)
    yield (
        f"drew      {drawn.faces:,} faces of {drawn.identities:,} identities, {drawn.duplicates:,} of them planted "
        f"near-duplicates and {drawn.wrong_labels} under a wrong label"
    )
    faces = open_dataset(drawn.images)
    trained = train(faces, out / "proxy", options.training, overwrite=overwrite)
    proxy = out / "proxy" / "backbone.onnx"
    yield f"trained   a proxy of {trained['parameters']:,} parameters on them ({proxy})"
    store = embed(faces, proxy, out / "embeddings", EmbedOptions(), overwrite=overwrite)
    yield f"embedded  {store.faces:,} faces, {store.rejected} rejected ({out / 'embeddings'})"

    subset = out / "subset.parquet"
    chosen = select(out / "embeddings", Nms(), keep=options.keep, out=subset, overwrite=overwrite)
    yield f"selected  {chosen.kept:,} of {chosen.faces:,} faces, exactly {options.keep:g} of them ({subset})"
    yield f"          {_removed(subset, drawn)}"
    before = _verified(proxy, drawn)
    quantized = out / "quantized" / "model.onnx"
    report = quantize(
        open_dataset(subset, images=drawn.images),
        proxy,
        quantized.parent,
        QuantizeOptions(seed=options.seed),
        overwrite=overwrite,
    )
    size = report["bytes"]
    yield (
        f"quantized to {report['bits']}, {size['float'] / 1e6:.2f} MB before, {size['quantized'] / 1e6:.2f} MB after, "
        f"on {report['faces_used']:,} faces ({quantized})"
    )
    after = _verified(quantized, drawn)
    yield (
        f"verified  on {after.pairs:,} pairs of people never seen: accuracy {_percent(before)} before, "
        f"{_percent(after)} after quantization"
    )
    yield f"done      in {time.perf_counter() - began:.0f} s; the truth about every face is in {drawn.truth}"


def _removed(subset: Path, drawn: Drawn) -> str:
    """What selection did to what was planted."""
    kept = set(pq.read_table(subset, columns=["face_id"])["face_id"].to_pylist())
    truth = pq.read_table(drawn.truth).to_pylist()
    pairs = [(face["face_id"], face["duplicate_of"]) for face in truth if face["duplicate_of"] is not None]
    removed = sum(not {copy, original} <= kept for copy, original in pairs)
    wrong = sum(face["kind"] == "wrong-label" and face["face_id"] in kept for face in truth)
    return (
        f"{removed:,} of {len(pairs):,} planted near-duplicates removed (of copy and original at most one is kept); "
        f"{wrong} of {drawn.wrong_labels} wrong labels kept"
    )


def _verified(model: Path, drawn: Drawn) -> Verification:
    return verify(load_backbone(model), open_protocol(drawn.test_pairs, drawn.test_images))


def _percent(found: Verification) -> str:
    return f"{100 * found.accuracy:.2f} % +- {100 * found.standard_error:.2f}"
