"""Drawn data sets: the promises of the truth, of the pairs, and of equal bytes."""

import csv
import dataclasses
import shutil
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from facecore.errors import DataError, OptionError
from facecore.images import decode
from facecore.manifest import provenance_of
from facecore.synthesis import DrawOptions, draw_dataset
from facecore.synthesis.drawn import originals_of, person_of
from facecore.synthesis.face import a_person, a_shot
from facecore.synthesis.paint import draw_face

FEW = DrawOptions(faces=4, duplicates=0.0, wrong_labels=0, test_identities=20, test_pairs=20)
SMALL = DrawOptions(identities=4, faces=6, wrong_labels=2, test_identities=20, test_pairs=40)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw_dataset(tmp_path_factory.mktemp("drawn") / "set", SMALL)


def truth_of(drawn):
    return pq.read_table(drawn.truth).to_pylist()


def pairs_of(drawn):
    with drawn.test_pairs.open() as stream:
        return list(csv.DictReader(stream))


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels_of(drawn, face_id):
    return decode((drawn.images / face_id).read_bytes(), 112).astype(float)


def test_a_picture_is_a_function_of_person_and_shot():
    person, shot = a_person(np.random.default_rng(0)), a_shot(np.random.default_rng(1))
    picture = draw_face(person, shot)
    assert picture.shape == (112, 112, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, draw_face(person, shot))
    assert not np.array_equal(picture, draw_face(a_person(np.random.default_rng(2)), shot))


@pytest.mark.parametrize("seed", range(24))
def test_every_shot_of_everybody_can_be_drawn(seed):
    random = np.random.default_rng(seed)
    picture = draw_face(a_person(random), a_shot(random))
    assert picture.std() > 5


def test_turning_the_head_moves_the_nose_but_not_the_wall():
    person, shot = a_person(np.random.default_rng(0)), a_shot(np.random.default_rng(1))
    still = dataclasses.replace(shot, yaw=0.0, noise=0.0, blur=0.0)
    front, turned = (draw_face(person, s).astype(int) for s in (still, dataclasses.replace(still, yaw=0.4)))
    assert np.abs(front - turned)[40:90, 30:80].max() > 40
    assert np.array_equal(front[:, :4], turned[:, :4])


def test_a_person_does_not_depend_on_how_many_there_are(tmp_path):
    four, six = (
        files_of(draw_dataset(tmp_path / str(identities), dataclasses.replace(FEW, identities=identities)).images)
        for identities in (4, 6)
    )
    assert {path.split("/")[0] for path in six} > {path.split("/")[0] for path in four}
    assert {path: data for path, data in six.items() if path in four} == four


def test_nobody_is_somebody_else():
    people = [person_of(seed, number, stranger=s) for seed in (0, 1) for number in (0, 1) for s in (False, True)]
    assert len(set(people)) == len(people)


def test_the_truth_lists_every_file(drawn):
    truth = truth_of(drawn)
    assert [row["face_id"] for row in truth] == sorted(files_of(drawn.images))
    assert all(row["face_id"].split("/")[0] == row["identity"] for row in truth)
    assert drawn.faces == len(truth)
    assert drawn.identities == len({row["identity"] for row in truth}) == 4


def test_the_counts_are_those_of_the_truth(drawn):
    kinds = Counter(row["kind"] for row in truth_of(drawn))
    assert kinds["wrong-label"] == drawn.wrong_labels == 2
    assert kinds["burst"] + kinds["re-encoding"] == drawn.duplicates
    assert drawn.duplicates == pytest.approx(0.25 * drawn.faces, abs=2)
    made = provenance_of(drawn.truth)
    assert made.options == dataclasses.asdict(SMALL)
    assert made.facts["duplicates"] == drawn.duplicates


def test_only_wrong_labels_are_filed_under_somebody_else(drawn):
    for row in truth_of(drawn):
        assert (row["identity"] != row["true_identity"]) == (row["kind"] == "wrong-label")


def test_a_duplicate_names_its_original_and_looks_like_it(drawn):
    truth = {row["face_id"]: row for row in truth_of(drawn)}
    originals = [row for row in truth.values() if row["kind"] == "original"]
    for row in truth.values():
        assert (row["duplicate_of"] is not None) == (row["kind"] in ("burst", "re-encoding"))
        if row["duplicate_of"] is not None:
            assert truth[row["duplicate_of"]]["kind"] == "original"
            picture = pixels_of(drawn, row["face_id"])
            away = {o["face_id"]: np.abs(picture - pixels_of(drawn, o["face_id"])).mean() for o in originals}
            assert min(away, key=away.get) == row["duplicate_of"]


