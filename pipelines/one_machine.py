"""Everything on one machine: embed a data set, keep a part of it, quantize a network on that part, verify it.

python pipelines/one_machine.py IMAGES MODEL PAIRS PAIRS_IMAGES OUT
"""

from pathlib import Path

import click

from facecore.cli.group import Recipe
from facecore.embed import EmbedOptions, embed
from facecore.errors import DataError
from facecore.manifest import provenance_of
from facecore.models import load_backbone
from facecore.quantize import Bits, QuantizeOptions, quantize
from facecore.readers import open_dataset
from facecore.select import Nms, select
from facecore.verify import open_protocol, verify

PATH = click.Path(path_type=Path, exists=True)


def one_machine(
    images: Path, model: Path, pairs: Path, pairs_images: Path, out: Path, *, keep: float = 0.6, epochs: float = 1.0
) -> dict[str, float]:
    """Accuracy on the pairs, by name of the network: `float` before, `w8a8` after quantization on the faces kept.

    What is finished under `out` from an earlier run is not redone; raises DataError if that kept another fraction.
    """
    embed(open_dataset(images), model, out / "embeddings", EmbedOptions())
    subset = out / "subset.parquet"
    if not subset.exists():
        select(out / "embeddings", Nms(), keep=keep, out=subset)
    elif (made := provenance_of(subset)) is None or made.options["keep"] != keep:
        raise DataError(f"{subset} is not {keep:g} of the faces; choose another OUT")
    quantized = out / "quantized" / "model.onnx"
    if not (quantized.parent / "report.json").exists():
        options = QuantizeOptions(bits=Bits(8, 8), epochs=epochs)
        quantize(open_dataset(subset, images=images), model, quantized.parent, options, overwrite=True)
    protocol = open_protocol(pairs, pairs_images)
    return {
        name: verify(load_backbone(path), protocol).accuracy for name, path in (("float", model), ("w8a8", quantized))
    }


@click.command(cls=Recipe)
@click.argument("images", type=PATH)
@click.argument("model", type=PATH)
@click.argument("pairs", type=PATH)
@click.argument("pairs_images", type=PATH)
@click.argument("out", type=click.Path(path_type=Path))
def main(images: Path, model: Path, pairs: Path, pairs_images: Path, out: Path) -> None:
    """Quantize MODEL on 60 % of IMAGES, chosen by nms, and verify it on PAIRS; all that is made goes to OUT."""
    for name, accuracy in one_machine(images, model, pairs, pairs_images, out).items():
        click.echo(f"{name}: {100 * accuracy:.2f} %")


if __name__ == "__main__":
    main()
