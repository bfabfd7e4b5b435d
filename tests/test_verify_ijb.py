"""IJB-B and IJB-C: what the meta files say, how templates are pooled, and how a killed run goes on."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from janus import PAIRS, SCORES, Circle, grey, ijb, length
from pictures import encoded, pixels
from PIL import Image

from facecore.errors import DataError
from facecore.models import load_backbone
from facecore.verify import VerifyOptions, embedding
from facecore.verify.align import SIDE, TEMPLATE, aligned, similarity
from facecore.verify.ijb import read_ijb
from facecore.verify.run import judge_templates, pair_cosines, template_vectors

ALONE = VerifyOptions(flip=False, workers=1)


def vector(degrees, of_length=1.0):
    return of_length * np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def unit(sum_of):
    return sum_of / np.linalg.norm(sum_of)


def line_of(function, *arguments):
    with pytest.raises(DataError) as error:
        function(*arguments)
    return str(error.value)


def test_what_the_meta_files_say(tmp_path):
    protocol = read_ijb(
        ijb(tmp_path / "IJBC", gallery={"G1": [(1, 7)], "G2": [(3, 8)]}, probes=[(2, 7), (2, 7), (5, 9)])
    )
    assert protocol.images == tuple(f"{number}.png" for number in range(1, 9))
    assert protocol.templates.tolist() == [1, 2, 3, 4, 5]
    assert protocol.template.tolist() == [0, 0, 0, 1, 2, 3, 4, 4]
    assert protocol.media.tolist() == [10, 10, 11, 12, 13, 14, 15, 16]
    assert protocol.detector_score.tolist() == pytest.approx(SCORES)
    pairs = zip(protocol.left, protocol.right, protocol.same, strict=True)
    assert [(left + 1, right + 1, int(same)) for left, right, same in pairs] == PAIRS
    assert [
        (search.name, search.gallery.tolist(), search.gallery_subject.tolist()) for search in protocol.searches
    ] == [
        ("G1", [0], [7]),
        ("G2", [2], [8]),
    ]
    # a template has a line an image in these files, and is one probe
    assert [(search.probes.tolist(), search.probe_subject.tolist()) for search in protocol.searches] == [
        ([1, 4], [7, 9])
    ] * 2


def test_templates_by_hand(tmp_path):
    protocol = read_ijb(ijb(tmp_path / "IJBC"))
    vectors = template_vectors(Circle(), protocol, ALONE)
    video = (vector(0, length(0)) + vector(20, length(20))) / 2  # the mean over the frames of a medium
    expected = [
        unit(video + vector(40, length(40))),  # then the sum over the media
        vector(30),
        vector(90),
        vector(100),
        unit(vector(150, length(150)) + vector(160, length(160))),
    ]
    assert vectors == pytest.approx(np.array(expected), abs=1e-6)
    assert vectors.dtype == np.float32


def test_templates_by_hand_with_detector_scores(tmp_path):
    protocol = read_ijb(ijb(tmp_path / "IJBC"))
    vectors = template_vectors(Circle(), protocol, replace(ALONE, detector_score=True))
    # the scores weigh the frames; the mean is still over the number of frames
    video = (0.9 * vector(0, length(0)) + 0.5 * vector(20, length(20))) / 2
    assert vectors[0] == pytest.approx(unit(video + 0.8 * vector(40, length(40))), abs=1e-6)
    assert vectors[4] == pytest.approx(unit(0.95 * vector(150, length(150)) + 0.4 * vector(160, length(160))), abs=1e-6)


def test_mirrored_images_are_added(tmp_path):
    class Corner(Circle):
        def embed(self, batch):
            return batch[:, 0, 0, [0, -1]] + np.float32([[0, 1]])  # the two upper corners, the right one brighter

    protocol = read_ijb(ijb(tmp_path / "IJBC", scores=None))
    face = np.zeros((112, 112), np.uint8)
    face[:, :56] = 200
    (tmp_path / "IJBC" / "loose_crop" / "4.png").write_bytes(encoded(face, "PNG"))
    alone = template_vectors(Corner(), protocol, ALONE)[1]
    both = template_vectors(Corner(), protocol, VerifyOptions())[1]
    assert alone == pytest.approx(unit(np.array([200, 1])), abs=1e-6)
    assert both == pytest.approx(unit(np.array([200, 202])), abs=1e-6)


def test_the_figures_by_hand(tmp_path):
    # ten strangers of 1 degree and more, and two own pairs: one nearer than all strangers, one than all but the nearest
    faces = [(angle, number, number) for number, angle in enumerate((0, 5, 10, *range(15, 165, 15)), 1)]
    pairs = [(1, 2, 1), (3, 6, 1), *((1, number, 0) for number in range(4, 14))]
    protocol = read_ijb(ijb(tmp_path / "IJBC", faces=faces, scores=None, pairs=pairs))
    vectors = template_vectors(Circle(), protocol, ALONE)
    cosines = pair_cosines(vectors, protocol)
    assert cosines == pytest.approx([math.cos(math.radians(angle)) for angle in (5, 35, *range(15, 165, 15))], abs=1e-6)
    found = judge_templates(cosines, vectors, protocol)
    # one stranger of ten passes above 30 degrees; the second own pair, at 35, does not
    assert found.to_json() == {"tar": {"1e-1": 0.5}, "pairs": 12, "templates": 13, "images": 13}


def test_searches_by_hand(tmp_path):
    # gallery 1 holds people 1 and 2 at 0 and 90 degrees; gallery 2 person 3 at 60. Probes: 20 is 1, 80 is 2,
    # 50 is 1 but nearer to 2, 58 is 3
    faces = [(angle, number, number) for number, angle in enumerate((0, 90, 60, 20, 80, 50, 58), 1)]
    gallery = {"G1": [(1, 1), (2, 2)], "G2": [(3, 3)]}
    probes = [(4, 1), (5, 2), (6, 1), (7, 3)]
    folder = ijb(
        tmp_path / "IJBC", faces=faces, scores=None, pairs=[(1, 4, 1), (2, 4, 0)], gallery=gallery, probes=probes
    )
    protocol = read_ijb(folder)
    vectors = template_vectors(Circle(), protocol, ALONE)
    found = judge_templates(pair_cosines(vectors, protocol), vectors, protocol).to_json()["identification"]
    assert found == {
        "mean": {"rank-1": (2 / 3 + 1) / 2, "rank-5": 1.0, "tpir": {}, "mated": 4, "non_mated": 4, "enrolled": 3},
        "G1": {"rank-1": 2 / 3, "rank-5": 1.0, "tpir": {}, "mated": 3, "non_mated": 1, "enrolled": 2},
        "G2": {"rank-1": 1.0, "rank-5": 1.0, "tpir": {}, "mated": 1, "non_mated": 3, "enrolled": 1},
    }


def test_white_space_of_any_kind(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    plain = read_ijb(folder)
    for path in (folder / "meta").glob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b" ", b"\t ").replace(b"\n", b" \r\n") + b"\r\n\n")
    spaced = read_ijb(folder)
    assert spaced.images == plain.images
    for name in ("template", "media", "detector_score", "left", "right", "same"):
        assert getattr(spaced, name).tolist() == getattr(plain, name).tolist()
    assert spaced.fingerprint == plain.fingerprint


META = "{folder}/meta/ijbc"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "face_tid_mid.txt",
            "1.png 1 10\n2.png 1\n",
            META + "_face_tid_mid.txt:2: found '2.png 1', expected 'IMAGE TEMPLATE MEDIA'",
        ),
        (
            "face_tid_mid.txt",
            "1.png 1 10\n2.png one 10\n",
            META + "_face_tid_mid.txt:2: found '2.png one 10', expected 'IMAGE TEMPLATE MEDIA'",
        ),
        (
            "face_tid_mid.txt",
            "1.png 1 10\n\n2.png 1 10\n",
            META + "_face_tid_mid.txt:2: found '', expected 'IMAGE TEMPLATE MEDIA'",
        ),
        ("face_tid_mid.txt", "", META + "_face_tid_mid.txt is empty; expected lines of 'IMAGE TEMPLATE MEDIA'"),
        (
            "template_pair_label.txt",
            "1 2 1\n1 3 2\n",
            META + "_template_pair_label.txt:2: found '1 3 2', expected 'TEMPLATE TEMPLATE LABEL', "
            "the label being 0 or 1",
        ),
        (
            "template_pair_label.txt",
            "1 2 1\n1 77 0\n3 78 0\n",
            "2 templates of " + META + "_template_pair_label.txt have no image in " + META + "_face_tid_mid.txt, "
            "the first is 77; both files must be of one protocol",
        ),
        (
            "template_pair_label.txt",
            None,
            "no file "
            + META
            + "_template_pair_label.txt, which the protocol needs; check that the folder meta is whole",
        ),
        (
            "face_tid_mid.txt",
            None,
            "{folder}/meta has no files *_face_tid_mid.txt, expected one, such as ijbc_face_tid_mid.txt; "
            "put the meta files of one protocol there",
        ),
        (
            "name_5pts_score.txt",
            "1.png 1 2 3\n",
            META
            + "_name_5pts_score.txt:1: found '1.png 1 2 3', expected 'IMAGE X1 Y1 ... X5 Y5 SCORE', eleven numbers",
        ),
        (
            "name_5pts_score.txt",
            "1.png 1 2 3 4 5 6 7 8 9 0 1\n3.png 1 2 3 4 5 6 7 8 9 0 1\n",
            META + "_name_5pts_score.txt:2: is of 3.png, but line 2 of *_face_tid_mid.txt is of 2.png; "
            "the two list the same images in the same order",
        ),
        (
            "name_5pts_score.txt",
            "1.png 1 2 3 4 5 6 7 8 9 0 1\n",
            META + "_name_5pts_score.txt has 1 lines, but *_face_tid_mid.txt 8; "
            "the two list the same images in the same order",
        ),
        (
            "name_5pts_score.txt",
            "".join(f"{n}.png 1 2 3 4 5 6 7 8 9 0 {'nan' if n == 3 else 1}\n" for n in range(1, 9)),
            META + "_name_5pts_score.txt:3: has a number that is not finite",
        ),
        (
            "1N_probe_mixed.csv",
            None,
            "no file " + META + "_1N_probe_mixed.csv, which the protocol needs; check that the folder meta is whole",
        ),
        (
            "1N_probe_mixed.csv",
            "TEMPLATE_ID,PERSON\n1,2\n",
            META + "_1N_probe_mixed.csv lacks a column of TEMPLATE_ID, SUBJECT_ID; expected a CSV file with both",
        ),
        (
            "1N_probe_mixed.csv",
            "TEMPLATE_ID,SUBJECT_ID\n2,7\n3,x\n",
            META + "_1N_probe_mixed.csv:3: found '3,x', expected as many cells as the header, "
            "TEMPLATE_ID and SUBJECT_ID being whole numbers",
        ),
        (
            "1N_probe_mixed.csv",
            "TEMPLATE_ID,SUBJECT_ID\n2,7\n3\n",
            META + "_1N_probe_mixed.csv:3: found '3', expected as many cells as the header, "
            "TEMPLATE_ID and SUBJECT_ID being whole numbers",
        ),
        (
            "1N_probe_mixed.csv",
            "TEMPLATE_ID,SUBJECT_ID\n2,7\n2,8\n",
            META
            + "_1N_probe_mixed.csv:3: template 2 is of subject 8, but further up of 7; a template shows one person",
        ),
        (
            "1N_probe_mixed.csv",
            "TEMPLATE_ID,SUBJECT_ID\n",
            META + "_1N_probe_mixed.csv lists no template; check that it is the whole file",
        ),
        (
            "1N_probe_mixed.csv",
            "",
            META + "_1N_probe_mixed.csv is empty; expected a CSV file with TEMPLATE_ID and SUBJECT_ID",
        ),
        (
            "1N_probe_mixed.csv",
            "TEMPLATE_ID,SUBJECT_ID\n99,7\n\n",
            "1 templates of " + META + "_1N_probe_mixed.csv have no image in " + META + "_face_tid_mid.txt, "
            "the first is 99; both files must be of one protocol",
        ),
    ],
)
def test_a_meta_file_amiss(tmp_path, file, text, message):
    folder = ijb(tmp_path / "IJBC", gallery={"G1": [(1, 7)]}, probes=[(2, 7)])
    path = folder / "meta" / f"ijbc_{file}"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert line_of(read_ijb, folder) == message.format(folder=folder)


def test_the_line_in_a_long_file(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    path = folder / "meta" / "ijbc_template_pair_label.txt"
    path.write_text("1 2 1\n" * 400_000 + "1 3 x\n" + "1 3 0\n" * 9)  # more than is read at a time
    assert line_of(read_ijb, folder) == (
        f"{path}:400001: found '1 3 x', expected 'TEMPLATE TEMPLATE LABEL', the label being 0 or 1"
    )


def test_a_long_line_is_cut(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    path = folder / "meta" / "ijbc_template_pair_label.txt"
    path.write_text("1 2 " + 100 * "1")
    shown = repr("1 2 " + 76 * "1" + "...")
    assert line_of(read_ijb, folder) == (
        f"{path}:1: found {shown}, expected 'TEMPLATE TEMPLATE LABEL', the label being 0 or 1"
    )


def test_images_that_are_not_there(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    for number in (3, 7):
        (folder / "loose_crop" / f"{number}.png").unlink()
    assert line_of(read_ijb, folder) == (
        f"2 of the 8 images of {folder / 'meta' / 'ijbc_face_tid_mid.txt'} are not under {folder / 'loose_crop'}, "
        "the first is 3.png"
    )


def test_images_that_cannot_be_read(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    protocol = read_ijb(folder)
    (folder / "loose_crop" / "2.png").write_bytes(b"no image")
    network = Circle()
    assert line_of(template_vectors, network, protocol, ALONE) == (
        f"1 of the 8 images of {folder} cannot be read, the first is 2.png: not an image: unknown image format; "
        "replace them, a protocol cannot do without a pair"
    )
    assert network.seen == 0


def test_pairs_of_one_kind_and_scores_that_are_not_there(tmp_path):
    folder = ijb(tmp_path / "IJBC", scores=None)
    protocol = read_ijb(folder)
    network = Circle()
    assert line_of(template_vectors, network, replace(protocol, same=protocol.same | True), ALONE) == (
        f"{folder} has 8 pairs, all of one kind; TAR at FAR takes pairs of one person and pairs of two"
    )
    assert line_of(template_vectors, network, protocol, replace(ALONE, detector_score=True)) == (
        f"{folder} has no detector scores (meta/*_name_5pts_score.txt); leave out --detector-score"
    )
    assert network.seen == 0


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_template_without_a_direction(tmp_path, value):
    class Broken(Circle):
        def embed(self, batch):
            return super().embed(batch) * np.where(batch[:, :1, 0, 0] == 90, np.float32(value), 1)

    folder = ijb(tmp_path / "IJBC")
    assert line_of(template_vectors, Broken(), read_ijb(folder), ALONE) == (
        f"template 3 of {folder} has an embedding that is zero or not finite, so it has no cosine to another; "
        "check that the model and its preprocessing belong together"
    )


# --- alignment


def test_a_similarity_is_found_exactly():
    a, b = 1.3 * np.exp(0.4j), 20 - 7j
    found = similarity(TEMPLATE, a * TEMPLATE + b)
    assert found == (pytest.approx(a), pytest.approx(b))


def test_a_similarity_is_umeyamas_and_the_least():
    rng = np.random.default_rng(0)
    for _ in range(20):
        source = rng.normal(size=5) + 1j * rng.normal(size=5)
        a, b = similarity(source, TEMPLATE)
        columns = np.array([[[z.real, -z.imag, 1, 0], [z.imag, z.real, 0, 1]] for z in source]).reshape(10, 4)
        least = np.linalg.lstsq(columns, np.stack([TEMPLATE.real, TEMPLATE.imag], axis=1).ravel())[0]
        assert [a.real, a.imag, b.real, b.imag] == pytest.approx(least.tolist())
        # Umeyama 1991, equations 40 to 42, without the reflection
        x, y = (np.stack([z.real, z.imag]) for z in (source, TEMPLATE))
        centred = x - x.mean(axis=1, keepdims=True)
        u, d, v = np.linalg.svd((y - y.mean(axis=1, keepdims=True)) @ centred.T / 5)
        sign = np.diag([1, np.sign(np.linalg.det(u @ v))])
        scale = np.trace(np.diag(d) @ sign) / (centred**2).sum(axis=0).mean()
        rotation = scale * u @ sign @ v
        assert [a.real, a.imag] == pytest.approx([rotation[0, 0], rotation[1, 0]])


def test_five_landmarks_in_one_point():
    assert line_of(aligned, grey(0), np.ones(10)) == "its five landmarks are one point"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no image", "not an image: unknown image format"),
        (grey(0)[:60], "not an image: image file is truncated"),
        (
            encoded(np.zeros((9, 9), np.uint16), "PNG"),
            "not 8 bits a channel but Pillow's mode I;16, which convert would clip",
        ),
    ],
    ids=["no image", "cut off", "16 bits"],
)
def test_loose_crops_that_cannot_be_read(data, reason):
    assert line_of(aligned, data, landmarks_of(TEMPLATE)) == reason


def landmarks_of(points):
    return np.stack([points.real, points.imag], axis=1).ravel()


def test_landmarks_on_the_template_move_nothing():
    face = pixels(3, 112)
    crop = Image.open(io.BytesIO(aligned(encoded(face, "PNG"), landmarks_of(TEMPLATE))))
    assert np.abs(np.asarray(crop).astype(int) - face).max() <= 1


@pytest.mark.parametrize(("turn", "shift"), [(1j, 111), (-1j, 111j), (-1, 111 + 111j)])
def test_a_face_that_was_turned_is_turned_back(turn, shift):
    # by quarter turns about the centres of pixels, so that nothing is lost
    face = pixels(5, 112)
    turned = np.rot90(face, {1j: -1, -1j: 1, -1: 2}[turn])
    crop = aligned(encoded(np.ascontiguousarray(turned), "PNG"), landmarks_of(turn * TEMPLATE + shift))
    assert np.abs(np.asarray(Image.open(io.BytesIO(crop))).astype(int) - face).max() <= 1


def test_black_beyond_the_image():
    crop = Image.open(io.BytesIO(aligned(encoded(np.full((50, 50, 3), 200, np.uint8), "PNG"), landmarks_of(TEMPLATE))))
    rgb = np.asarray(crop)
    assert rgb.shape == (SIDE, SIDE, 3)
    assert (rgb[:49, :49] == 200).all()
    assert (rgb[51:] == 0).all()
    assert (rgb[:, 51:] == 0).all()


def test_loose_crops_are_aligned_and_aligned_ones_left(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    loose = np.zeros((150, 140, 3), np.uint8)
    loose[20:132, 10:122] = pixels(1, 112)
    for number in range(1, 9):
        (folder / "loose_crop" / f"{number}.png").write_bytes(encoded(loose, "PNG"))
    marks = " ".join(f"{value:.4f}" for value in landmarks_of(TEMPLATE + 10 + 20j))
    five = [f"{number}.png {marks} 1" for number in range(1, 9)]
    (folder / "meta" / "ijbc_name_5pts_score.txt").write_text("\n".join(five))
    protocol = read_ijb(folder)
    crop = np.asarray(Image.open(io.BytesIO(protocol.read("4.png"))))
    assert np.abs(crop.astype(int) - pixels(1, 112)).max() <= 1
    (folder / "loose_crop" / "1.png").write_bytes(encoded(pixels(1, 112), "PNG"))  # the first decides
    assert read_ijb(folder).read("4.png") == (folder / "loose_crop" / "4.png").read_bytes()
    assert read_ijb(folder).fingerprint != protocol.fingerprint


def test_one_image_of_two_faces(tmp_path):
    folder = ijb(tmp_path / "IJBC", scores=None)
    faces = folder / "meta" / "ijbc_face_tid_mid.txt"
    faces.write_text("1.png 1 10\n1.png 2 11\n")
    (folder / "loose_crop" / "1.png").write_bytes(grey(9, 140))
    (folder / "meta" / "ijbc_template_pair_label.txt").write_text("1 2 1\n")
    scores = folder / "meta" / "ijbc_name_5pts_score.txt"
    scores.write_text("1.png 1 2 3 4 5 6 7 8 9 0 1\n1.png 1 2 3 4 5 6 7 8 9 1 1\n")
    assert (
        line_of(read_ijb, folder)
        == f"{faces} lists 1.png twice, with other landmarks; every face needs an image of its own"
    )
    scores.write_text("1.png 1 2 3 4 5 6 7 8 9 0 1\n" * 2)
    assert len(read_ijb(folder).images) == 2


# --- the cache


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(embedding, "PART", 3)


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("small_parts")
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path):
    class Mortal(Circle):
        def embed(self, batch):
            if self.seen == 6:
                raise Killed
            return super().embed(batch)

    protocol = read_ijb(ijb(tmp_path / "IJBC"))
    cached = replace(ALONE, cache=tmp_path / "cache")
    whole = template_vectors(Circle(), protocol, ALONE)
    with pytest.raises(Killed):
        template_vectors(Mortal(), protocol, cached)
    parts = sorted((tmp_path / "cache").rglob("*.npy"))
    assert [path.name for path in parts] == ["00000.npy", "00001.npy"]
    network = Circle()
    assert template_vectors(network, protocol, cached).tobytes() == whole.tobytes()
    assert network.seen == 2  # of eight
    # pooling is not in the cache: other weights take no network
    network = Circle()
    scored = template_vectors(network, protocol, replace(cached, detector_score=True))
    assert network.seen == 0
    assert scored.tobytes() == template_vectors(Circle(), protocol, replace(ALONE, detector_score=True)).tobytes()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", None])
def test_a_part_that_is_not_whole_is_made_again(tmp_path, content):
    protocol = read_ijb(ijb(tmp_path / "IJBC"))
    cached = replace(ALONE, cache=tmp_path / "cache")
    whole = template_vectors(Circle(), protocol, cached)
    part = next((tmp_path / "cache").rglob("00001.npy"))
    if content is None:
        np.save(part, np.zeros((3, 2)))  # of another type
    else:
        part.write_bytes(content)
    network = Circle()
    assert template_vectors(network, protocol, cached).tobytes() == whole.tobytes()
    assert network.seen == 3


def test_two_runs_may_share_a_cache(tmp_path, monkeypatch):
    path, vectors, save = tmp_path / "00000.npy", np.ones((3, 2), np.float32), np.save

    def meet(stream, rows):
        """Another run writes the same part, from its beginning to its end."""
        monkeypatch.setattr(np, "save", save)
        embedding._write_part(path, rows)
        save(stream, rows)

    monkeypatch.setattr(np, "save", meet)
    embedding._write_part(path, vectors)
    assert [found.name for found in tmp_path.iterdir()] == ["00000.npy"]
    assert np.load(path).tolist() == vectors.tolist()


@pytest.mark.parametrize("change", ["network", "flip", "image", "preprocess"])
def test_what_the_cache_is_of(tmp_path, change):
    folder = ijb(tmp_path / "IJBC")
    cached = replace(ALONE, cache=tmp_path / "cache")
    template_vectors(Circle(), read_ijb(folder), cached)
    network = Circle(sha256=("1" if change == "network" else "0") * 64)
    if change == "image":
        (folder / "loose_crop" / "3.png").write_bytes(encoded(pixels(0), "PNG"))
    if change == "flip":
        cached = replace(cached, flip=True)
    if change == "preprocess":
        cached = replace(cached, preprocess=replace(network.preprocess, bgr=True))
    template_vectors(network, read_ijb(folder), cached)
    assert network.seen == (16 if change == "flip" else 8)


def test_no_part_is_kept_of_images_that_cannot_be_read(tmp_path):
    folder = ijb(tmp_path / "IJBC")
    protocol = read_ijb(folder)
    (folder / "loose_crop" / "8.png").write_bytes(b"no image")
    line_of(template_vectors, Circle(), protocol, replace(ALONE, cache=tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_real_network_on_real_faces(real_data, tmp_path):
    """Twelve people of CFP, a template of three frontal faces and one of two and a profile each."""
    model = real_data.parent / "models" / "mobilefacenet.onnx"
    if not model.is_file():
        pytest.skip(f"no network at {model}")
    people = sorted(path for path in (real_data / "cfp" / "images").iterdir())[:12]
    pictures = ["frontal_01", "frontal_02", "frontal_03", "frontal_04", "frontal_05", "profile_01"]
    faces = [(0, 2 * who + number // 3, number) for who in range(12) for number in range(6)]
    pairs = [(2 * a, 2 * b + 1, int(a == b)) for a in range(12) for b in range(12)]
    gallery = {"G1": [(2 * who, who) for who in range(6)]}
    probes = [(2 * who + 1, who) for who in range(12)]
    folder = ijb(tmp_path / "IJBC", faces=faces, scores=None, pairs=pairs, gallery=gallery, probes=probes)
    for number, (person, picture) in enumerate(((a, b) for a in people for b in pictures), 1):
        (folder / "loose_crop" / f"{number}.png").write_bytes((person / f"{picture}.jpg").read_bytes())
    protocol = read_ijb(folder)
    vectors = template_vectors(load_backbone(model), protocol, VerifyOptions(flip=False))
    found = judge_templates(pair_cosines(vectors, protocol), vectors, protocol)
    assert (found.pairs, found.templates, found.images) == (144, 24, 72)
    assert found.tar["1e-1"] == 1.0
    assert found.tar["1e-2"] >= 0.9
    assert found.searches["G1"].rank[1] == 1.0
