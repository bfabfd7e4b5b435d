"""The command group: how mistakes are shown, what commands share, and how one is registered."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import click

from facecore.commands import FILE, PLACE, Command, StageCommand, verbose
from facecore.errors import FacecoreError, printable
from facecore.signals import INTERRUPTED, exit_code

arch = click.option("--arch", help="Network of a checkpoint: r18, r34, r50, r100, r200, mbf, mbf_large, tiny.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace what is there.")
images = click.option("--images", type=PLACE, help="Root of a manifest's images, if not where they were.")
threads = click.option("--threads", type=click.IntRange(1, 4096), help="Cores to use; all by default. Changes no byte.")
embeddings = click.option(
    "--embeddings", type=PLACE, default="embeddings", show_default=True, help="Store to select from."
)
model = click.option(
    "--model", type=FILE, required=True, help="Network: .onnx, .safetensors, .pt2, or .pt/.pth with --arch."
)


class _OneLine(click.Command):
    """Renders what a user can mend as one line; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FacecoreError as error:
            raise click.ClickException(str(error)) from error
        except click.MissingParameter:
            raise  # told as an option that there is not, with the usage
        except click.BadParameter as error:
            raise click.ClickException(error.format_message()) from error
        except BrokenPipeError:
            raise  # whoever reads our output has had enough, which click takes quietly
        except OSError as error:
            raise click.ClickException(f"{_told(error)}; check the path, its permissions and the free space") from error
        except KeyboardInterrupt as interrupt:
            click.echo(INTERRUPTED, err=True)
            ctx.exit(exit_code(interrupt))


class _Group(_OneLine, click.Group):
    """All commands."""

    command_class = Command


class Recipe(_OneLine):
    """A script that puts stages together, whose mistakes are told as those of the commands."""


def _told(error: OSError) -> str:
    """What went wrong, in one line, and the file where that is known; not a number that only systems know."""
    what = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    return printable(f"{error.filename}: {what}" if error.filename else what)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="facecore")
def main() -> None:
    """Find the faces that matter: select a core set, and fine-tune low-bit networks on it.

    \b
    facecore train DATASET                     a network to embed with, if you have none
    facecore embed DATASET --model M           vectors of every face; import, where you have them
    facecore nms --keep 0.6                    the subset, and a reason for every face left out
    facecore audit subset.parquet              whether all of that is true
    facecore quantize --manifest S --model M   an integer network, fine-tuned on the subset
    facecore verify --model M --pairs P        what it is worth
    facecore verify --model M --suite DIR      every protocol of a folder, in one table
    facecore curve --model M --verify P        accuracy against the fraction of the data
    facecore report DIR                        a page to look at all of it
    """  # noqa: D301 (click wants the control character itself)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    warnings.filterwarnings("ignore", module="PIL")  # an image is read, or rejected with a reason


def stage(name: str, options: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a command whose options are also the fields of a stage's dataclass, named as module:class."""

    def register(function: Callable[..., None]) -> click.Command:
        command = main.command(name, cls=StageCommand)(verbose(function))
        assert isinstance(command, StageCommand)
        command.options = options
        return command

    return register
