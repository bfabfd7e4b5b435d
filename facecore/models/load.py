"""A model file to a network that runs, or to a graph that can be quantized: literal tables by file suffix."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import torch

from facecore.errors import ModelError, OptionError
from facecore.models.backbone import DEFAULT_SIZE, Backbone, first_line
from facecore.models.onnx_backbone import OnnxBackbone, read_onnx
from facecore.models.onnx_normalise import normalised
from facecore.models.torch_backbone import (
    check_architecture,
    checkpoint_backbone,
    load_checkpoint,
    load_program,
    program_backbone,
)

LARGEST_BATCH = 4096  # torch.export wants a bound; the ONNX file itself has none


def load_backbone(path: Path, *, arch: str | None = None) -> Backbone:
    """The network of a file, ready to run: .onnx, .pt2, or .pt and .pth with `arch`, the name of their network.

    Raises OptionError if `arch` is missing or in vain, ModelError if the file is not a network from images to vectors.
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
    batch = torch.export.Dim("n", min=1, max=LARGEST_BATCH)
    images = torch.zeros(2, 3, DEFAULT_SIZE, DEFAULT_SIZE)
    return _exported(path, network, args=(images,), dynamic_shapes=({0: batch},))


def _exported(
    path: Path, network: Any, *, args: tuple[torch.Tensor, ...] = (), dynamic_shapes: Any = None
) -> onnx.ModelProto:
    try:
        with _quiet():
            program = torch.onnx.export(
                network, args, dynamo=True, external_data=False, verbose=False, dynamic_shapes=dynamic_shapes
            )
    except Exception as error:  # the exporter raises its own for every step
        raise ModelError(
            f"torch cannot export {path} to ONNX ({first_line(error)}); export it yourself and name the .onnx file"
        ) from error
    assert program is not None  # only the exporter without dynamo returns None
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter prints, logs and warns of: its own progress, and optional packages it lacks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


Loader = Callable[[Path, str | None], Backbone]
Reader = Callable[[Path, str | None], onnx.ModelProto]

BACKBONES: dict[str, Loader] = {
    ".onnx": lambda path, _: OnnxBackbone(path),
    ".pt2": lambda path, _: program_backbone(path),
    ".pt": lambda path, arch: checkpoint_backbone(path, check_architecture(path, arch)),
    ".pth": lambda path, arch: checkpoint_backbone(path, check_architecture(path, arch)),
}
GRAPHS: dict[str, Reader] = {
    ".onnx": lambda path, _: read_onnx(path),
    ".pt2": lambda path, _: _exported(path, load_program(path).exported),
    ".pt": _checkpoint_graph,
    ".pth": _checkpoint_graph,
}
CHECKPOINTS = (".pt", ".pth")