def test_pairs_are_balanced_and_different(drawn):
    pairs = pairs_of(drawn)
    assert len(pairs) == drawn.pairs == 40
    assert Counter((pair["fold"], pair["same"]) for pair in pairs) == {
        (str(f), s): 2 for f in range(1, 11) for s in "01"
    }
    assert len({(pair["left"], pair["right"]) for pair in pairs}) == 40
    for pair in pairs:
        assert pair["left"] < pair["right"]
        assert (pair["left"].split("/")[0] == pair["right"].split("/")[0]) == (pair["same"] == "1")
        assert (drawn.test_images / pair["left"]).is_file()
        assert (drawn.test_images / pair["right"]).is_file()


def test_no_two_folds_share_a_person(drawn):
    folds = {}
    for pair in pairs_of(drawn):
        for side in ("left", "right"):
            folds.setdefault(pair[side].split("/")[0], set()).add(pair["fold"])
    assert all(len(found) == 1 for found in folds.values())


def test_equal_options_give_equal_bytes(drawn, tmp_path):
    again = draw_dataset(tmp_path / "again", SMALL)
    assert files_of(again.images.parent) == files_of(drawn.images.parent)


def test_more_identities_leave_the_first_ones_as_they_are(drawn, tmp_path):
    fewer = draw_dataset(tmp_path / "fewer", dataclasses.replace(SMALL, identities=2, wrong_labels=0))
    wrong = {row["face_id"] for row in truth_of(drawn) if row["kind"] == "wrong-label"}
    common = {name: data for name, data in files_of(drawn.images).items() if name < "person0002" and name not in wrong}
    assert files_of(fewer.images) == common


def test_another_seed_draws_other_people(drawn, tmp_path):
    other = draw_dataset(tmp_path / "other", dataclasses.replace(SMALL, seed=1))
    assert not set(files_of(other.images).values()) & set(files_of(drawn.images).values())


def test_sizes_have_a_long_tail():
    sizes = np.array([originals_of(number, DrawOptions(faces=14)) for number in range(2000)])
    assert sizes.mean() == pytest.approx(14, abs=0.5)
    assert sizes.min() >= 3
    assert np.median(sizes) < 13
    assert sizes.max() > 45


def test_an_existing_folder_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError) as error:
        draw_dataset(tmp_path, SMALL)
    assert str(error.value) == f"{tmp_path} exists; choose another --out, or add --overwrite to replace it"
    with pytest.raises(DataError) as error:
        draw_dataset(tmp_path, SMALL, overwrite=True)
    assert str(error.value) == f"{tmp_path} is not a drawn data set, so it is not replaced; choose another --out"
    assert files_of(tmp_path) == {"mine.txt": b"mine"}


def test_overwriting_replaces_the_whole_folder(drawn, tmp_path):
    old = tmp_path / "set"
    (old / "images").mkdir(parents=True)
    (old / "images" / "left.over").write_text("")
    shutil.copy(drawn.truth, old)
    new = draw_dataset(old, dataclasses.replace(SMALL, test_pairs=20 * 56), overwrite=True)
    assert len(pairs_of(new)) == 20 * 56  # as many as there can be
    assert not (new.images / "left.over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_fails_leaves_nothing(tmp_path, monkeypatch):
    def broken(root, options):
        raise RuntimeError("disk full")

    monkeypatch.setattr("facecore.synthesis.drawn._write_test", broken)
    with pytest.raises(RuntimeError):
        draw_dataset(tmp_path / "set", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"identities": 1}, "identities must be at least 2, got 1"),
        ({"faces": 2}, "faces is the mean number of faces of an identity, at least 3; got 2"),
        ({"duplicates": 1.0}, "duplicates is a fraction of the faces, in [0, 1); got 1.0"),
        ({"duplicates": float("nan")}, "duplicates is a fraction of the faces, in [0, 1); got nan"),
        ({"wrong_labels": 121}, "wrong_labels must be from 0 to identities (120), got 121"),
        ({"test_identities": 15}, "test_identities must be a multiple of 10 from 20 on, got 15"),
        ({"test_identities": 10}, "test_identities must be a multiple of 10 from 20 on, got 10"),
        ({"test_pairs": 30}, "test_pairs must be a multiple of 20 from 20 to 3,360, got 30"),
        ({"test_pairs": 3380}, "test_pairs must be a multiple of 20 from 20 to 3,360, got 3380"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
    ids=str,
)
def test_options_out_of_range(wrong, line):
    with pytest.raises(OptionError) as error:
        DrawOptions(**wrong)
    assert str(error.value) == line
