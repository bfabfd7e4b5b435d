"""Faces from an exported generator: random latents in, pixels out."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from facecore.errors import ModelError, OptionError
from facecore.images import Floats, Pixels
from facecore.models.backbone import first_line
from facecore.provenance import sha256_of_file
from facecore.synthesis.options import GENERATOR, RANGES, SynthesisOptions, parse_latent
from facecore.synthesis.programs import Array, Program, Taken, load_generator
from facecore.synthesis.streams import CLASSES, LATENTS, stream

TRIED = 2  # faces made to find out how a file is to be called: not 1, which would hide a batch that is none
NEGATIVE, OVERSHOOT, LARGE = -0.25, 2.0, 4.0  # what tells the ranges apart; generators overshoot theirs a little


@dataclass(frozen=True)
class Filled:
    """How an input is filled in: with a latent, a class as one-hot or as label, or the truncation."""

    taken: Taken
    role: str  # latent, class, label or truncation
    shape: tuple[int, ...]  # of one face's part: () for a number a face
    classes: int = 0

    def values(self, faces: range, options: SynthesisOptions) -> Array | float:
        """The input of these faces."""
        if self.role == "latent":
            drawn = [stream(options.seed, LATENTS, face).standard_normal(self.shape) for face in faces]
            return np.asarray(np.stack(drawn), self.taken.dtype or "float32")
        if self.role == "truncation":
            return self._truncation(len(faces), options.truncation)
        labels = np.array([stream(options.seed, CLASSES, face).integers(self.classes) for face in faces])
        if self.role == "class":
            return np.asarray(np.eye(self.classes)[labels], self.taken.dtype or "float32")
        return np.asarray(labels.reshape(-1, *self.shape), self.taken.dtype or "int64")

    def _truncation(self, faces: int, truncation: float) -> Array | float:
        if self.taken.plain:
            return truncation
        sides = self.taken.shape or ()
        return np.full([faces if side is None else side for side in sides], truncation, self.taken.dtype or "float32")


class Generator:
    """A generator's file; raises ModelError if it is none, or takes what is neither latent, class nor truncation."""

    name: ClassVar[str] = GENERATOR

    def __init__(self, path: Path, options: SynthesisOptions) -> None:
        self._program, self._options = load_generator(path), options
        self.inputs: Mapping[str, str] = {"generator": sha256_of_file(path)}
        self.batch = options.batch_size
        self._filled, self._output = _first_that_runs(self._program, options)
        self._run_at_a_time = _fixed_batch(self._program) or self.batch
        self._range = RANGES[options.range] if options.range in RANGES else _range_of(path, self._values(0))
        latent = next(filled.shape for filled in self._filled if filled.role == "latent")
        self.facts: Mapping[str, Any] = {"latent": list(latent), "range": list(self._range)}

    def faces(self, number: int) -> Pixels:
        """See `Source`."""
        low, high = self._range
        pixels = np.clip(np.rint((self._values(number) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
        return _middle(pixels.transpose(0, 2, 3, 1), self._options.crop)

    def _values(self, number: int) -> Floats:
        """What the file makes of a batch, (batch, 3, height, width)."""
        faces = range(number * self.batch, (number + 1) * self.batch)
        made = []
        for start in range(0, self.batch, self._run_at_a_time):
            some = range(faces[start], faces[start] + self._run_at_a_time)  # the last may be more than are wanted
            made.append(_run(self._program, self._filled, some, self._options)[self._output])
        return np.concatenate(made)[: self.batch]


def _run(program: Program, filled: Sequence[Filled], faces: range, options: SynthesisOptions) -> list[Array]:
    given = {one.taken.name: one.values(faces, options) for one in filled}
    try:
        outputs = program.run(given)
    except Exception as error:  # torch and onnxruntime raise whatever an operator raises
        raise ModelError(
            f"{program.path} takes {program} and does not run on a batch of {len(faces)} ({first_line(error)}); "
            "try another --batch-size, --latent or --classes"
        ) from error
    if not all(np.isfinite(values).all() for values in outputs):
        raise ModelError(f"{program.path} makes images that are not finite; it is damaged, or was exported wrongly")
    return outputs


def _first_that_runs(program: Program, options: SynthesisOptions) -> tuple[tuple[Filled, ...], int]:
    """How to call a file, and which of its outputs are the images; where the file does not say, what works."""
    roles = _roles(program, options)
    ways = list(itertools.product(*(_ways(program, taken, role, options) for taken, role in roles)))
    faces = range(_fixed_batch(program) or TRIED)
    working: list[tuple[tuple[Filled, ...], int]] = []
    failure: ModelError | None = None
    for way in ways:
        try:
            outputs = _run(program, way, faces, options)
        except ModelError as error:
            failure = failure or error
            continue
        images = [at for at, made in enumerate(outputs) if made.ndim == 4 and made.shape[:2] == (len(faces), 3)]
        if images:
            working.append((way, images[0]))
        else:
            shapes = ", ".join(str(values.shape) for values in outputs)
            failure = ModelError(
                f"{program.path} takes {program} and gives {shapes} for a batch of {len(faces)}, not images "
                "(n, 3, h, w); export the generator so"
            )
    if len({tuple(one.shape for one in way if one.role == "latent") for way, _ in working}) > 1:
        raise ModelError(f"{program.path} runs on latents of several sizes and does not say its own; name it: --latent")
    if not working:
        if len(ways) > 1:
            raise ModelError(f"{program.path} takes {program} and runs on no latent that was tried; name it: --latent")
        assert failure is not None
        raise failure
    return working[0]


def _roles(program: Program, options: SynthesisOptions) -> list[tuple[Taken, str]]:
    """What each input is for, by its name, type and place; raises ModelError if that cannot be told."""
    roles: list[tuple[Taken, str]] = []
    for taken in program.inputs:
        role = _role(taken, {role for _, role in roles})
        if role in ("class", "label") and not taken.wanted and options.classes is None:
            continue
        if role is None and taken.wanted:
            raise _unknown(program)
        if role is not None:
            roles.append((taken, role))
    there = {role for _, role in roles}
    if "latent" not in there:
        raise _unknown(program)
    if options.truncation != 1 and "truncation" not in there:
        raise OptionError(f"{program.path} takes {program}, no truncation; leave out --truncation")
    if options.classes is not None and not there & {"class", "label"}:
        raise OptionError(f"{program.path} takes {program}, no class; leave out --classes")
    return roles


def _unknown(program: Program) -> ModelError:
    return ModelError(
        f"{program.path} takes {program}; a generator takes a latent and perhaps a class (one-hot or a label) and a "
        "truncation (psi); export it so"
    )


def _role(taken: Taken, there: set[str]) -> str | None:
    name, floating = taken.name.lower(), taken.dtype is None or taken.dtype.startswith("float")
    lone = taken.shape is not None and math.prod(side or 1 for side in taken.shape) == 1
    role = None
    if floating and ("psi" in name or "trunc" in name or (lone and "latent" in there)):
        role = "truncation"
    elif floating and not taken.plain and "latent" not in there:
        role = "latent"
    elif taken.dtype in ("int64", "int32") and lone and not taken.plain:
        role = "label"
    elif floating and not taken.plain and (taken.shape is None or len(taken.shape) == 2):
        role = "class"
    return None if role in there or (role == "label" and "class" in there) else role


def _ways(program: Program, taken: Taken, role: str, options: SynthesisOptions) -> Iterator[Filled]:
    """How an input may be filled in: one way, or where the file does not say, several to be tried."""
    if role == "truncation":
        yield Filled(taken, role, ())
    elif role == "latent":
        for shape in _latents(program, taken, options):
            yield Filled(taken, role, shape)
    else:
        said = taken.shape[1] if role == "class" and taken.shape is not None else None
        classes = said or options.classes
        if classes is None:
            raise OptionError(f"{program.path} takes {taken}, a class, and does not say of how many; name --classes")
        if role == "class":
            yield Filled(taken, "class", (classes,), classes)
        if role == "label" or taken.shape is None:
            yield Filled(taken, "label", (1,) * (len(taken.shape or (1,)) - 1), classes)


def _latents(program: Program, taken: Taken, options: SynthesisOptions) -> list[tuple[int, ...]]:
    said = taken.shape[1:] if taken.shape else (None,)
    if options.latent is not None:
        return [parse_latent(options.latent)]
    if all(side is not None for side in said):
        return [tuple(side for side in said if side is not None)]
    if not program.widths:
        raise OptionError(f"{program.path} takes {taken}, a latent, and does not say how large; name it: --latent 512")
    return [shape for width in program.widths for shape in ((width,), (width, 1, 1))]


def _fixed_batch(program: Program) -> int | None:
    """How many faces the file insists on making at a time; None for any number."""
    sides = [taken.shape[0] for taken in program.inputs if taken.shape and math.prod(s or 2 for s in taken.shape) > 1]
    return next((side for side in sides if side is not None), None)


def _range_of(path: Path, values: Floats) -> tuple[float, float]:
    """Black and white of a batch's values; raises ModelError if they are none of RANGES."""
    low, high = float(values.min()), float(values.max())
    if high > LARGE and low > NEGATIVE * high:
        return RANGES["0,255"]
    if max(-low, high) <= OVERSHOOT and low < NEGATIVE:
        return RANGES["-1,1"]
    if max(-low, high) <= OVERSHOOT:
        return RANGES["0,1"]
    raise ModelError(
        f"{path} makes values from {low:.3g} to {high:.3g}, which is none of "
        f"{', '.join(f'[{name}]' for name in RANGES)}; say which by --range"
    )


def _middle(pictures: Pixels, crop: float) -> Pixels:
    """The square about the middle of pictures (n, height, width, 3) whose side is this part of the shorter one."""
    height, width = pictures.shape[1:3]
    side = max(1, round(crop * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return pictures[:, top : top + side, left : left + side]
