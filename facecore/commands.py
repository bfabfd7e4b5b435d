"""What commands have in common: each writes alone, and options come from the fields of a stage's dataclass."""

import dataclasses
import logging
import os
import pkgutil
import re
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from facecore.claims import claimed
from facecore.errors import OptionError
from facecore.images import Preprocess
from facecore.storage import is_address, is_remote, located

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


class _Place(click.Path):
    """A path; remote ones too, if the command can do with them."""

    def __init__(self, *, remote: bool) -> None:
        super().__init__()
        self._remote = remote

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if "\0" in str(value):
            self.fail(f"{value!r} is no path: it holds a NUL", param, ctx)
        if is_address(value) and not self._remote:
            what = param.get_error_hint(ctx).strip("'") if param and ctx else "this"
            raise OptionError(f"{what} takes a local path, not {value}; copy it to this machine, or from it")
        return located(value)


FILE = _Place(remote=False)
PLACE = _Place(remote=True)  # a local path, or an address as s3://bucket/faces


class Command(click.Command):
    """A command that nobody else may write to the same place during, see `claimed`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            self.gather(ctx)
            with claimed(*_written_alone(ctx)):
                return super().invoke(ctx)
        except OptionError as error:
            raise OptionError(_as_options(str(error), ctx)) from error

    def gather(self, ctx: click.Context) -> None:
        """Make of the values given what the function takes."""


def _as_options(told: str, ctx: click.Context) -> str:
    """A mistake that is told of Python's names, told of the options; names that are also words, where it begins.

    A name that was given as a value, as a folder called faces, is left as it is.
    """
    given = set(map(str, ctx.params.values()))
    options = [of for of in ctx.command.get_params(ctx) if isinstance(of, click.Option) and of.name not in given]
    flags = {of.name: of.opts[0] for of in options}

    def flag(match: re.Match[str]) -> str:
        word = match[0]
        return flags.get(word, word) if "_" in word or match.start() == 0 else word

    return re.sub(r"(?<![\w/.-])[a-z][a-z0-9_]*(?![\w/.-])", flag, told)


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

    def gather(self, ctx: click.Context) -> None:
        values = {}
        for field, kind in self._fields():
            if kind is Preprocess:
                parts = {part.name: ctx.params.pop(part.name) for part, _ in _typed_fields(Preprocess)}
                given = {name: value for name, value in parts.items() if value is not None}
                values[field.name] = Preprocess(**given) if given else None
            else:
                values[field.name] = ctx.params.pop(field.name)
        ctx.params["options"] = pkgutil.resolve_name(self.options)(**values)

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
        type=FILE if kind is Path else click.types.FuncParamType(parse) if parse else kind,
        default=str(default) if parse else default,
        show_default=default is not None,
        help=field.metadata["help"],
        metavar="TEXT" if parse else None,
    )
