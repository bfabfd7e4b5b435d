"""The recipes run, and stay short."""

import importlib.util
from pathlib import Path

import pytest
from pictures import folder_of, jpeg
from test_models_onnx import written
from test_quantize import network

RECIPES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_under_80_lines(path):
    assert len(path.read_text().splitlines()) < 80


def test_one_machine_goes_on_where_it_was(tmp_path):
    (path,) = (path for path in RECIPES if path.stem == "one_machine")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    faces = folder_of(tmp_path / "faces", {f"p{i % 4}/{i:02d}.jpg": jpeg(i, 16) for i in range(16)})
    model = written(network(), tmp_path / "net.onnx")
    pairs = tmp_path / "pairs.csv"
    same = [f"p{i}/{i:02d}.jpg,p{i}/{i + 4:02d}.jpg,1,{i % 2}" for i in range(4)]
    different = [f"p{i}/{i:02d}.jpg,p{3 - i}/{3 - i:02d}.jpg,0,{i % 2}" for i in range(4)]
    pairs.write_text("\n".join(["left,right,same,fold", *same, *different]) + "\n")
    first = recipe.one_machine(faces, model, pairs, faces, tmp_path / "out", epochs=0.5)
    assert list(first) == ["float", "w8a8"]
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert recipe.one_machine(faces, model, pairs, faces, tmp_path / "out") == first
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
