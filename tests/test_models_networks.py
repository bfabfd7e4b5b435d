"""IResNet and MobileFaceNet: the names of arcface_torch, and the arithmetic written out once more, flat."""

import json

import pytest
import torch
import torch.nn.functional as F

from facecore.models import ARCHITECTURES

BLOCKS = {
    "r18": (2, 2, 2, 2),
    "r34": (3, 4, 6, 3),
    "r50": (3, 4, 14, 3),
    "r100": (3, 13, 30, 3),
    "r200": (6, 26, 60, 6),
}
# of MobileFaceNet: the blocks of the four stages
MOBILE = {"mbf": (1, 4, 6, 2), "mbf_large": (2, 8, 12, 4)}


@pytest.fixture(autouse=True)
def _one_thread():
    """Two threads wait for each other ten times as long as they compute where other processes use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randomised(network, seed=0):
    """Every parameter and statistic away from its start, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, value in state.items():
        if value.dtype != torch.float32:
            continue
        if value.ndim > 1:
            fan_in = value[0].numel()
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5)
        elif name.endswith(("running_mean", "bias")):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
        elif name.endswith("running_var"):  # so small that an eps of 1e-6 or 1e-3 would show
            value.copy_(torch.rand(value.shape, generator=generator) * 0.01 + 0.001)
        elif name.removesuffix("weight") + "running_var" in state:
            value.copy_(torch.rand(value.shape, generator=generator) * 0.05 + 0.02)
        else:  # slopes
            value.copy_(torch.rand(value.shape, generator=generator) + 0.3)
    return network.eval()


def images(count, seed=1):
    return torch.rand(count, 3, 112, 112, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Flat:
    """A network as a list of functional calls on a state_dict."""

    def __init__(self, state):
        self.state = state

    def bn(self, x, name):
        s = self.state
        statistics = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(x, *statistics, s[f"{name}.weight"], s[f"{name}.bias"], False, 0.0, 1e-5)

    def conv(self, x, name, stride=1, padding=0, groups=1):
        return F.conv2d(x, self.state[f"{name}.weight"], None, stride, padding, 1, groups)

    def prelu(self, x, name):
        return F.prelu(x, self.state[f"{name}.weight"])

    def iresnet(self, x, blocks):
        x = self.prelu(self.bn(self.conv(x, "conv1", 1, 1), "bn1"), "prelu")
        for layer, count in enumerate(blocks, 1):
            for block in range(count):
                name, stride = f"layer{layer}.{block}", 1 if block else 2
                y = self.conv(self.bn(x, f"{name}.bn1"), f"{name}.conv1", 1, 1)
                y = self.prelu(self.bn(y, f"{name}.bn2"), f"{name}.prelu")
                y = self.bn(self.conv(y, f"{name}.conv2", stride, 1), f"{name}.bn3")
                if not block:
                    x = self.bn(self.conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
                x = x + y
        x = self.bn(x, "bn2").reshape(len(x), -1)
        return self.bn(x @ self.state["fc.weight"].T + self.state["fc.bias"], "features")

    def block(self, x, name, stride=1, padding=0, groups=1, linear=False):
        x = self.bn(self.conv(x, f"{name}.layers.0", stride, padding, groups), f"{name}.layers.1")
        return x if linear else self.prelu(x, f"{name}.layers.2")

    def depthwise(self, x, name, groups, stride):
        x = self.block(x, f"{name}.layers.0")
        x = self.block(x, f"{name}.layers.1", stride, 1, groups)
        return self.block(x, f"{name}.layers.2", linear=True)

    def residual(self, x, name, blocks, groups):
        for block in range(blocks):
            x = x + self.depthwise(x, f"{name}.layers.{block}", groups, 1)
        return x

    def mobilefacenet(self, x, blocks):
        x = self.block(x, "layers.0", 2, 1)
        if blocks[0] == 1:
            x = self.block(x, "layers.1", 1, 1, groups=64)
        else:
            x = self.residual(x, "layers.1", blocks[0], 128)
        for stage, groups, between in ((1, 128, 128), (2, 256, 256), (3, 256, 512)):
            x = self.depthwise(x, f"layers.{2 * stage}", between, 2)
            x = self.residual(x, f"layers.{2 * stage + 1}", blocks[stage], groups)
        x = self.block(x, "conv_sep")
        x = self.block(x, "features.layers.0", groups=512, linear=True).reshape(len(x), -1)
        return self.bn(x @ self.state["features.layers.2.weight"].T, "features.layers.3")


@pytest.mark.parametrize("arch", ["r18", "r50", "r100", "mbf", "mbf_large"])
def test_the_parameters_are_those_of_arcface_torch(arch, real_data):
    theirs = json.loads((real_data.parent / "models" / "arcface_torch" / f"{arch}.keys.json").read_text())
    with torch.device("meta"):
        state = ARCHITECTURES[arch]().state_dict()
    assert [[name, list(value.shape), str(value.dtype)] for name, value in state.items()] == theirs


PARAMETERS = {
    "r18": 24_025_600,
    "r34": 34_139_328,
    "r50": 43_590_848,
    "r100": 65_156_160,
    "r200": 118_833_920,
    "mbf": 2_059_520,
    "mbf_large": 6_314_880,
    "tiny": 166_448,
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_how_many_parameters(arch):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in ARCHITECTURES[arch]().parameters()) == PARAMETERS[arch]


@pytest.mark.parametrize("arch", ["r18", "mbf", "mbf_large"])
def test_the_embeddings_are_those_of_the_arithmetic_written_flat(arch):
    network = randomised(ARCHITECTURES[arch]())
    flat = Flat(network.state_dict())
    with torch.inference_mode():
        if arch in MOBILE:
            expected = flat.mobilefacenet(images(1), MOBILE[arch])
        else:
            expected = flat.iresnet(images(1), BLOCKS[arch])
        got = network(images(1))
    assert got.shape == (1, 512)
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()
    with torch.inference_mode():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-6
        other = network(images(1))
    assert (other - expected).abs().max() > 1e-3 * expected.abs().max()  # the test can tell


def test_the_scale_of_the_last_normalisation_is_not_trained():
    with torch.device("meta"):
        network = ARCHITECTURES["r18"]()
    assert [name for name, value in network.named_parameters() if not value.requires_grad] == ["features.weight"]


@pytest.mark.parametrize("arch", ["r18", "mbf"])
def test_a_fresh_network_tells_images_apart_and_passes_gradients_to_every_parameter(arch):
    torch.manual_seed(0)
    network = ARCHITECTURES[arch]()
    embeddings = network(images(4))
    assert embeddings.std(0).min() > 0.1  # the last normalisation makes it one over the batch
    embeddings.square().mul(torch.randn(4, 512)).sum().backward()
    trained = [value for value in network.parameters() if value.requires_grad]
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in trained)
