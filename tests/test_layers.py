"""The structure of the package: who may import whom, what stays out of a quick start, and what is public."""

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import facecore

ROOT = Path(facecore.__file__).parent

LAYERS = [
    {"errors", "progress", "parallel", "compiled", "grid", "signals"},
    {"storage", "pool", "claims"},
    {"provenance", "parquet", "npy", "__init__"},
    {"manifest", "images", "checkpoint"},
    {"embeddings"},
    {"centres"},
    {"readers", "models", "search"},
    {"embed", "select", "train", "quantize", "synthesis", "verify", "review", "importing", "forget", "export", "data"},
    {"accuracy", "commands", "demo"},  # accuracy and demo compose the stages, which never import each other
    {"curve", "report"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# Packages that one place alone may import, so that they can be replaced there.
ONLY = {"click": {"cli", "commands"}, "faiss": {"search"}, "ray": set()}

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
PACKAGES = sorted(m.name for m in pkgutil.walk_packages(facecore.__path__, "facecore.") if m.ispkg)


def part_of(module):
    return module.parts[0].removesuffix(".py")


def imports_of(module):
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield node.module


def test_every_part_has_a_layer():
    assert {part_of(module) for module in MODULES} <= LAYER.keys()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down(module):
    own = part_of(module)
    for name in imports_of(module):
        if name.startswith("facecore."):
            other = name.split(".")[1]
            assert other == own or LAYER[other] < LAYER[own], f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_some_packages_have_one_door(module):
    for name in imports_of(module):
        allowed = ONLY.get(name.split(".")[0])
        assert allowed is None or part_of(module) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize(
    "program", ["import facecore", "import facecore.cli; facecore.cli.main(['--help'], standalone_mode=False)"]
)
def test_a_quick_start_imports_nothing_heavy(program):
    heavy = (
        "import sys; print(sorted({'torch', 'onnx', 'onnxruntime', 'numba', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", f"{program}; {heavy}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["facecore", *PACKAGES])
def test_public_names_are_there_sorted_and_said(name):
    package = importlib.import_module(name)
    assert package.__doc__
    names = getattr(package, "__all__", [])
    assert sorted(names, key=lambda n: (not n.isupper(), n[0].islower(), n)) == list(names)
    for public in names:
        value = getattr(package, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


def test_no_file_has_outgrown_its_reader():
    long = {str(module) for module in MODULES if len((ROOT / module).read_text().splitlines()) > 300}
    assert long == set()
