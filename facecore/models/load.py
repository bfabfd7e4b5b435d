"""A model file to a network that runs, or to a graph that can be quantized: literal tables by file suffix."""

from collections.abc import Callable
from pathlib import Path

import onnx

from facecore.errors import ModelError, OptionError
from facecore.models.backbone import DEFAULT_SIZE, Backbone, first_line
from facecore.models.onnx_backbone import OnnxBackbone, read_onnx, sha256_with_data
from facecore.models.onnx_normalise import normalised
from facecore.models.packed import unpacked
from facecore.models.torch_backbone import (
    check_architecture,
    checkpoint_backbone,
    load_checkpoint,
    load_exported,
    program_backbone,
)
from facecore.models.torch_to_onnx import exported, to_onnx
from facecore.provenance import sha256_of_file


def load_backbone(path: Path, *, arch: str | None = None) -> Backbone:
    """The network of a file, ready to run: .onnx, .pt2, .safetensors as `packed` made it, or .pt and .pth with `arch`.

    `arch` is the name of a checkpoint's network. Raises OptionError if it is missing or in vain, ModelError if the file
    is not a network from images to vectors.
    """
    return BACKBONES[_checked_suffix(path, arch)](path, arch)


def load_onnx(path: Path, *, arch: str | None = None) -> onnx.ModelProto:
    """The network of a file, in any format of `load_backbone`, as one normalised float graph; see `normalised`.

    Raises what `load_backbone` raises, and ModelError if the graph cannot be trained and quantized.
    """
    return normalised(GRAPHS[_checked_suffix(path, arch)](path, arch), path)


def _checked_suffix(path: Path, arch: str | None) -> str:
    suffix = path.suffix.lower()
    if suffix not in BACKBONES:
        raise ModelError(f"{path} does not end in {', '.join(BACKBONES)}; facecore tells model formats by the suffix")
    if not path.is_file():
        raise ModelError(f"no model at {path}; facecore downloads none, name a file that is there")
    if suffix in CHECKPOINTS:
        check_architecture(path, arch)
    elif arch is not None:
        raise OptionError(f"{path} holds its own network; leave out --arch, which is for {' and '.join(CHECKPOINTS)}")
    return suffix


def _checkpoint_graph(path: Path, arch: str | None) -> onnx.ModelProto:
    network = load_checkpoint(path, check_architecture(path, arch))
    return _exported(path, lambda: to_onnx(network, DEFAULT_SIZE))


def _program_graph(path: Path, arch: str | None) -> onnx.ModelProto:
    program = load_exported(path).exported
    return _exported(path, lambda: exported(program))


def _exported(path: Path, export: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    try:
        return export()
    except Exception as error:  # the exporter raises its own for every step
        raise ModelError(
            f"torch cannot export {path} to ONNX ({first_line(error)}); export it yourself and name the .onnx file"
        ) from error


Loader = Callable[[Path, str | None], Backbone]
Reader = Callable[[Path, str | None], onnx.ModelProto]

BACKBONES: dict[str, Loader] = {
    ".onnx": lambda path, _: OnnxBackbone(path, read_onnx(path), sha256_with_data(path)),
    ".safetensors": lambda path, _: OnnxBackbone(path, unpacked(path), sha256_of_file(path)),
    ".pt2": lambda path, _: program_backbone(path),
    ".pt": lambda path, arch: checkpoint_backbone(path, check_architecture(path, arch)),
    ".pth": lambda path, arch: checkpoint_backbone(path, check_architecture(path, arch)),
}
GRAPHS: dict[str, Reader] = {
    ".onnx": lambda path, _: read_onnx(path),
    ".safetensors": lambda path, _: unpacked(path),
    ".pt2": _program_graph,
    ".pt": _checkpoint_graph,
    ".pth": _checkpoint_graph,
}
CHECKPOINTS = (".pt", ".pth")
