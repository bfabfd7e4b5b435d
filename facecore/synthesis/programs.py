"""Exported generators, whatever their format: what they take, and a way to run them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from facecore.errors import ModelError
from facecore.models.backbone import first_line
from facecore.models.onnx_backbone import open_session, read_onnx
from facecore.models.quiet import quiet
from facecore.models.torch_backbone import best_device

Array = npt.NDArray[Any]
Side = int | None  # None: any

ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


@dataclass(frozen=True)
class Taken:
    """An input of a file; TorchScript says neither the shape of a tensor nor its type, and takes plain numbers, too."""

    name: str
    dtype: str | None  # as numpy calls it; None if the file does not say
    shape: tuple[Side, ...] | None  # with the batch; () for a number; None if the file does not say
    plain: bool = False  # a number that is no tensor
    wanted: bool = True  # False: may be left out

    def __str__(self) -> str:
        sides = ", ".join("n" if side is None else str(side) for side in self.shape or ())
        if self.plain:
            return f"{self.name} {self.dtype}"
        return f"{self.name} {self.dtype or 'tensor'}" + (f" ({sides})" if self.shape is not None else "")


@dataclass(frozen=True)
class Program:
    """A generator's file, ready to run."""

    path: Path
    inputs: tuple[Taken, ...]
    run: Callable[[dict[str, Any]], list[Array]]  # inputs by name, those not wanted may be absent, to outputs
    widths: tuple[int, ...] = ()  # sides of its parameters, one of which a latent that is not said must fit

    def __str__(self) -> str:
        return ", ".join(map(str, self.inputs)) or "nothing"


def load_generator(path: Path) -> Program:
    """Read a generator; raises ModelError if the file is none of the three formats."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ModelError(
            f"{path} does not end in {', '.join(FORMATS)}; export the generator to ONNX, torch.export or TorchScript"
        )
    if not path.is_file():
        raise ModelError(f"no generator at {path}; facecore downloads none, name a file that is there")
    return FORMATS[suffix](path)


def _onnx(path: Path) -> Program:
    session = open_session(read_onnx(path), path)
    inputs = tuple(
        Taken(
            taken.name,
            ONNX_DTYPES.get(taken.type, taken.type),
            tuple(side if isinstance(side, int) else None for side in taken.shape),
        )
        for taken in session.get_inputs()
    )

    def run(given: dict[str, Any]) -> list[Array]:
        return [output for output in session.run(None, given) if isinstance(output, np.ndarray)]

    return Program(path, inputs, run)


def _exported(path: Path) -> Program:
    try:
        with warnings.catch_warnings(), quiet("torch.export"):
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            if best_device().type != "cpu":
                program = move_to_device_pass(program, best_device())
            module = program.module()
    except Exception as error:  # zip, JSON and torch each raise their own
        raise ModelError(f"{path} is not a torch.export program ({first_line(error)}); export it again") from error
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = tuple(_exported_input(str(name), values.get(name)) for name in program.graph_signature.user_inputs)

    def run(given: dict[str, Any]) -> list[Array]:
        return _on_device(module, [given[taken.name] for taken in inputs], {})

    return Program(path, inputs, run)


def _exported_input(name: str, value: object) -> Taken:
    if not isinstance(value, Tensor):
        return Taken(name, type(value).__name__, (), plain=True)
    sides = tuple(side if isinstance(side, int) else None for side in value.shape)  # a symbolic side is a SymInt
    return Taken(name, str(value.dtype).removeprefix("torch."), sides)


def _scripted(path: Path) -> Program:
    """TorchScript runs in an interpreter of its own, which cannot call Python; torch says that it will go one day."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(path), map_location=best_device()).eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # RuntimeError, ValueError and zip's own
        raise ModelError(
            f"{path} is not TorchScript ({first_line(error)}); export the generator with torch.jit.trace, "
            "torch.export or torch.onnx"
        ) from error
    inputs = tuple(map(_scripted_input, module.forward.schema.arguments[1:]))
    widths = {side for values in module.parameters() if values.ndim in (2, 4) for side in values.shape[:2]}

    def run(given: dict[str, Any]) -> list[Array]:
        return _on_device(module, [], given)

    return Program(path, inputs, run, tuple(sorted(widths)))


def _scripted_input(argument: Any) -> Taken:
    kind = str(argument.type).removeprefix("Optional[").removesuffix("]")
    wanted = not argument.has_default_value()
    if kind == "Tensor":
        return Taken(argument.name, None, None, wanted=wanted)
    return Taken(argument.name, kind, (), plain=True, wanted=wanted)


def _on_device(module: Callable[..., Any], places: Sequence[Any], names: dict[str, Any]) -> list[Array]:
    def moved(value: Any) -> Any:
        return torch.from_numpy(value).to(best_device()) if isinstance(value, np.ndarray) else value

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = module(*map(moved, places), **{name: moved(value) for name, value in names.items()})
    outputs = made.values() if isinstance(made, dict) else made if isinstance(made, tuple | list) else [made]
    return [output.float().cpu().numpy() for output in outputs if isinstance(output, Tensor)]


FORMATS: dict[str, Callable[[Path], Program]] = {
    ".onnx": _onnx,
    ".pt2": _exported,
    ".pt": _scripted,
    ".pth": _scripted,
    ".ts": _scripted,
}
