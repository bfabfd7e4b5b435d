"""Images from a network alone: the distance to its statistics is what it says, and falls; who has none is told."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from onnx import helper
from pictures import pixels
from test_models_onnx import floats, model_of, small, written
from torch import nn

from facecore.cli import main
from facecore.errors import ModelError, OptionError
from facecore.images import Preprocess, to_input
from facecore.models import ARCHITECTURES, record_preprocess
from facecore.synthesis import SynthesisOptions
from facecore.synthesis.inversion import FromModel, invert
from facecore.synthesis.statistics import FLOOR, load_remembering

SIDE = 32


class Remembered:
    """A network of two Conv and BatchNorm, whose running statistics are those of patterns, and its ONNX file."""

    def __init__(self, path):
        self.images = torch.from_numpy(to_input(np.stack([pixels(seed, SIDE) for seed in range(64)]), Preprocess()))
        self.constants = {"w0": floats(8, 3, 3, 3, seed=1), "w1": floats(16, 8, 3, 3, seed=2) * 0.3}
        self.constants |= {"g": floats(6, 16, seed=3), "b": floats(6, seed=4) * 0.1}
        for number, channels in enumerate((8, 16)):
            mean, variance = self.moments(self.images)[number]
            self.constants |= {
                f"s{number}": 1 + 0.1 * floats(channels, seed=5),
                f"o{number}": 0.1 * floats(channels, seed=6),
                f"m{number}": mean.numpy(),
                f"v{number}": variance.numpy(),
            }
        nodes = []
        for number, before in enumerate(("in", "r0")):
            norm = [f"c{number}", *(f"{name}{number}" for name in "somv")]
            nodes += [
                helper.make_node("Conv", [before, f"w{number}"], [f"c{number}"], strides=[2, 2], pads=[1, 1, 1, 1]),
                helper.make_node("BatchNormalization", norm, [f"n{number}"]),
                helper.make_node("Relu", [f"n{number}"], [f"r{number}"]),
            ]
        nodes += [
            helper.make_node("GlobalAveragePool", ["r1"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "g", "b"], ["out"], transB=1),
        ]
        self.model = model_of(nodes, self.constants, shape=("n", 3, SIDE, SIDE))
        self.path = written(self.model, path)

    def moments(self, images):
        """The mean and variance in front of each BatchNorm, by torch alone, as far as the statistics are known."""
        found, x = [], images
        for number in range(2):
            x = torch.conv2d(x, torch.from_numpy(self.constants[f"w{number}"]), stride=2, padding=1)
            found.append((x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)))
            if f"s{number}" not in self.constants:
                break
            scale, offset, mean, variance = (torch.from_numpy(self.constants[f"{name}{number}"]) for name in "somv")
            x = torch.relu(torch.batch_norm(x, scale, offset, mean, variance, False, 0.0, 1e-5, False))
        return found


@pytest.fixture(scope="module")
def remembered(tmp_path_factory):
    return Remembered(tmp_path_factory.mktemp("network") / "net.onnx")


def test_the_distance_is_that_of_the_moments(remembered):
    network = load_remembering(remembered.path, arch=None)
    assert (len(network), network.size, network.preprocess) == (2, SIDE, None)
    images = 0.5 * remembered.images[:8] + 0.2
    distances = []
    for number, (mean, variance) in enumerate(remembered.moments(images)):
        wanted_mean, wanted = (torch.from_numpy(remembered.constants[f"{name}{number}"]) for name in "mv")
        deviation = (wanted + FLOOR * wanted.mean()).sqrt()
        distances.append(((mean - wanted_mean) ** 2 / wanted).mean() + ((variance.sqrt() / deviation - 1) ** 2).mean())
    assert network(images)[1].item() == pytest.approx(np.mean(distances), rel=0.01)
    assert network(remembered.images)[1].item() < 1e-4


def test_the_images_come_near_the_statistics_and_not_each_other(remembered):
    network = load_remembering(remembered.path, arch=None)
    begin = torch.full((8, 3, SIDE, SIDE), 0.5) + 0.02 * torch.from_numpy(floats(8, 3, SIDE, SIDE))
    images, distances = invert(network, begin, steps=60, preprocess=Preprocess(), seed=0)
    assert distances[-1] < distances[0] / 10
    assert (images.min() >= 0, images.max() <= 1) == (True, True)

    def cosines(images):
        units = nn.functional.normalize(network(images * 2 - 1)[0])
        return (units @ units.T)[np.triu_indices(8, 1)]

    assert cosines(begin).mean() > 0.99
    assert cosines(images).mean() < 0.7
    again, _ = invert(network, begin, steps=60, preprocess=Preprocess(), seed=0)
    assert torch.equal(again, images)


def test_the_file_says_how_pixels_become_input(remembered, tmp_path):
    said = Remembered(tmp_path / "net.onnx").model
    record_preprocess(said, Preprocess(mean=0.0, scale=255.0, bgr=True))
    network = load_remembering(written(said, tmp_path / "said.onnx"), arch=None)
    assert network.preprocess == Preprocess(mean=0.0, scale=255.0, bgr=True)


def test_a_batch_is_a_function_of_its_number(remembered):
    options = SynthesisOptions(batch_size=4, steps=3)
    source = FromModel(remembered.path, options, arch=None)
    first = source.faces(0)
    assert (first.shape, first.dtype, dict(source.facts)) == ((4, SIDE, SIDE, 3), np.uint8, {"batch_norms": 2})
    assert not np.array_equal(source.faces(1), first)
    assert np.array_equal(FromModel(remembered.path, options, arch=None).faces(0), first)


def test_the_command(remembered, tmp_path):
    words = ["synthesize", "--count", "5", "--from-model", str(remembered.path), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*words, "--steps", "2", "--batch-size", "4", "--size", "16"])
    assert (result.exit_code, result.output) == (0, f"{tmp_path}/out/manifest.parquet: 5 faces\n")
    assert len(pq.read_table(tmp_path / "out" / "manifest.parquet")) == 5


def test_a_checkpoint_remembers_too(tmp_path):
    torch.manual_seed(0)
    network = ARCHITECTURES["mbf"]().eval()
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for layer in layers:
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    images, heard = torch.rand(2, 3, 112, 112) * 2 - 1, []
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, inputs: heard.append((layer, inputs[0])))
    with torch.inference_mode():
        expected = network(images)
        remembering = load_remembering(tmp_path / "net.pt", arch="mbf")
        embeddings, distance = remembering(images)
    assert torch.allclose(embeddings, expected, atol=1e-4)
    assert (len(remembering), remembering.size) == (len(layers), 112)
    distances = []
    for layer, x in heard:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        deviation = (layer.running_var + FLOOR * layer.running_var.mean()).sqrt()
        moments = (x.mean(axes) - layer.running_mean) / deviation, x.std(axes, correction=0) / deviation - 1
        distances.append(sum(moment.square().mean() for moment in moments))
    assert distance.item() == pytest.approx(torch.stack(distances).mean().item(), rel=1e-3)


def test_who_remembers_nothing_is_told(tmp_path, remembered):
    path = written(small(), tmp_path / "folded.onnx")
    with pytest.raises(ModelError) as error:
        load_remembering(path, arch=None)
    assert str(error.value) == (
        f"{path} has no BatchNormalization: it was folded into the weights, which forgets the statistics that images "
        "are made from; name the checkpoint, or an ONNX file that kept these nodes"
    )
    with pytest.raises(OptionError) as error:
        load_remembering(remembered.path, arch="mbf")
    assert str(error.value) == f"{remembered.path} holds its own network; leave out --arch, which is for .pt and .pth"
