from pathlib import Path

import pytest

from facecore.errors import DataError, FacecoreError, OptionError
from facecore.verify.pairs import contiguous_folds
from facecore.verify.protocols import PROTOCOLS, open_protocol

LFW = "2\t1\nAnn\t1\t2\nAnn\t1\tBo Li\t3\nBo Li\t3\t1\nBo Li\t1\tAnn\t2\n"
LFW_IMAGES = ["Ann/Ann_0001", "Ann/Ann_0002", "Bo Li/Bo Li_0001", "Bo Li/Bo Li_0003"]


def folder_of(tmp_path, *names):
    root = tmp_path / "images"
    root.mkdir()
    for name in names:
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(name.encode())
    return root


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def listed(protocol):
    """The pairs as (left, right, same, fold)."""
    left, right = ([protocol.images[row] for row in rows] for rows in (protocol.left, protocol.right))
    return list(zip(left, right, protocol.same.tolist(), protocol.fold.tolist(), strict=True))


def line_of(path, images):
    with pytest.raises(FacecoreError) as error:
        open_protocol(path, images)
    return type(error.value), str(error.value)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_lfw(tmp_path, suffix):
    images = folder_of(tmp_path, *(f"{name}.{suffix}" for name in LFW_IMAGES))
    protocol = open_protocol(written(tmp_path, "pairs.txt", LFW), images)
    assert listed(protocol) == [
        (f"Ann/Ann_0001.{suffix}", f"Ann/Ann_0002.{suffix}", True, 1),
        (f"Ann/Ann_0001.{suffix}", f"Bo Li/Bo Li_0003.{suffix}", False, 1),
        (f"Bo Li/Bo Li_0003.{suffix}", f"Bo Li/Bo Li_0001.{suffix}", True, 2),
        (f"Bo Li/Bo Li_0001.{suffix}", f"Ann/Ann_0002.{suffix}", False, 2),
    ]
    assert len(protocol) == 4
    assert protocol.read(protocol.images[0]) == f"Ann/Ann_0001.{suffix}".encode()


def test_lfw_with_spaces_and_windows_line_ends(tmp_path):
    images = folder_of(tmp_path, "A/A_0001.jpg", "A/A_0002.jpg", "B/B_0001.jpg")
    path = tmp_path / "pairs.txt"
    path.write_bytes(b"1 1\r\nA 1 2\r\nA 1 B 1\r\n\r\n")
    assert listed(open_protocol(path, images)) == [
        ("A/A_0001.jpg", "A/A_0002.jpg", True, 1),
        ("A/A_0001.jpg", "B/B_0001.jpg", False, 1),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path}:1: found '', expected 'FOLDS PAIRS', two numbers, as in LFW's '10 300'"),
        ("500\nA\t1\t2\n", "{path}:1: found '500', expected 'FOLDS PAIRS', two numbers, as in LFW's '10 300'"),
        (
            "10 300\nA 1 2\n",
            "{path} has 1 pairs, but its header says 10 folds of 2 x 300, which is 6,000; "
            "check that it is the whole file",
        ),
        ("1 1\nA 1 2\nA 1 2\n", "{path}:3: found 'A 1 2', expected 'NAME1 I NAME2 J', images of two people"),
        ("1 1\nA 1 B 2\nA 1 B 2\n", "{path}:2: found 'A 1 B 2', expected 'NAME I J', two images of one person"),
        ("1 1\nA one 2\nA 1 B 2\n", "{path}:2: found 'A one 2', expected 'NAME I J', two images of one person"),
        ("1 1\n\nA 1 B 2\n", "{path}:2: found '', expected 'NAME I J', two images of one person"),
        (
            "1 1\n" + "A" * 100 + "\nA 1 B 2\n",
            "{path}:2: found '" + "A" * 80 + "...', expected 'NAME I J', two images of one person",
        ),
    ],
)
def test_lfw_amiss(tmp_path, text, message):
    path = written(tmp_path, "pairs.txt", text)
    assert line_of(path, folder_of(tmp_path, "A/A_0001.jpg")) == (DataError, message.format(path=path))


def test_table_with_folds(tmp_path):
    images = folder_of(tmp_path, "a.jpg", "b.jpg", "c/d.png")
    text = "\ufeffsame, fold ,note,left,right\n1,2,x,a.jpg,b.jpg\nFalse,7,y,a.jpg,c/d.png\n\ntrue,2,,b.jpg,b.jpg\n"
    assert listed(open_protocol(written(tmp_path, "pairs.csv", text), images)) == [
        ("a.jpg", "b.jpg", True, 2),
        ("a.jpg", "c/d.png", False, 7),
        ("b.jpg", "b.jpg", True, 2),
    ]


