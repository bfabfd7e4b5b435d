"""ONNX files, run by onnxruntime."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from facecore.errors import FacecoreError, ModelError
from facecore.images import Floats, Preprocess
from facecore.models.backbone import DEFAULT_SIZE, check_input, first_line, in_chunks
from facecore.provenance import canonical_json, sha256_of, sha256_of_file

PREPROCESS_KEY = "facecore.preprocess"
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # in order of preference

# Float sums depend on the batch in their last bits. In an integer network a last bit can move an activation by a
# whole step, so there the check can only tell right from wrong, not exact from nearly exact.
TOLERANCE, QUANTIZED_TOLERANCE = 1e-4, 0.2


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives."""

    input: str
    output: str
    size: int
    dimension: int
    batch: int | None  # how many images the file insists on; None for any number


class OnnxBackbone:
    """The ONNX model that a file holds, with any input name and any number of images at a time.

    Of several outputs it takes the one that is (n, d) with d above 1, of several of one d the first. Raises ModelError
    if the model is not such a network, or they differ in d.
    """

    def __init__(self, path: Path, model: onnx.ModelProto, sha256: str) -> None:
        self.sha256 = sha256
        self.preprocess = recorded_preprocess(model, path)
        self._session = open_session(model, path)
        self._signature = signature_of(self._session, path)
        self.size, self.dimension = self._signature.size, self._signature.dimension
        self._chunk = self._signature.batch
        self._run_in_batches(model)

    def embed(self, batch: Floats) -> Floats:
        """(n, 3, size, size) to (n, dimension), not normalised."""
        if not len(batch):
            return np.empty((0, self.dimension), np.float32)
        if self._chunk is None:
            return self._run(batch)
        return in_chunks(self._run, batch, least=self._chunk, most=self._chunk)

    def _run(self, batch: Floats) -> Floats:
        return run_session(self._session, self._signature, batch)

    def _run_in_batches(self, model: onnx.ModelProto) -> None:
        """Free the model of its batch size where that leaves every embedding as it was; else one image at a time."""
        quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        tolerance = QUANTIZED_TOLERANCE if quantized else TOLERANCE
        # two more than the file's own batch, so that these are neither one batch of it nor all of them
        chunk = self._signature.batch or 1
        images = probe_images(chunk + 2, self.size)
        expected = _unit(in_chunks(self._run, images, least=chunk, most=chunk))
        try:
            if self._signature.batch is None:
                session = self._session
            else:
                session = open_session(with_any_batch(model, self._signature.batch), Path("the model"))
            together = _unit(run_session(session, self._signature, images))
        except Exception:  # the file cannot run in batches; onnxruntime has no common exception
            together = np.empty(0, np.float32)
        if together.shape == expected.shape and np.allclose(together, expected, rtol=0, atol=tolerance):
            self._session, self._chunk = session, None
        else:
            self._chunk = chunk


def sha256_with_data(path: Path) -> str:
    """The sha256 of a network's file; of one that keeps weights in other files, of what it and these hold."""
    graph = onnx.load(path, load_external_data=False).graph
    places = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    if not places:
        return sha256_of_file(path)
    return sha256_of(canonical_json([sha256_of_file(path.parent / name) for name in (path.name, *sorted(places))]))


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file; raises ModelError if it is none."""
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, onnx and the operating system each raise their own
        raise ModelError(f"{path} is not an ONNX model ({first_line(error)}); export the network again") from error
    if not model.graph.node:
        raise ModelError(f"{path} is not an ONNX model (it has no operators); export the network again")
    return model


def session_options() -> onnxruntime.SessionOptions:
    """Quiet options, by which integer networks compute what they say on every processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions, which say the same as the log
    # without VNNI, sums of products of bytes overflow 16 bits and are cut off, unless weights are made unsigned first
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_session(model: onnx.ModelProto, path: Path) -> onnxruntime.InferenceSession:
    """A quiet, deterministic session on the best device there is; `path` is for the error only."""
    options = session_options()
    options.use_deterministic_compute = True
    # threads that spin while they wait take the cores from those that decode the next images
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=[name for name in PROVIDERS if name in available]
        )
    except Exception as error:  # onnxruntime has no common exception
        raise ModelError(
            f"{path} is not an ONNX model that onnxruntime runs ({first_line(error)}); export the network again"
        ) from error


def run_session(session: onnxruntime.InferenceSession, signature: Signature, batch: Floats) -> Floats:
    """Run a batch of a size that the session takes."""
    (embeddings,) = session.run([signature.output], {signature.input: np.ascontiguousarray(batch, np.float32)})
    return np.asarray(embeddings, np.float32)


