"""Checkpoints and torch.export programs as backbones, and as graphs."""

import numpy as np
import onnxruntime
import pytest
import torch
from test_models_networks import images, randomised
from torch import nn

from facecore.errors import ModelError, OptionError
from facecore.models import ARCHITECTURES, OnnxNetwork, load_backbone, load_onnx


@pytest.fixture(scope="module")
def networks():
    return {arch: randomised(ARCHITECTURES[arch]()) for arch in ("mbf", "r18")}


class Small(nn.Module):
    """A network that is neither of the two families, for images of 24 x 24."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.bn = nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(8, 6)

    def forward(self, x):
        x = torch.nn.functional.relu6(self.bn(self.conv(x)))
        x = x + self.pool(x) * torch.sigmoid(x)
        return self.linear(self.pool(x).squeeze(-1).squeeze(-1))


def small():
    torch.manual_seed(0)
    return randomised(Small())


def program(network, path, *, batch, side=24):
    """A batch is a number, or what torch calls the dimension."""
    free = None if isinstance(batch, int) else ({0: batch},)
    count = batch if isinstance(batch, int) else 3
    exported = torch.export.export(network, (torch.zeros(count, 3, side, side),), dynamic_shapes=free)
    torch.export.save(exported, path)
    return path


def run(model, batch):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": batch})[0]


def wrapped(state, how):
    if how == "training":
        return {"epoch": 3, "global_step": 70, "state_dict_backbone": state, "state_dict_softmax_fc": {}}
    if how == "state_dict":
        return {"state_dict": {f"module.{name}": value for name, value in state.items()}}
    if how == "module":
        return {f"module.{name}": value for name, value in state.items()}
    if how == "half, uncounted":
        return {name: value.half() for name, value in state.items() if "num_batches" not in name}
    return state


@pytest.mark.parametrize("how", ["plain", "training", "state_dict", "module", "half, uncounted"])
def test_a_checkpoint_in_each_wrapping(how, networks, tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save(wrapped(networks["mbf"].state_dict(), how), path)
    backbone = load_backbone(path, arch="mbf")
    with torch.inference_mode():
        expected = networks["mbf"](images(2)).numpy()
    assert (backbone.size, backbone.dimension, backbone.preprocess) == (112, 512, None)
    tolerance = 0.02 if "half" in how else 1e-5
    np.testing.assert_allclose(backbone.embed(images(2).numpy()), expected, atol=tolerance * np.abs(expected).max())
    assert backbone.embed(np.empty((0, 3, 112, 112), np.float32)).shape == (0, 512)


@pytest.mark.parametrize("arch", ["mbf", "r18"])
def test_a_checkpoint_as_a_graph_to_train(arch, networks, tmp_path, capfd):
    path = tmp_path / "backbone.pt"
    torch.save(networks[arch].state_dict(), path)
    model = load_onnx(path, arch=arch)
    assert capfd.readouterr() == ("", "")
    with torch.inference_mode():
        expected = networks[arch](images(3)).numpy()
        trained = OnnxNetwork(model)(images(3)).numpy()
    got = run(model, images(3).numpy())
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(trained - got).max() < 1e-5 * np.abs(expected).max()
    kept = {node.op_type for node in model.graph.node}
    assert kept == {"Conv", "PRelu", "Add", "Flatten", "Gemm"} | ({"BatchNormalization"} if arch == "r18" else set())


BATCHES = {
    "one": 1,
    "four": 4,
    "any": torch.export.Dim("n", min=1, max=4096),
    "up to four": torch.export.Dim("n", min=1, max=4),
    "from two to four": torch.export.Dim("n", min=2, max=4),
    "automatic": torch.export.Dim.AUTO,
}


@pytest.mark.parametrize("batch", BATCHES)
def test_a_program(batch, tmp_path, capfd):
    network = small()
    path = program(network, tmp_path / "net.pt2", batch=BATCHES[batch])
    backbone = load_backbone(path)
    pixels = torch.rand(9, 3, 24, 24)  # 4 + 4 + 1
    with torch.inference_mode():
        expected = network(pixels).numpy()
    assert (backbone.size, backbone.dimension) == (24, 6)
    np.testing.assert_allclose(backbone.embed(pixels.numpy()), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(load_onnx(path), pixels.numpy()), expected, rtol=1e-5, atol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_the_arch_of_a_checkpoint_is_named(tmp_path):
    path = tmp_path / "backbone.pth"
    path.write_bytes(b"")
    names = "r18, r34, r50, r100, r200, mbf, mbf_large, tiny"
    with pytest.raises(OptionError) as caught:
        load_backbone(path)
    assert str(caught.value) == f"{path} holds parameters without their network; name it with --arch: {names}"
    with pytest.raises(OptionError) as caught:
        load_onnx(path, arch="r9")
    assert str(caught.value) == f"arch must be one of {names}; got r9"


def test_a_checkpoint_of_another_arch(tmp_path):
    path = tmp_path / "backbone.pth"
    there, wanted = (ARCHITECTURES[arch]().state_dict() for arch in ("mbf", "mbf_large"))
    torch.save(there, path)
    differing = {name for name in {*there, *wanted} if name not in there or name not in wanted}
    differing |= {name for name in there if name in wanted and there[name].shape != wanted[name].shape}
    wrong = len([name for name in differing if "num_batches" not in name])
    with pytest.raises(ModelError) as caught:
        load_backbone(path, arch="mbf_large")
    assert str(caught.value) == (
        f"{path} has parameters that do not fit mbf_large: {wrong}, "
        "first layers.0.layers.0.weight, which is (128, 3, 3, 3) and not (256, 3, 3, 3); it fits --arch mbf"
    )


def test_a_checkpoint_with_one_parameter_wrong(tmp_path):
    path = tmp_path / "backbone.pth"
    state = ARCHITECTURES["mbf"]().state_dict()
    del state["conv_sep.layers.0.weight"]
    torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        load_backbone(path, arch="mbf")
    assert str(caught.value) == (
        f"{path} has parameters that do not fit mbf: 1, first conv_sep.layers.0.weight, which is missing; "
        "it fits no other --arch either"
    )
    state = {**ARCHITECTURES["mbf"]().state_dict(), "head.weight": torch.zeros(3)}
    torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        load_backbone(path, arch="mbf")
    assert str(caught.value) == (
        f"{path} has parameters that do not fit mbf: 1, first head.weight, which the network does not have; "
        "it fits no other --arch either"
    )


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize("held", ["bytes", "code", "module", "empty", "a number"])
def test_a_file_that_is_not_a_checkpoint(held, tmp_path, capsys):
    path = tmp_path / "backbone.pth"
    if held == "bytes":
        path.write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    else:
        torch.save({"code": Evil(), "module": nn.Linear(2, 2), "empty": {}, "a number": {"x": 1}}[held], path)
    with pytest.raises(ModelError) as caught:
        load_backbone(path, arch="mbf")
    line = str(caught.value)
    assert line.startswith(
        f"{path} is not a checkpoint of tensors alone, and nothing else is read"
        if held not in ("empty", "a number")
        else f"{path} h"
    )
    assert line.endswith("; save network.state_dict() with torch.save")
    assert "\n" not in line
    assert capsys.readouterr().out == ""


def test_a_program_in_training_mode(tmp_path):
    path = program(small().train(), tmp_path / "net.pt2", batch=2)
    with pytest.raises(ModelError) as caught:
        load_backbone(path)
    assert str(caught.value) == (
        f"{path} was exported in training mode; call eval() on the network and export it again"
    )


def test_a_program_that_gives_maps(tmp_path):
    path = program(nn.Conv2d(3, 4, 3), tmp_path / "net.pt2", batch=1)
    with pytest.raises(ModelError) as caught:
        load_backbone(path)
    assert (
        str(caught.value) == f"{path} gives (1, 4, 22, 22) for a batch of 1, not (n, d); export it up to its embedding"
    )


def test_bytes_that_are_not_a_program(tmp_path):
    path = tmp_path / "net.pt2"
    path.write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    for load in (load_backbone, load_onnx):
        with pytest.raises(ModelError, match=r"^\S+ is not a torch.export program \(.+\); export it again$"):
            load(path)
