"""A classifier's weights: how sure it is of every face's own identity."""

import importlib
import json
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from facecore.errors import DataError, ModelError
from facecore.images import Floats
from facecore.models.torch_backbone import best_device
from facecore.npy import load_npy
from facecore.provenance import sha256_of_file

BLOCK = 8192  # classes multiplied at a time: a batch of 64 faces by so many takes 8 MB, by 2 million classes 2 GB
PARTIAL_FC = "state_dict_softmax_fc"  # where arcface_torch's checkpoint of a whole training has its classifier

Numbers = npt.NDArray[np.int64]


class Classifier:
    """A classifier over the identities of a data set: class i is as the file names it, or the i-th, or that named i."""

    def __init__(
        self, path: Path, identity: pa.ChunkedArray, dimension: int, *, scale: float = 64.0, margin: float = 0.5
    ) -> None:
        """Read the weights, and find the class of every identity of a sorted column.

        Raises ModelError if the file does not hold the weights of classes over embeddings of that dimension, DataError
        if they are not the classes of these identities.
        """
        weights = read_weights(path, dimension)
        self._lengths = _lengths(weights, path).to(best_device())  # (classes,)
        self._weights = weights.to(best_device())  # (classes, d); on the CPU the file itself, where it can be mapped
        self._names = pc.unique(identity)
        named = read_class_names(path)
        self._numbers = (
            class_numbers(self._names, len(weights), path) if named is None else named_numbers(self._names, named, path)
        )
        self._scale, self._margin = scale, margin
        self.recipe = {"sha256": sha256_of_file(path), "scale": float(scale), "margin": float(margin)}

    def classes(self, identity: pa.ChunkedArray) -> Numbers:
        """The class of each of these identities."""
        numbers: Numbers = self._numbers[pc.index_in(identity, value_set=self._names).to_numpy()]
        return numbers

    def probabilities(self, embeddings: Floats, classes: Numbers) -> Floats:
        """The softmax over all classes of scale * cos(angle between embedding and class), at each one's own class.

        To the angle to its own class the margin is added, as in training. (n, d) of any length and (n,) to (n,), from 0
        to 1: what DiffProb sorts by (arXiv 2505.15272). An embedding of length zero or not finite has none: NaN.
        """
        wide = torch.tensor(embeddings, dtype=torch.float64, device=self._weights.device)
        units = (wide / wide.norm(dim=1, keepdim=True)).float()
        whose = torch.from_numpy(classes).to(units.device)
        own = wide.new_zeros(len(wide))  # cosine
        others = wide.new_full((len(wide),), -math.inf)  # log of the sum of exp
        for first in range(0, len(self._weights), BLOCK):
            some = slice(first, first + BLOCK)
            cosines = (units @ self._weights[some].float().T / self._lengths[some]).double()
            here = torch.nonzero((whose >= first) & (whose < first + BLOCK))[:, 0]
            own[here] = cosines[here, whose[here] - first]
            cosines[here, whose[here] - first] = -math.inf
            others = torch.logaddexp(others, (self._scale * cosines).logsumexp(dim=1))
        angle = own.clamp(-1, 1).acos() + self._margin
        probabilities: Floats = torch.sigmoid(self._scale * angle.cos() - others).float().cpu().numpy()
        return probabilities


def class_numbers(names: pa.Array, classes: int, path: Path) -> Numbers:
    """The class of each identity, given once and sorted: its name where all are different numbers below `classes`.

    RecordIO's labels are. Else the identities are the classes in their order; raises DataError if there are not as many
    of both.
    """
    if pc.all(pc.match_substring_regex(names, "^[0-9]{1,9}$")).as_py():
        numbers: Numbers = names.cast(pa.int64()).to_numpy()
        if (numbers < classes).all() and len(np.unique(numbers)) == len(numbers):
            return numbers
    if len(names) != classes:
        raise DataError(
            f"{path} has {classes:,} classes, but the data set {len(names):,} identities, whose names are not all "
            "different numbers below that; give the head that was trained on just these identities"
        )
    return np.arange(classes)


