"""Label errors that were planted are found first, and no benchmark's face slips through, against brute force."""

import dataclasses
import itertools
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from geometry import random_faces, shard_of, split, write_store
from pictures import folder_of, jpeg
from test_models_onnx import small, written

from facecore.embed import EmbedOptions, embed
from facecore.embeddings import Embeddings
from facecore.errors import FacecoreError
from facecore.grid import to_cosines, to_levels
from facecore.images import Preprocess
from facecore.manifest import manifest_table, provenance_of, read_manifest, write_manifest
from facecore.provenance import Provenance
from facecore.readers import open_dataset
from facecore.review import Against, ConflictOptions, OverlapOptions, conflicts, overlap
from facecore.review.benchmark import open_benchmark
from facecore.select import Nms, dropped_path, select


def rows_of(path):
    return pq.read_table(path).to_pylist()


def refusal(do, *arguments, **options):
    with pytest.raises(FacecoreError) as caught:
        do(*arguments, **options)
    return type(caught.value).__name__, str(caught.value)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def on_grid(cosine):
    return float(to_cosines(to_levels(np.float32(cosine))))


def around(centre, count, rng, spread=0.5):
    """Faces with a cosine near 0.9 to a centre."""
    return unit(centre + spread * rng.normal(size=(count, len(centre))) / len(centre) ** 0.5)


def stored(path, people, *, cuts=()):
    """A store of the faces of some people, who are p000, p001, ...; face_id is person/row."""
    names = np.repeat(np.arange(len(people)), [len(own) for own in people])
    return write_store(path, split(shard_of(np.concatenate(people), names), cuts))


def people_of(store):
    """The faces of each identity, as the store holds them, in float64."""
    opened = Embeddings.open(store)
    return [np.array(shard.vectors[a:b], np.float64) for shard in opened for a, b in itertools.pairwise(shard.starts)]


def centre(faces):
    return unit(faces.mean(axis=0))


def as_kept(rows):
    """Points as an index keeps them."""
    return unit(np.float16(rows).astype(np.float64))


# conflicts


@pytest.fixture
def planted(tmp_path):
    """Eleven people, one under two names besides, and two faces under the name of somebody else."""
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(12, 32)))
    centres[7] = centres[2]
    people = [around(c, n, rng) for c, n in zip(centres, (6, 5, 9, 1, 8, 7, 4, 6, 1, 5, 30, 3), strict=True)]
    people[4][3], people[10][20] = centres[5], unit(centres[1] + 0.3 * centres[10])
    return stored(tmp_path / "store", people, cuts=[4, 9])


def test_planted_errors_are_found_and_nothing_else(planted, tmp_path):
    done = conflicts(planted, tmp_path / "conflicts.parquet")
    assert (done.one_person, done.wrong_label) == (1, 2)
    found = rows_of(tmp_path / "conflicts.parquet")
    assert [
        [row[name] for name in ("kind", "face_id", "identity", "other", "faces", "other_faces")] for row in found
    ] == [
        ["one-person", None, "p002", "p007", 9, 6],
        ["wrong-label", "p010/0072", "p010", "p001", 30, 5],
        ["wrong-label", "p004/0024", "p004", "p005", 8, 7],
    ]
    assert found[0]["own_cosine"] is None
    assert found[1]["cosine"] - found[1]["own_cosine"] > found[2]["cosine"] - found[2]["own_cosine"] > 0.5
    made = provenance_of(tmp_path / "conflicts.parquet")
    assert made.inputs == {"embeddings": Embeddings.open(planted).sha256}
    assert made.facts == {"one_person": 1, "wrong_label": 2, "search": {"how": "exact", "recall": 1.0}}


def brute_conflicts(store, options):
    """Every pair of identities, and every face with every other identity, sorted."""
    people = people_of(store)
    first = np.cumsum([0, *map(len, people)])
    centres = [as_kept(centre(faces)) for faces in people]
    pairs, wrong = [], []
    for i, j in itertools.combinations(range(len(people)), 2):
        if (cosine := on_grid(centres[i] @ centres[j])) >= options.min_centre_cosine:
            pairs.append((-cosine, i, j))
    for i, faces in enumerate(people):
        for row, face in enumerate(faces):
            if len(faces) > 1:
                own = on_grid(face @ centre(np.delete(faces, row, axis=0)))
                cosine, other = max((on_grid(face @ centres[j]), -j) for j in range(len(people)) if j != i)
                if own <= options.max_own_cosine and cosine >= options.min_other_cosine and cosine > own:
                    wrong.append((own - cosine, first[i] + row, i, -other, cosine, own))
    return sorted(pairs), sorted(wrong)


