"""What commands have in common: each writes alone, and options come from the fields of a stage's dataclass."""

import dataclasses
import logging
import os
import pkgutil
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from facecore.claims import claimed
from facecore.images import Preprocess
from facecore.storage import is_remote

WRITTEN = ("out", "drop", "receipt", "roc")  # the options that name what a command writes
SHARED = "shard_index"  # the option of a task in an array, which writes one part of an output

_Function = TypeVar("_Function", bound=Callable[..., Any])


def verbose(function: _Function) -> _Function:
    """Give a command -v."""

    def listen(ctx: click.Context, parameter: click.Parameter, on: bool) -> None:
        if on:
            logging.getLogger("facecore").setLevel(logging.INFO)

    option = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=listen, help="Say what else is going on."
    )
    return option(function)


class Command(click.Command):
    """A command that nobody else may write to the same place during, see `claimed`."""

    def invoke(self, ctx: click.Context) -> Any:
        with claimed(*_written_alone(ctx)):
            return super().invoke(ctx)


def _written_alone(ctx: click.Context) -> list[Path]:
    """The local paths that a command will write, and that no other process may: a task of its array may, or a rank."""
    if ctx.get_parameter_source(SHARED) == ParameterSource.COMMANDLINE or os.environ.get("RANK", "0") != "0":
        return []
    paths = [ctx.params.get(name) for name in WRITTEN]
    return [path for path in paths if isinstance(path, Path) and not is_remote(path)]


class StageCommand(Command):
    """A command that takes the fields of a dataclass as options, and is called with an instance, `options`.

    The dataclass is imported when the command is used, not when it is defined: stages import torch. A field needs
    `help` in its metadata; `parse` there turns the text given into the value. A field of type Preprocess | None
    becomes the options of Preprocess, None unless one of them is given.
    """

    options: str  # the dataclass, as module:class

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, helping = super().get_params(ctx)
        return [*own, *(option for field in self._fields() for option in _options(*field)), helping]

    def invoke(self, ctx: click.Context) -> Any:
        values = {}
        for field, kind in self._fields():
            if kind is Preprocess:
                parts = {part.name: ctx.params.pop(part.name) for part, _ in _typed_fields(Preprocess)}
                given = {name: value for name, value in parts.items() if value is not None}
                values[field.name] = Preprocess(**given) if given else None
            else:
                values[field.name] = ctx.params.pop(field.name)
        ctx.params["options"] = pkgutil.resolve_name(self.options)(**values)
        return super().invoke(ctx)

    def _fields(self) -> list[tuple["dataclasses.Field[Any]", Any]]:
        return _typed_fields(pkgutil.resolve_name(self.options))


def _typed_fields(dataclass: Any) -> list[tuple["dataclasses.Field[Any]", Any]]:
    """The fields of a dataclass, each with its type; X stands for X | None."""
    hints = typing.get_type_hints(dataclass)
    return [(field, _without_none(hints[field.name])) for field in dataclasses.fields(dataclass)]


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _options(field: "dataclasses.Field[Any]", kind: Any) -> list[click.Option]:
    if kind is Preprocess:
        return [_option(part, of, default=None) for part, of in _typed_fields(Preprocess)]
    factory = field.default_factory
    return [_option(field, kind, default=field.default if factory is dataclasses.MISSING else factory())]


def _option(field: "dataclasses.Field[Any]", kind: Any, default: Any) -> click.Option:
    flag = "--" + field.name.replace("_", "-")
    parse = field.metadata.get("parse")
    return click.Option(
        [f"{flag}/--no-{flag[2:]}" if kind is bool else flag],
        type=bool if kind is bool else click.types.FuncParamType(parse) if parse else kind,
        default=str(default) if parse else default,
        show_default=default is not None,
        help=field.metadata["help"],
        metavar="TEXT" if parse else None,
    )
