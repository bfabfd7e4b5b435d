"""Networks that torch runs: torch.export programs (.pt2) and checkpoints, arcface_torch's or our own (.pt, .pth)."""

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from facecore.errors import ModelError, OptionError
from facecore.images import Floats, Preprocess
from facecore.models.backbone import DEFAULT_SIZE, check_input, first_line, in_chunks
from facecore.models.iresnet import r18, r34, r50, r100, r200
from facecore.models.mobilefacenet import mbf, mbf_large
from facecore.models.quiet import quiet
from facecore.models.tiny import TinyFaceNet
from facecore.provenance import sha256_of_file

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "r18": r18,
    "r34": r34,
    "r50": r50,
    "r100": r100,
    "r200": r200,
    "mbf": mbf,
    "mbf_large": mbf_large,
    "tiny": TinyFaceNet,
}
# the place of the argument that says "in training", for the operators whose embedding depends on it
TRAINING_FLAGS: dict[Callable[..., Any], int] = {
    torch.ops.aten.batch_norm.default: 5,
    torch.ops.aten.dropout.default: 2,
}
COUNTER = "num_batches_tracked"  # of BatchNorm: without effect on an embedding, and absent from old checkpoints


class TorchBackbone:
    """A torch network on the best device there is, in inference mode."""

    preprocess: Preprocess | None = None  # no torch format records it

    def __init__(
        self, network: Callable[[Tensor], Tensor], path: Path, *, size: int, least: int = 1, most: int = sys.maxsize
    ) -> None:
        self._network, self._device, self._least, self._most = network, best_device(), least, most
        self.size, self.sha256 = size, sha256_of_file(path)
        try:
            shape = self._run(np.zeros((least, 3, size, size), np.float32)).shape
        except Exception as error:  # torch raises whatever an operator raises
            raise ModelError(
                f"{path} does not run on images of {size} x {size} ({first_line(error)}); export the network again"
            ) from error
        if len(shape) != 2 or shape[0] != least:
            raise ModelError(f"{path} gives {shape} for a batch of {least}, not (n, d); export it up to its embedding")
        self.dimension = shape[1]

    def embed(self, batch: Floats) -> Floats:
        """(n, 3, size, size) to (n, dimension), not normalised."""
        if not len(batch):
            return np.empty((0, self.dimension), np.float32)
        return in_chunks(self._run, batch, least=self._least, most=self._most)

    def _run(self, batch: Floats) -> Floats:
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(batch, np.float32)).to(self._device)
            return np.asarray(self._network(images).float().cpu().numpy())


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_architecture(path: Path, arch: str | None) -> str:
    """The name of a checkpoint's network; raises OptionError if it is missing or unknown."""
    names = ", ".join(ARCHITECTURES)
    if arch is None:
        raise OptionError(f"{path} holds parameters without their network; name it with --arch: {names}")
    if arch not in ARCHITECTURES:
        raise OptionError(f"arch must be one of {names}; got {arch}")
    return arch


def load_checkpoint(path: Path, arch: str) -> nn.Module:
    """The network of a checkpoint, in eval mode on the CPU; raises ModelError if it does not fit."""
    parameters = read_parameters(path)
    with torch.device("meta"):  # memory is taken once, by the checkpoint's own tensors
        network = ARCHITECTURES[arch]()
    wrong = misfits(network, parameters)
    if wrong:
        fitting = [name for name in ARCHITECTURES if name != arch and _fits(name, parameters)]
        advice = f"it fits --arch {fitting[0]}" if fitting else "it fits no other --arch either"
        raise ModelError(f"{path} has parameters that do not fit {arch}: {len(wrong):,}, first {wrong[0]}; {advice}")
    counters = {name: torch.zeros((), dtype=torch.long) for name in network.state_dict() if name.endswith(COUNTER)}
    floats = {name: tensor.float() for name, tensor in parameters.items() if not name.endswith(COUNTER)}
    network.load_state_dict({**counters, **floats}, assign=True)
    return network.eval()


