"""Disks that are full, and get room again; outputs that cannot be written; few open files."""

import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pictures import folder_of, jpeg
from test_faults import EVERY, data, facecore, halves, here, limited, made, prepared  # noqa: F401 (fixtures)


def mounted(folder, *options):
    """Mount memory as a disk, or skip."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", folder]
    if not shutil.which("mount") or os.geteuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("to mount a small disk takes root, and a system that lets it")
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB; gone in the end."""
    disk = mounted(tmp_path / "disk", "size=4m")
    yield disk
    os.chdir(tmp_path)
    subprocess.run(
        ["umount", "--lazy", disk], check=True
    )  # pyarrow holds a file that it could not write a while longer


@pytest.mark.parametrize("room", [0, 4096, 12288])
@EVERY
def test_a_disk_that_is_full_and_gets_room_again(words, room, here, data, small_disk, monkeypatch):  # noqa: F811
    prepared(data, small_disk, monkeypatch)
    filler = small_disk / "filler"
    with filler.open("wb") as stream:
        stream.write(bytes(os.statvfs(small_disk).f_bavail * 4096 - room))
    code, said = facecore(words)
    if code:
        assert code == 1
        assert said.startswith("Error: ")
        assert not said.startswith("Error: No space")  # but the file for which there is none
        assert said.endswith("No space left on device; check the path, its permissions and the free space\n")
        assert said.count("\n") == 1
    assert not halves(small_disk)
    filler.unlink()
    if code:  # else there is nothing to make again, and some commands would refuse to
        assert facecore(words)[0] == 0
    found = made(small_disk)
    monkeypatch.chdir(here)
    assert facecore(words)[0] == 0
    assert found == made(here)


@EVERY
def test_an_output_that_may_not_be_written(words, here, data, tmp_path, monkeypatch):  # noqa: F811
    place = tmp_path / "place"
    if os.geteuid():
        place.mkdir()
        place.chmod(0o555)
    else:  # whom no permission stops, but a disk that is read only
        mounted(place, "ro")
    try:
        code, said = facecore(words.replace("--out out", "--out place/out"))
        assert (code, said.count("\n")) == (1, 1)
        assert said.startswith("Error: place")
        assert os.listdir(place) == []
    finally:
        monkeypatch.chdir(tmp_path)
        if not os.geteuid():
            subprocess.run(["umount", "--lazy", place], check=True)


def test_many_shards_and_few_open_files(here):  # noqa: F811
    folder_of(Path("many"), {f"p{n:03d}/{k}.jpg": jpeg(n % 9, 16) for n in range(150) for k in range(2)})
    np.save("vectors.npy", np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32))
    Path("labels.csv").write_text("identity,face_id\n" + "".join(f"q{n % 149},{n:03d}\n" for n in range(300)))
    commands = [
        "embed many --model net.onnx --shard-rows 2 --out out",
        "nms --keep 0.6 --embeddings out --out out.parquet --threads 2",
        "select herding --keep 0.6 --embeddings out --out out-herding.parquet",
        "import vectors.npy --labels labels.csv --memory 0.000001 --shard-rows 2 --out out-imported",
        "conflicts --embeddings out --out out-conflicts.parquet",
        "audit out.parquet --embeddings out",
        "export many --to webdataset --shard-faces 3 --out out-webdataset",
        "embed out-webdataset --model net.onnx --shard-rows 100 --out out-again",
    ]
    open_now = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 64
    with limited(resource.RLIMIT_NOFILE, open_now + 24):
        for words in commands:
            code, said = facecore(words)
            assert code == 0, f"{words}: {said}"
    assert len(list(Path("out/metadata").iterdir())) == 150