@pytest.mark.parametrize("seed", range(3))
def test_conflicts_against_brute_force(tmp_path, seed):
    rng = np.random.default_rng(seed)
    store = stored(tmp_path / "store", [unit(rng.normal(size=(n, 6))) for n in (3, 1, 7, 2, 12, 5, 4, 1, 30, 2)])
    options = ConflictOptions(min_centre_cosine=0.1, min_other_cosine=0.2, max_own_cosine=0.6)
    conflicts(store, tmp_path / "conflicts.parquet", options)
    found = rows_of(tmp_path / "conflicts.parquet")
    pairs, wrong = brute_conflicts(store, options)
    assert len(pairs) > 5
    assert len(wrong) > 5
    assert [(row["identity"], row["other"]) for row in found[: len(pairs)]] == [
        (f"p{i:03d}", f"p{j:03d}") for _, i, j in pairs
    ]
    assert [row["face_id"] for row in found[len(pairs) :]] == [f"p{i:03d}/{row:04d}" for _, row, i, *_ in wrong]
    step = 1.01 / 2**14
    assert [row["cosine"] for row in found[: len(pairs)]] == pytest.approx([-cosine for cosine, *_ in pairs], abs=step)
    evidence = [(row["cosine"], row["own_cosine"]) for row in found[len(pairs) :]]
    assert np.array(evidence) == pytest.approx(np.array([case[-2:] for case in wrong]), abs=step)


def test_conflicts_do_not_depend_on_shards_or_threads(tmp_path):
    faces = random_faces(3, np.random.default_rng(3).integers(1, 40, 300))
    options = ConflictOptions(min_centre_cosine=0.3, min_other_cosine=0.3, max_own_cosine=0.6)
    written = []
    for name, cuts, threads in (("a", [], 1), ("b", [7, 150], 1), ("c", [99], 3)):
        store = write_store(tmp_path / name, split(faces, cuts))
        conflicts(store, tmp_path / f"{name}.parquet", options, threads=threads)
        written.append((tmp_path / f"{name}.parquet").read_bytes())
    assert len(set(written)) == 1
    assert len(rows_of(tmp_path / "a.parquet")) > 500


def test_conflicts_refuses(planted, tmp_path):
    out = tmp_path / "conflicts.parquet"
    out.write_bytes(b"mine")
    assert refusal(conflicts, planted, out) == (
        "DataError",
        f"{out} exists; choose another --out, or add --overwrite to replace it",
    )
    one = stored(tmp_path / "one", [unit(np.ones((3, 4)))])
    assert refusal(conflicts, one, tmp_path / "new.parquet") == (
        "DataError",
        f"{one} holds 1 identity, and a conflict takes two; choose another store",
    )
    for name in ("min_centre_cosine", "min_other_cosine", "max_own_cosine"):
        line = f"{name} must be from -1 to 1, got 1.5"
        assert refusal(ConflictOptions, **{name: 1.5}) == ("OptionError", line)
    assert out.read_bytes() == b"mine"


# overlap


@pytest.fixture
def stores(tmp_path):
    """Eight people, and a benchmark of six: one of them is the fifth, and one face is a copy of another person's."""
    rng = np.random.default_rng(1)
    centres = unit(rng.normal(size=(13, 32)))
    ours = [around(c, n, rng) for c, n in zip(centres[:8], (4, 2, 1, 9, 6, 3, 1, 5), strict=True)]
    theirs = [around(c, n, rng) for c, n in zip(centres[[8, 9, 4, 10, 11, 12]], (3, 1, 8, 1, 4, 2), strict=True)]
    theirs[4][2] = ours[3][7]
    return stored(tmp_path / "ours", ours, cuts=[3, 6]), stored(tmp_path / "theirs", theirs, cuts=[2])


