"""Command-line options from the fields of a stage's dataclass, which thereby stay the only place that says them."""

import dataclasses
import logging
import pkgutil
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import click

from facecore.images import Preprocess

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


class StageCommand(click.Command):
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