def named_numbers(names: pa.Array, named: pa.Array, path: Path) -> Numbers:
    """The class of each identity by the names of the classes; raises DataError if one has none."""
    found = pc.index_in(names, value_set=named)
    missing = names.filter(found.is_null())
    if len(missing):
        raise DataError(
            f"{path} has no class for {len(missing):,} of {len(names):,} identities, first {missing[0]}; "
            "embed those that it was trained on"
        )
    numbers: Numbers = found.cast(pa.int64()).to_numpy()
    return numbers


def read_class_names(path: Path) -> pa.Array | None:
    """The identities of the classes of a head that facecore train wrote, as JSON in bytes; None in any other file."""
    if path.suffix.lower() != ".safetensors":
        return None
    held = _read_safetensors(path).get("identities")
    return None if held is None else pa.array(json.loads(held.numpy().tobytes()), pa.string())


def read_weights(path: Path, dimension: int) -> Tensor:
    """The weights (classes, dimension) in a file, turned if it has them as (dimension, classes).

    Of several arrays of two dimensions it is the one named `weight`, as in arcface_torch. Raises ModelError if there is
    none, or one that does not fit.
    """
    if path.suffix.lower() not in READERS:
        raise ModelError(f"{path} does not end in {', '.join(READERS)}; facecore tells formats of heads by the suffix")
    if not path.is_file():
        raise ModelError(f"no head at {path}; name a file that is there")
    matrices = _matrices(path)
    found = [matrices["weight"]] if "weight" in matrices else list(matrices.values())
    if len(found) != 1:
        raise ModelError(
            f"{path} holds {len(found)} float arrays of two dimensions, not one; "
            "save the classifier's weights (classes, d) alone"
        )
    (weights,) = found
    if dimension not in weights.shape:
        raise ModelError(
            f"{path} is of shape {tuple(weights.shape)}, but the network gives {dimension:,} numbers a face; "
            "give the head that was trained with this network"
        )
    return weights if weights.shape[1] == dimension else weights.T  # as DiffProb's authors and AdaFace save `kernel`


def _matrices(path: Path) -> dict[str, Tensor]:
    """The float arrays of two dimensions in a file, by name; what is not of a name is `weight`."""
    try:
        held = READERS[path.suffix.lower()](path)
        held = held.get(PARTIAL_FC, held) if isinstance(held, Mapping) else {"weight": held}
        tensors = {name: _tensor(value) for name, value in held.items()}
    except ModelError:
        raise
    except Exception as error:  # numpy, zip, pickle and torch each raise their own
        raise ModelError(
            f"{path} is not a whole file of arrays alone, and nothing else is read; save the weights again"
        ) from error
    return {name: value for name, value in tensors.items() if value is not None}


def _tensor(value: Any) -> Tensor | None:
    """An array as a tensor over the same memory, if it has floats and two dimensions."""
    if isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind == "f":
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=False))
    if isinstance(value, Tensor) and value.ndim == 2 and value.is_floating_point():
        return value.detach()
    return None


def _lengths(weights: Tensor, path: Path) -> Tensor:
    """The lengths of the weights of each class, (classes,); raises ModelError if one is not finite."""
    lengths = torch.empty(len(weights), dtype=torch.float64)
    for first in range(0, len(weights), BLOCK):
        some = slice(first, first + BLOCK)
        lengths[some] = torch.linalg.vector_norm(weights[some].float(), dim=1, dtype=torch.float64)
    bad = torch.nonzero(~torch.isfinite(lengths.float()))
    if len(bad):
        raise ModelError(f"{path}: the weights of class {int(bad[0]):,} are not finite; give a head that is sound")
    return lengths.float().clamp(min=1e-12)  # as in torch's normalize: a class without weights has the cosine 0


def _read_npz(path: Path) -> Mapping[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)


def _read_checkpoint(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of a foreign file, it raises as well
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        safetensors = importlib.import_module("safetensors.torch")
    except ImportError:
        raise ModelError(
            f"{path} needs the package safetensors, which is not installed; install it, or save the weights as .npy"
        ) from None
    tensors: Mapping[str, Any] = safetensors.load_file(path)
    return tensors


READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": lambda path: load_npy(path, "c"),  # "c", for torch warns of memory that cannot be written
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_checkpoint,
    ".pth": _read_checkpoint,
}