def test_what_a_benchmark_has_is_found_and_dropped(stores, tmp_path):
    ours, theirs = stores
    done = overlap(ours, Against(theirs), tmp_path / "overlap.parquet", drop=tmp_path / "rest.parquet")
    assert dataclasses.asdict(done) == {
        "faces": 31,
        "identities": 8,
        "overlapping_identities": 1,
        "overlapping_images": 1,
        "kept": 24,
    }
    found = [list(row.values()) for row in rows_of(tmp_path / "overlap.parquet")]
    assert [row[:-1] for row in found] == [
        ["identity", None, "p004", None, "p002"],
        ["image", "p003/0014", "p003", "p004/0015", "p004"],
    ]
    rest, made = read_manifest(tmp_path / "rest.parquet")
    gone = {"p003/0014", *(f"p004/{row:04d}" for row in range(16, 22))}
    everybody = {face for number in range(3) for face in Embeddings.open(ours).faces(number)["face_id"].to_pylist()}
    assert set(rest["face_id"].to_pylist()) == everybody - gone
    assert made == provenance_of(tmp_path / "overlap.parquet")
    assert made.inputs == {"embeddings": Embeddings.open(ours).sha256, "benchmark": Embeddings.open(theirs).sha256}
    assert made.facts == {"root": "images", "format": "folder", **dataclasses.asdict(done)}


def test_of_the_same_faces_nobody_is_left(stores, tmp_path):
    done = overlap(stores[0], Against(stores[0]), tmp_path / "overlap.parquet", drop=tmp_path / "rest.parquet")
    assert (done.overlapping_identities, done.overlapping_images, done.kept) == (8, 31, 0)
    assert {row["cosine"] for row in rows_of(tmp_path / "overlap.parquet")} == {1.0}
    assert len(read_manifest(tmp_path / "rest.parquet")[0]) == 0


def brute_overlap(ours, theirs, options):
    """Of every identity and every face of ours the nearest of theirs, where that is near, sorted."""
    mine, benchmark = people_of(ours), people_of(theirs)
    points = as_kept(np.array([centre(faces) for faces in benchmark]))
    images = as_kept(np.concatenate(benchmark))
    identities, faces = [], []
    for number, own in enumerate(mine):
        cosine, other = max((on_grid(as_kept(centre(own)) @ point), -j) for j, point in enumerate(points))
        if cosine >= options.min_identity_cosine:
            identities.append((-cosine, number, -other))
    for row, face in enumerate(np.concatenate(mine)):
        cosine, other = max((on_grid(face @ image), -j) for j, image in enumerate(images))
        if cosine >= options.min_image_cosine:
            faces.append((-cosine, row, -other))
    return sorted(identities), sorted(faces)


@pytest.mark.parametrize("seed", range(3))
def test_overlap_against_brute_force(tmp_path, seed):
    rng = np.random.default_rng(seed)
    ours = stored(tmp_path / "ours", [unit(rng.normal(size=(n, 6))) for n in (3, 1, 7, 2, 12, 5)], cuts=[2])
    theirs = stored(tmp_path / "theirs", [unit(rng.normal(size=(n, 6))) for n in (1, 9, 4, 1)])
    options = OverlapOptions(min_identity_cosine=0.2, min_image_cosine=0.6)
    done = overlap(ours, Against(theirs), tmp_path / "overlap.parquet", options)
    identities, faces = brute_overlap(ours, theirs, options)
    assert (done.overlapping_identities, done.overlapping_images) == (len(identities), len(faces))
    assert min(len(identities), len(faces)) > 1
    found = rows_of(tmp_path / "overlap.parquet")
    assert [(row["identity"], row["benchmark_identity"]) for row in found[: len(identities)]] == [
        (f"p{i:03d}", f"p{j:03d}") for _, i, j in identities
    ]
    assert [(row["face_id"][5:], row["benchmark_face_id"][5:]) for row in found[len(identities) :]] == [
        (f"{i:04d}", f"{j:04d}") for _, i, j in faces
    ]
    assert [row["cosine"] for row in found] == pytest.approx(
        [-case[0] for case in identities + faces], abs=1.01 / 2**14
    )


def test_overlap_does_not_depend_on_shards_or_threads(tmp_path):
    faces = random_faces(3, np.random.default_rng(3).integers(1, 40, 200))
    theirs = write_store(tmp_path / "theirs", [random_faces(4, [5] * 30)])
    options = OverlapOptions(min_identity_cosine=0.75, min_image_cosine=0.85)
    written = []
    for name, cuts, threads in (("a", [], 1), ("b", [7, 150], 1), ("c", [99], 3)):
        store = write_store(tmp_path / name, split(faces, cuts))
        out, drop = tmp_path / f"{name}.parquet", tmp_path / f"{name}.rest.parquet"
        overlap(store, Against(theirs), out, options, drop=drop, threads=threads)
        written.append((out.read_bytes(), drop.read_bytes()))
    assert len(set(written)) == 1
    assert len(rows_of(tmp_path / "a.parquet")) > 100
    assert len(rows_of(tmp_path / "a.rest.parquet")) > 100


