"""A torch network as an ONNX graph, without what the exporter prints on the way."""

import contextlib
import io
import warnings

import onnx
import torch
from torch import nn

from facecore.models.quiet import quiet

LARGEST_BATCH = 4096  # torch.export wants a bound; the ONNX file itself has none
OPSET = 18


def to_onnx(network: nn.Module, size: int) -> onnx.ModelProto:
    """The network as a graph from `images` (n, 3, size, size) to `embeddings`, for any n; equal ones give equal bytes.

    Raises whatever the exporter does: it has an exception of its own for every step.
    """
    return exported(torch.export.export(network, (torch.zeros(2, 3, size, size),), dynamic_shapes=_any_batch()))


def exported(program: torch.export.ExportedProgram) -> onnx.ModelProto:
    """A program of torch.export as a graph from `images` to `embeddings`; raises whatever the exporter does."""
    # without what the exporter prints, logs and warns of: its own progress, and optional packages it lacks
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), quiet("torch.onnx"):
        warnings.simplefilter("ignore")
        written = torch.onnx.export(
            program,
            input_names=["images"],
            output_names=["embeddings"],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert written is not None  # only the exporter without dynamo returns None
    model = written.model_proto
    # the exporter notes where in whose file system each node came from, which is nobody else's business
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        del part.metadata_props[:]
    return model


def _any_batch() -> tuple[dict[int, torch.export.Dim]]:
    return ({0: torch.export.Dim("n", min=1, max=LARGEST_BATCH)},)