def read_parameters(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, unpickled without running code; raises ModelError if there are none.

    Takes a plain state_dict, or one under "state_dict_backbone" or "state_dict"; a leading "module." is dropped.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a foreign file, it raises as well
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own
        raise ModelError(
            f"{path} is not a checkpoint of tensors alone, and nothing else is read; "
            "save network.state_dict() with torch.save"
        ) from error
    for key in ("state_dict_backbone", "state_dict"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise ModelError(f"{path} holds no state_dict; save network.state_dict() with torch.save")
    return {str(name).removeprefix("module."): tensor for name, tensor in held.items()}


def misfits(network: nn.Module, parameters: Mapping[str, Tensor]) -> list[str]:
    """What keeps the parameters from the network: one phrase for each that is missing, of another shape, or foreign."""
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.endswith(COUNTER)}
    wrong = []
    for name, shape in wanted.items():
        if name not in parameters:
            wrong.append(f"{name}, which is missing")
        elif parameters[name].shape != shape:
            wrong.append(f"{name}, which is {tuple(parameters[name].shape)} and not {tuple(shape)}")
    foreign = [name for name in parameters if name not in wanted and not name.endswith(COUNTER)]
    return wrong + [f"{name}, which the network does not have" for name in foreign]


def _fits(arch: str, parameters: Mapping[str, Tensor]) -> bool:
    with torch.device("meta"):
        return not misfits(ARCHITECTURES[arch](), parameters)


def checkpoint_backbone(path: Path, arch: str) -> TorchBackbone:
    """A checkpoint, ready to run."""
    network = load_checkpoint(path, arch).to(best_device())
    for parameter in network.parameters():  # convolutions then run channels last: mbf 50 to 73 images/s on two cores
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return TorchBackbone(network, path, size=DEFAULT_SIZE)


@dataclass(frozen=True)
class Program:
    """A torch.export program, the side of its images, and how many it takes at a time."""

    exported: torch.export.ExportedProgram
    size: int
    least: int
    most: int


def load_exported(path: Path) -> Program:
    """Read a torch.export program.

    Raises ModelError if the file is not one from (n, 3, s, s) float32 images, in inference mode.
    """
    try:
        with warnings.catch_warnings(), quiet("torch.export"):
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
    except Exception as error:  # zip, JSON and torch each raise their own
        raise ModelError(f"{path} is not a torch.export program ({first_line(error)}); export it again") from error
    taken = [node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(taken) != 1 or not isinstance(taken[0], Tensor):
        raise ModelError(f"{path} takes {len(taken)} inputs, not one; export the network without its head")
    sides = [side if isinstance(side, int) else None for side in taken[0].shape]  # a symbolic side is a SymInt
    if taken[0].dtype != torch.float32 or len(sides) != 4 or sides[1] != 3 or sides[2] != sides[3]:
        raise ModelError(
            f"{path} takes {taken[0].dtype} of shape {tuple(taken[0].shape)}, not float32 of (n, 3, s, s); "
            "export it for square images"
        )
    if _in_training(program):
        raise ModelError(f"{path} was exported in training mode; call eval() on the network and export it again")
    size, (least, most) = sides[2] or DEFAULT_SIZE, _batch_range(program, taken[0].shape[0])
    check_input(least, size, path)
    return Program(program, size, least, most)


def _batch_range(program: torch.export.ExportedProgram, side: int | torch.SymInt) -> tuple[int, int]:
    """The least and the most images at a time: a fixed number, or the bounds that the export was given."""
    if isinstance(side, int):
        return side, side
    bounds = program.range_constraints.get(side.node.expr)
    least, most = (bounds.lower, bounds.upper) if bounds is not None else (1, None)
    return max(1, _finite(least, 1)), _finite(most, sys.maxsize)


def _finite(bound: Any, otherwise: int) -> int:
    """A bound as a number; torch's infinity is an object of its own that is not an integer."""
    return int(bound) if getattr(bound, "is_Integer", False) or isinstance(bound, int) else otherwise


def _in_training(program: torch.export.ExportedProgram) -> bool:
    return any(
        len(node.args) > place and node.args[place] is True
        for target, place in TRAINING_FLAGS.items()
        for node in program.graph.find_nodes(op="call_function", target=target)
    )


def program_backbone(path: Path) -> TorchBackbone:
    """A torch.export program, ready to run."""
    program = load_exported(path)
    exported = program.exported
    if best_device().type != "cpu":
        exported = move_to_device_pass(exported, best_device())
    return TorchBackbone(exported.module(), path, size=program.size, least=program.least, most=program.most)
