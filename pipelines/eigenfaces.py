"""A generator of faces of nobody, learnt from a data set in a minute: for facecore synthesize --generator.

python pipelines/eigenfaces.py FACES generator.onnx --components 256

A face is the mean of all and a sum of their principal components (Turk and Pentland 1991), as far in each direction as
chance says: blurred, but in the light, pose and colours of the data set. It shows what a generator's file has to be,
and what a poor one is worth.
"""

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from facecore.cli.group import Recipe
from facecore.errors import DataError, OptionError
from facecore.images import load_batches
from facecore.provenance import refuse_to_overwrite, written_whole
from facecore.readers import open_dataset

SIZE = 112


def drawn(faces: Path, count: int, seed: int) -> npt.NDArray[np.float32]:
    """At most so many faces of a data set, (n, 3 * 112 * 112), from 0 to 255."""
    dataset = open_dataset(faces)
    sources = dataset.faces["source"].to_pylist()
    some = [sources[row] for row in np.sort(np.random.default_rng(seed).permutation(len(sources))[:count])]
    batches = load_batches(dataset.read, some, size=SIZE, batch_size=64, workers=2)
    pixels = np.concatenate([batch.pixels for batch in batches])
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1).astype(np.float32)


def generator(mean: npt.NDArray[np.float32], directions: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """Latents (n, components), standard normal, into images (n, 3, 112, 112) from 0 to 255."""
    images = {"mean": mean, "directions": directions, "black": np.float32(0), "white": np.float32(255)}
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in images.items()]
    constants.append(numpy_helper.from_array(np.array([-1, 3, SIZE, SIZE]), "shape"))
    nodes = [
        helper.make_node("Gemm", ["latent", "directions", "mean"], ["flat"]),
        helper.make_node("Clip", ["flat", "black", "white"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "shape"], ["image"]),
    ]
    latent = helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["n", len(directions)])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    graph = helper.make_graph(nodes, "eigenfaces", [latent], [image], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@click.command(cls=Recipe)
@click.argument("faces", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--components", type=click.IntRange(1), default=256, show_default=True, help="Numbers that make a face.")
@click.option("--faces", "count", type=click.IntRange(2), default=4000, show_default=True, help="To learn from.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of which faces these are.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def main(faces: Path, out: Path, components: int, count: int, seed: int, overwrite: bool) -> None:
    """Learn the principal components of FACES, and write them as a generator to OUT."""
    if out.suffix != ".onnx":
        raise OptionError(f"{out} will be an ONNX file; give it a name that ends in .onnx")
    refuse_to_overwrite(out, overwrite=overwrite, inputs=[faces])
    pixels = torch.from_numpy(drawn(faces, count, seed))
    if len(pixels) <= components:
        raise DataError(f"{faces}: {len(pixels):,} faces make fewer than {components:,} --components; ask for fewer")
    torch.manual_seed(seed)  # of the randomised decomposition
    _, spread, directions = torch.pca_lowrank(pixels, q=components)
    scaled = (directions * spread / (len(pixels) - 1) ** 0.5).T.contiguous()
    with written_whole(out) as part:
        onnx.save(generator(pixels.mean(0).numpy(), scaled.numpy()), part)
    told = float((spread**2).sum() / (len(pixels) - 1) / pixels.var(0).sum())
    click.echo(f"{out}: {components} directions of {len(pixels):,} faces, {100 * told:.1f} % of their variance")


if __name__ == "__main__":
    main()