def test_table_without_folds(tmp_path):
    images = folder_of(tmp_path, "NA", "1.50")  # names that pandas would otherwise take for a gap and a number
    path = written(tmp_path, "pairs.csv", "left,right,same\n" + "NA,1.50,1\n" * 13)
    protocol = open_protocol(path, images)
    assert protocol.images == ("NA", "1.50")
    assert protocol.fold.tolist() == [1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]


def test_fewer_pairs_than_folds():
    assert contiguous_folds(3) == [1, 2, 3]
    assert contiguous_folds(0) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} is empty; expected a header with left, right and same"),
        ("left,right,fold\n", "{path} has no column same; found left, right, fold; expected left, right, same, fold"),
        ("left,right,same\n", "{path} holds no pairs; check that it is the whole file"),
        ("left,right,same\na,a,1\na,a,yes\n", "{path}:3: same is 'yes', expected 0, 1, true or false"),
        ("left,right,same\n\na,a\n", "{path}:3: same is '', expected 0, 1, true or false"),
        ("left,right,same\na,,1\n", "{path}:2: right is empty, expected the path of an image"),
        ("left,right,same\n,a,1\n", "{path}:2: left is empty, expected the path of an image"),
        ("left,right,same,fold\na,a,1,one\n", "{path}:2: fold is 'one', expected a whole number"),
        ("left,right,same\na,a,1\na,a,1,2\n", "{path} is not a CSV file: Expected 3 fields in line 3, saw 4"),
    ],
)
def test_table_amiss(tmp_path, text, message):
    path = written(tmp_path, "pairs.csv", text)
    assert line_of(path, folder_of(tmp_path, "a")) == (DataError, message.format(path=path))


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.csv"])
def test_not_utf8(tmp_path, name):
    (tmp_path / name).write_bytes(b"left,right,same\n\xff,a,1\n")
    message = f"{tmp_path / name} is not UTF-8 text; save it as such"
    assert line_of(tmp_path / name, folder_of(tmp_path, "a")) == (DataError, message)


@pytest.mark.parametrize("long", ["b" * 300, "b\0"])
def test_images_that_are_not_there(tmp_path, long):
    images = folder_of(tmp_path, "a.jpg", "c.jpg")
    text = f"left,right,same\na.jpg,b.jpg,1\nb.jpg,{long},1\nc.jpg,a.jpg,0\n"
    path = written(tmp_path, "pairs.csv", text)
    assert line_of(path, images) == (
        DataError,
        f"2 of the 4 images of {path} are not under {images}, the first is b.jpg; name the folder that they are in",
    )


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.csv"])
def test_the_folder_of_images(tmp_path, name):
    path = written(tmp_path, name, "1 1")
    line = "give their folder: --images beside --pairs, NAME=PAIRS,IMAGES in --verify"
    message = f"{path} names its images by path; {line}"
    assert line_of(path, None) == (OptionError, message)
    absent = tmp_path / "absent"
    assert line_of(path, absent) == (DataError, f"no folder of images at {absent}; check the path")


def test_no_pairs_file(tmp_path):
    for name in ("absent.txt", "."):
        path = tmp_path / name
        assert line_of(path, tmp_path) == (DataError, f"no pairs file at {path}; check the path")


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    path = written(tmp_path, "pairs.json", "{}")
    kind, message = line_of(path, tmp_path)
    assert kind is DataError
    assert message == (
        f"{path} is of no known format; pairs come as .txt (LFW's), .csv (left, right, same, fold) "
        "or .bin (InsightFace's)"
    )
    assert all(suffix in message for suffix in PROTOCOLS)


def test_the_suffix_in_capitals(tmp_path):
    images = folder_of(tmp_path, "a")
    assert len(open_protocol(written(tmp_path, "PAIRS.CSV", "left,right,same\na,a,1\n"), images)) == 1


def test_real_lfw(real_data):
    protocol = open_protocol(real_data / "lfw" / "pairs.txt", real_data / "lfw" / "images")
    assert (len(protocol), len(protocol.images), int(protocol.same.sum())) == (6000, 7701, 3000)
    for fold in range(1, 11):
        assert protocol.same[protocol.fold == fold].tolist() == [True] * 300 + [False] * 300
    assert listed(protocol)[0] == ("Abel_Pacheco/Abel_Pacheco_0001.jpg", "Abel_Pacheco/Abel_Pacheco_0004.jpg", True, 1)


@pytest.mark.parametrize("name", ["pairs_fp.csv", "pairs_ff.csv"])
def test_real_cfp(real_data: Path, name):
    protocol = open_protocol(real_data / "cfp" / name, real_data / "cfp" / "images")
    assert (len(protocol), int(protocol.same.sum())) == (3500, 1750)
    assert [int((protocol.fold == fold).sum()) for fold in range(1, 6)] == [700] * 5