# benchmarks of images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of five people, a network, and the store it makes of them."""
    root = tmp_path_factory.mktemp("pictures")
    images = folder_of(root / "images", {f"p{i % 5}/{i}.jpg": jpeg(i, 16) for i in range(12)})
    model = written(small(), root / "network.onnx")
    options = EmbedOptions(flip=True, preprocess=Preprocess(mean=100, scale=90, bgr=True))
    embed(open_dataset(images), model, root / "store", options)
    return images, model, root / "store"


def test_images_become_the_vectors_of_the_store(pictures):
    images, model, store = pictures
    data = Embeddings.open(store)
    benchmark, kept = open_benchmark(Against(images, model), data), open_benchmark(Against(store), data)
    assert np.array_equal(benchmark.vectors, kept.vectors)
    assert benchmark.faces.equals(kept.faces)
    assert benchmark.starts.tolist() == kept.starts.tolist() == [0, 3, 6, 8, 10, 12]


def test_a_bin_is_a_benchmark_of_single_images(pictures, tmp_path):
    images, model, store = pictures
    path = tmp_path / "set.bin"
    files = [(images / name).read_bytes() for name in ("p0/5.jpg", "p2/7.jpg", "p0/5.jpg")]
    path.write_bytes(pickle.dumps(([*files, jpeg(99, 16)], [True, False])))
    done = overlap(store, Against(path, model), tmp_path / "overlap.parquet")
    found = [row for row in rows_of(tmp_path / "overlap.parquet") if row["kind"] == "image" and row["cosine"] == 1]
    assert [(row["face_id"], row["benchmark_face_id"]) for row in found] == [("p0/5.jpg", "0"), ("p2/7.jpg", "1")]
    assert done.overlapping_images >= 2


def test_a_benchmark_of_another_network_or_none(pictures, tmp_path):
    images, model, store = pictures
    data = Embeddings.open(store)
    other = written(small(dimension=6), tmp_path / "other.onnx")
    sha256 = data.meta["model"]["sha256"]
    assert refusal(open_benchmark, Against(images, other), data) == (
        "ModelError",
        f"{other} is not the network that made {store}, whose sha256 is {sha256}; give that one to --model",
    )
    assert refusal(open_benchmark, Against(images), data) == (
        "OptionError",
        f"{images} is no embedding store; name with --model the network that made {store}",
    )
    assert refusal(open_benchmark, Against(store, model), data) == (
        "OptionError",
        f"{store} is an embedding store; leave out --model, which is for images",
    )
    embed(open_dataset(images), other, tmp_path / "others", EmbedOptions())
    assert refusal(open_benchmark, Against(tmp_path / "others"), data) == (
        "DataError",
        f"{tmp_path / 'others'} and {store} are of two networks, so cosines between them mean nothing; "
        "embed one of them again",
    )
    (tmp_path / "others" / "meta.json").unlink()  # still a store, whatever the network
    assert refusal(open_benchmark, Against(tmp_path / "others"), data) == (
        "DataError",
        f"{tmp_path / 'others'} is no whole store, meta.json is missing; "
        "run facecore embed again, with --overwrite if it refuses",
    )
    unsaid = stored(tmp_path / "unsaid", [unit(np.ones((2, 4)))])
    assert refusal(open_benchmark, Against(images, model), Embeddings.open(unsaid)) == (
        "DataError",
        f"{unsaid} does not say which network made it, so images cannot be embedded alike; "
        "give --against a store of the benchmark by the same network",
    )


def test_a_benchmark_with_an_image_that_cannot_be_read(pictures, tmp_path):
    _, model, store = pictures
    images = folder_of(tmp_path / "images", {"a/1.jpg": 1, "a/2.jpg": b"nonsense", "b/1.jpg": 2})
    assert refusal(open_benchmark, Against(images, model), Embeddings.open(store)) == (
        "DataError",
        f"a/2.jpg of {images} cannot be embedded: not an image: unknown image format; replace it, "
        "or run facecore embed on the rest and give --against its store",
    )