def signature_of(session: onnxruntime.InferenceSession, path: Path) -> Signature:
    """What the model takes and gives, found by running it; raises ModelError unless it is images to embeddings."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs, not one; export the network without its head or detector")
    (taken,) = inputs
    if taken.type != "tensor(float)":
        raise ModelError(f"{path} takes {taken.type}, not tensor(float); export the network with a float32 input")
    shape = [side if isinstance(side, int) else None for side in taken.shape]
    if len(shape) != 4 or shape[1] not in (3, None) or not _square(shape[2], shape[3]):
        raise ModelError(
            f"{path} takes the shape {_written(taken.shape)}, not (n, 3, s, s); export it for square images"
        )
    batch, size = shape[0], shape[2] or shape[3] or DEFAULT_SIZE
    check_input(batch or 1, size, path)
    images = probe_images(batch or 1, size)
    names = [output.name for output in session.get_outputs()]
    try:
        outputs = dict(zip(names, session.run(names, {taken.name: images}), strict=True))
    except Exception as error:  # onnxruntime has no common exception
        raise ModelError(
            f"{path} does not run on images of {size} x {size} ({first_line(error)}); export the network again"
        ) from error
    name, dimension = _embedding(outputs, len(images), path)
    return Signature(taken.name, name, size, dimension, batch)


def _embedding(outputs: Mapping[str, Any], count: int, path: Path) -> tuple[str, int]:
    """Which output is the embedding of `count` images, and its dimension; raises ModelError if there is no telling."""
    wide = {  # of dimension 1: a quality, a norm
        name: int(values.shape[1])
        for name, values in outputs.items()
        if isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.ndim == 2
        if len(values) == count and values.shape[1] > 1
    }
    if not wide:
        shapes = ", ".join(_written(np.shape(values)) for values in outputs.values())
        raise ModelError(
            f"{path} gives {shapes} for a batch of {count}, not (n, d) with d above 1; "
            "export the network up to its embedding"
        )
    if len(set(wide.values())) > 1:
        several = ", ".join(f"{name} (n, {dimension})" for name, dimension in wide.items())
        raise ModelError(
            f"{path} has several outputs that may be the embedding, {several}; export the network with that one alone"
        )
    return next(iter(wide.items()))


def with_any_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy of a model made for `batch` images that may take any number.

    The sizes in its inputs and outputs become symbolic, and a constant Reshape to (batch, ...) copies that axis.
    """
    free = onnx.ModelProto()
    free.CopyFrom(model)
    del free.graph.value_info[:]
    for value in (*free.graph.input, *free.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == batch:
            dims[0].dim_param = "n"
    constants = {tensor.name: tensor for tensor in free.graph.initializer}
    for node in free.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in free.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = onnx.numpy_helper.to_array(constants[node.input[1]]).copy()
            if len(shape) and shape[0] == batch:
                shape[0] = 0  # copy the axis from the input; another node may share the constant, so it gets its own
                node.input[1] = f"{node.output[0]}_any_batch"
                free.graph.initializer.append(onnx.numpy_helper.from_array(shape, node.input[1]))
                del node.attribute[:]  # allowzero, the only one, would turn the 0 into a size
    return free


def record_preprocess(model: onnx.ModelProto, preprocess: Preprocess) -> None:
    """Write into a model how pixels become its input."""
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != PREPROCESS_KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (PREPROCESS_KEY, canonical_json(asdict(preprocess)))]:
        model.metadata_props.add(key=key, value=value)


def recorded_preprocess(model: onnx.ModelProto, path: Path) -> Preprocess | None:
    """What `record_preprocess` wrote, None if it did not; raises ModelError on anything else under its key."""
    for entry in model.metadata_props:
        if entry.key == PREPROCESS_KEY:
            try:
                values = json.loads(entry.value)
                return Preprocess(mean=float(values["mean"]), scale=float(values["scale"]), bgr=bool(values["bgr"]))
            except (ValueError, KeyError, TypeError, FacecoreError) as error:
                raise ModelError(
                    f"{path}: its metadata {PREPROCESS_KEY} is damaged ({first_line(error)}); quantize it again"
                ) from error
    return None


def probe_images(count: int, size: int) -> Floats:
    """Images of coloured squares in [-1, 1], the same each time: unlike each other, so that a mix-up shows."""
    coarse = np.random.default_rng(0).uniform(-1, 1, (count, 3, 4, 4))
    fine = coarse.repeat(-(-size // 4), axis=2).repeat(-(-size // 4), axis=3)
    return np.ascontiguousarray(fine[:, :, :size, :size], np.float32)


def _square(height: int | None, width: int | None) -> bool:
    return height is None or width is None or height == width


def _written(shape: object) -> str:
    return "(" + ", ".join(str(side) for side in shape) + ")" if isinstance(shape, tuple | list) else str(shape)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float32).tiny), np.float32)
