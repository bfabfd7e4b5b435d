"""What made a file; writing whole or not at all."""

import hashlib

import pytest

from facecore.errors import DataError
from facecore.provenance import (
    Provenance,
    canonical_json,
    refuse_to_overwrite,
    sha256_of,
    sha256_of_file,
    write_text_whole,
    written_whole,
)


def test_json_there_and_back():
    made = Provenance("nms", {"keep": 0.6}, {"store": "ab"}, {"kept": 3, "root": "über"})
    assert made.to_json() == (
        '{"facts":{"kept":3,"root":"über"},"inputs":{"store":"ab"},"options":{"keep":0.6},"stage":"nms"}'
    )
    assert Provenance.from_json(made.to_json()) == made
    assert Provenance.from_json(made.to_json().encode()) == made


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"stage":"x"}', b"\xff"])
def test_json_of_something_else(text):
    with pytest.raises(ValueError):  # noqa: PT011 - json raises several kinds
        Provenance.from_json(text)


def test_one_spelling_for_one_value():
    assert canonical_json({"b": 1, "a": [1.5, None, True]}) == canonical_json({"a": (1.5, None, True), "b": 1})
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_sha256(tmp_path):
    data = ("é" * 700_000).encode()  # more than one block
    (tmp_path / "x").write_bytes(data)
    assert sha256_of_file(tmp_path / "x") == hashlib.sha256(data).hexdigest() == sha256_of("é" * 700_000)


def test_a_whole_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    write_text_whole(path, "old")
    write_text_whole(path, "new\n")
    assert path.read_bytes() == b"new\n"
    assert list(tmp_path.rglob("*")) == [path.parent, path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_failure_leaves_nothing_behind(tmp_path, old, error):
    path = tmp_path / "x.txt"
    if old:
        path.write_text(old)

    def fail():
        with written_whole(path) as part:
            part.write_text("half")
            assert part.parent == path.parent
            raise error

    with pytest.raises(error):
        fail()
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == ({"x.txt": old} if old else {})


def test_a_stale_part_is_replaced(tmp_path):
    (tmp_path / "x.txt.part").write_text("a longer half of another run")
    write_text_whole(tmp_path / "x.txt", "new")
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"x.txt": "new"}


def test_refuse_to_overwrite(tmp_path):
    there = tmp_path / "there"
    there.touch()
    refuse_to_overwrite(tmp_path / "a", tmp_path / "b", overwrite=False)
    refuse_to_overwrite(tmp_path / "a", there, overwrite=True)
    with pytest.raises(DataError) as caught:
        refuse_to_overwrite(tmp_path / "a", there, overwrite=False)
    assert str(caught.value) == f"{there} exists; choose another --out, or add --overwrite to replace it"


def test_a_folder_is_no_place_for_a_file(tmp_path):
    for overwrite in (False, True):
        with pytest.raises(DataError) as caught:
            refuse_to_overwrite(tmp_path, overwrite=overwrite)
        assert str(caught.value) == f"{tmp_path} is a folder; choose another --out"
