"""What runs that were killed at an unlucky moment leave behind: the next run tidies it, or goes on from it."""

import os
import shutil
from pathlib import Path

import pytest
from test_faults import STAGES, data, facecore, here, made  # noqa: F401 (fixtures)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_dropped_faces_whose_subset_is_still_a_part(here):  # noqa: F811
    assert facecore(STAGES["nms"])[0] == 0
    whole = made(here)
    Path("out.parquet").rename("out.parquet.part")
    assert facecore(STAGES["nms"])[0] == 0
    assert made(here) == whole


def test_dropped_faces_without_a_subset_are_somebodys(here):  # noqa: F811
    assert facecore(STAGES["nms"])[0] == 0
    Path("out.parquet").unlink()
    assert facecore(STAGES["nms"]) == (
        1, "Error: out.dropped.parquet exists; choose another --out, or add --overwrite to replace it\n",
    )  # fmt: skip


def test_a_subset_is_never_beside_the_dropped_faces_of_another(here, monkeypatch):  # noqa: F811
    assert facecore(STAGES["nms"])[0] == 0
    seen, replace = [], os.replace

    def watched(part, path):
        seen.append((Path(path).name, Path("out.parquet").exists()))
        return replace(part, path)

    monkeypatch.setattr("os.replace", watched)
    assert facecore(f"{STAGES['nms']} --overwrite".replace("0.6", "0.3"))[0] == 0
    assert seen == [("out.dropped.parquet", False), ("out.parquet", False)]


def test_synthesis_that_was_killed_in_its_first_file(here):  # noqa: F811
    Path("out/.records").mkdir(parents=True)
    Path("out/.records/made_of.json.part").write_text('{"sta')
    assert facecore(STAGES["synthesize"])[0] == 0
    assert "made_of.json.part" not in names(Path("out"))


def test_foreign_folders_are_none_of_synthesis(here):  # noqa: F811
    Path("out/.records").mkdir(parents=True)
    Path("out/.records/notes.txt").touch()
    assert facecore(STAGES["synthesize"]) == (
        1, "Error: out holds what is not synthetic faces; choose another --out\n",
    )  # fmt: skip


@pytest.mark.parametrize("stage", ["recordio", "import"])
def test_a_folder_that_was_done_but_for_tidying_up(stage, here):  # noqa: F811
    assert facecore(STAGES[stage])[0] == 0
    whole = made(here)
    Path("out.part").mkdir()
    if stage == "recordio":
        Path("out.part/plan.json").write_text("{}")
    assert facecore(STAGES[stage]) == (
        1, "Error: out exists; choose another --out, or add --overwrite to replace it\n",
    )  # fmt: skip
    assert not Path("out.part").exists()
    assert made(here) == whole


@pytest.mark.parametrize("stage", ["recordio", "import"])
def test_a_folder_that_was_about_to_be_replaced(stage, here):  # noqa: F811
    words = f"{STAGES[stage]} --overwrite"
    assert facecore(words)[0] == 0
    whole = made(here)
    Path("out.part").mkdir()
    if stage == "recordio":
        shutil.copytree("out", "out.part/whole")
        Path("out.part/plan.json").write_text("{}")
    Path("out").rename("out.part/replaced")
    assert facecore(words)[0] == 0
    assert made(here) == whole


def test_an_export_that_was_killed_in_its_first_file(here):  # noqa: F811
    Path("out.part").mkdir()
    Path("out.part/plan.json.part").write_text("{")
    assert facecore(STAGES["recordio"])[0] == 0
    assert not Path("out.part").exists()


def test_a_training_that_was_done_but_for_its_best_network(here):  # noqa: F811
    assert facecore(STAGES["train"])[0] == 0
    whole = names(Path("out"))
    Path("out/best.pt").write_bytes(b"x")
    assert facecore(STAGES["train"])[0] == 1
    assert names(Path("out")) == whole


PAIRS = "left,right,same,fold\n" + "".join(
    f"ann/{n}.jpg,ann/{n + 1}.jpg,1,{n % 2}\nann/{n}.jpg,bob/{n}.jpg,0,{n % 2}\n" for n in range(4)
)


def test_a_quantization_that_was_killed_as_it_verified(here, monkeypatch):  # noqa: F811
    Path("pairs.csv").write_text(PAIRS)
    words = f"{STAGES['quantize']} --verify near=pairs.csv,faces"
    with monkeypatch.context() as patch:
        patch.setattr("facecore.accuracy.verify", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            facecore(words)
    assert Path("out/model.onnx").exists()
    assert not Path("out/report.json").exists()
    first = Path("out/model.onnx").read_bytes()
    monkeypatch.setattr("facecore.quantize.distill.Distillation.learn", lambda *_: pytest.fail("it was trained"))
    code, said = facecore(words)
    assert code == 0, said
    assert Path("out/model.onnx").read_bytes() == first
    assert '"accuracy"' in Path("out/report.json").read_text()
    assert names(Path("out")) == ["calibrated.onnx", "model.onnx", "report.json"]


def test_a_checkpoint_of_another_quantization_protects_what_is_there(here):  # noqa: F811
    assert facecore(STAGES["quantize"])[0] == 0
    whole = made(here)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facecore.quantize.run.write_text_whole", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            facecore(STAGES["quantize"].replace("--out out", "--out other --seed 3"))
    shutil.copy("other/checkpoint.pt", "out/checkpoint.pt")
    code, said = facecore(STAGES["quantize"])
    assert code == 1
    assert said.startswith("Error: out/checkpoint.pt is of a run with other options or inputs; ")
    Path("out/checkpoint.pt").unlink()
    assert made(here) == whole


def test_a_sweep_that_was_killed_in_its_first_file(here):  # noqa: F811
    Path("pairs.csv").write_text(PAIRS)
    Path("out").mkdir()
    Path("out/sweep.json.part").write_text("{")
    code, said = facecore(
        "curve --embeddings store --images faces --model net.onnx --fractions 1 --seeds 1 --steps 1 --batch-size 4 "
        "--calibration-faces 4 --workers 1 --verify near=pairs.csv,faces --out out"
    )
    assert code == 0, said
    assert "sweep.json.part" not in names(Path("out"))
