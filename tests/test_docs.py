"""The README tells the truth: its commands exist, its Python runs, and no command is missing from it."""

import re
import shlex
from pathlib import Path

import click
import pytest
from pictures import folder_of, jpeg
from test_models_onnx import written
from test_quantize import network

from facecore.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text()
MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text()
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
INLINE = re.findall(r"`(facecore [^`]+)`", README)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_in_the_readme(name):
    assert f"facecore {name}" in README


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("facecore")])
def test_every_command_line_of_the_readme_parses(line):
    words = shlex.split(line)[1:]
    command = main.commands[words[0]]
    command.make_context(words[0], words[1:])


def test_every_option_named_in_the_readme_exists():
    options = {
        option
        for command in main.commands.values()
        for parameter in command.get_params(click.Context(command))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z0-9-]+)", README))
    assert named
    assert named <= options


def test_the_python_of_the_readme_runs(tmp_path, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    faces = folder_of(tmp_path / "faces", {f"p{i % 2}/{i}.jpg": jpeg(i, 16) for i in range(10)})
    names["curate"](faces, written(network(), tmp_path / "net.onnx"), tmp_path / "out")
    assert capsys.readouterr().out.startswith("6 ")
    assert (tmp_path / "out" / "subset.dropped.parquet").is_file()


def test_every_make_target_named_is_there():
    for target in set(re.findall(r"make ([a-z]+)", README)) - {"PYTHON"}:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_no_placeholder_was_left():
    assert "@@" not in README