def test_what_is_left_is_never_beside_the_dropped_faces_of_another(stores, tmp_path):
    ours, theirs = stores
    rest = tmp_path / "rest.parquet"
    select(ours, Nms(), keep=0.5, out=rest)
    rest.unlink()
    assert refusal(overlap, ours, Against(theirs), tmp_path / "o.parquet", drop=rest) == (
        "DataError",
        f"{dropped_path(rest)} exists; choose another --out, or add --overwrite to replace it",
    )
    assert dropped_path(rest).exists()
    overlap(ours, Against(theirs), tmp_path / "o.parquet", drop=rest, overwrite=True)
    assert (rest.exists(), dropped_path(rest).exists()) == (True, False)


def test_overlap_refuses(stores, tmp_path, monkeypatch):
    ours, theirs = stores
    out, new = tmp_path / "overlap.parquet", tmp_path / "new.parquet"
    assert refusal(overlap, ours, Against(theirs), out, drop=out) == (
        "OptionError",
        f"the evidence and the manifest cannot both be {out}; choose another --drop",
    )
    monkeypatch.chdir(tmp_path)
    assert refusal(overlap, ours, Against(theirs), out, drop=Path("overlap.parquet")) == (
        "OptionError",
        f"the evidence and the manifest cannot both be {out}; choose another --drop",
    )
    out.write_bytes(b"mine")
    line = f"{out} exists; choose another --out, or add --overwrite to replace it"
    assert refusal(overlap, ours, Against(theirs), out) == ("DataError", line)
    assert refusal(overlap, ours, Against(theirs), new, drop=out) == ("DataError", line)
    narrow = stored(tmp_path / "narrow", [unit(np.ones((2, 4)))])
    assert refusal(overlap, narrow, Against(theirs), new) == (
        "DataError",
        f"{theirs} and {narrow} are of two networks, so cosines between them mean nothing; embed one of them again",
    )
    for name in ("min_identity_cosine", "min_image_cosine"):
        assert refusal(OverlapOptions, **{name: -2}) == ("OptionError", f"{name} must be from -1 to 1, got -2")
    assert not new.exists()


@pytest.mark.parametrize("options", [ConflictOptions, OverlapOptions])
def test_a_search_that_there_is_not(options):
    line = "search must be one of auto, exact, shortlist, torch; got magic"
    assert refusal(options, search="magic") == ("OptionError", line)
    assert refusal(options, seed=-1) == ("OptionError", "seed must be 0 or more, got -1")


def real_store(path, images, people, model):
    """A store of some people of a real data set."""
    rows = [name for name in open_dataset(images).faces.to_pylist() if name["identity"] in people]
    faces = manifest_table({name: [row[name] for row in rows] for name in ("face_id", "identity", "source")})
    write_manifest(faces, path.with_suffix(".parquet"), Provenance("test"))
    embed(open_dataset(path.with_suffix(".parquet"), images=images), model, path, EmbedOptions())
    return path


def test_wrong_labels_of_lfw_and_a_president_in_both_sets(real_data, tmp_path):
    """Two faces under another man's name, by the look of them, and a photograph that is in CFP, too."""
    model = real_data.parent / "models" / "mobilefacenet.onnx"
    people = {"Michael_Schumacher", "Rubens_Barrichello", "Recep_Tayyip_Erdogan", "Abdullah_Gul"}
    lfw = real_store(tmp_path / "lfw", real_data / "lfw" / "images", people, model)
    conflicts(lfw, tmp_path / "conflicts.parquet")
    assert [(row["kind"], row["face_id"], row["other"]) for row in rows_of(tmp_path / "conflicts.parquet")] == [
        ("wrong-label", "Michael_Schumacher/Michael_Schumacher_0008.jpg", "Rubens_Barrichello"),
        ("wrong-label", "Recep_Tayyip_Erdogan/Recep_Tayyip_Erdogan_0004.jpg", "Abdullah_Gul"),
    ]
    bush = folder_of(tmp_path / "bush", {})
    for number in range(350, 370):
        source = f"George_W_Bush/George_W_Bush_{number:04d}.jpg"
        folder_of(bush, {source: (real_data / "lfw" / "images" / source).read_bytes()})
    cfp = real_store(tmp_path / "cfp", real_data / "cfp" / "images", {"167", "168", "169"}, model)
    overlap(cfp, Against(bush, model), tmp_path / "overlap.parquet")
    found = [
        (row["identity"], row["face_id"], row["benchmark_face_id"]) for row in rows_of(tmp_path / "overlap.parquet")
    ]
    assert found == [
        ("168", None, None),
        ("168", "168/frontal_06.jpg", "George_W_Bush/George_W_Bush_0363.jpg"),
    ]
