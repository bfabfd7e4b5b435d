"""What the user sees, whole: every command run, every mistake answered by one line."""

import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pictures import folder_of, jpeg
from records import insightface, packed, write_records
from test_models_onnx import small, written
from test_quantize import network

from facecore.cli import main
from facecore.errors import counted
from facecore.manifest import read_manifest
from facecore.select import SELECTORS


def facecore(*words):
    """Exit code and everything printed."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="facecore")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with ten faces of three people and a network, in which the commands run as in the README."""
    monkeypatch.chdir(tmp_path)
    people = {"ann": 5, "bob": 4, "cy": 1}
    folder_of(
        Path("faces"), {f"{name}/{n}.jpg": jpeg(7 * n + len(name), 16) for name, k in people.items() for n in range(k)}
    )
    written(network(), Path("net.onnx"))
    Path("pairs.csv").write_text(
        "left,right,same,fold\n"
        + "".join(
            f"ann/{n}.jpg,ann/{n + 1}.jpg,1,{1 + n % 2}\nann/{n}.jpg,bob/{n}.jpg,0,{1 + n % 2}\n" for n in range(4)
        )
    )
    return tmp_path


def embedded():
    code, output = facecore("embed", "faces", "--model", "net.onnx")
    assert code == 0, output
    return output


# The main job


def test_embed_nms_quantize_verify(here):
    assert embedded().startswith("embeddings: 10 faces of 3 identities in ")
    code, output = facecore("nms", "--keep", "0.6")
    kept = pq.read_table("subset.parquet")
    dropped = pq.read_table("subset.dropped.parquet").to_pylist()
    assert (code, len(kept), len(dropped)) == (0, 6, 4)
    assert output.splitlines()[0] == "subset.parquet: 6 of 10 faces, 3 of 3 identities"
    assert output.splitlines()[1] == "subset.dropped.parquet: 4 near-duplicate"
    assert {face["rival"] for face in dropped} <= set(kept["face_id"].to_pylist())

    code, output = facecore("quantize", "--manifest", "subset.parquet", "--model", "net.onnx", "--steps", "2")
    assert code == 0
    assert output.startswith("quantized: w8a8, fine-tuned on 6 faces in 2 steps, ")
    report = json.loads(Path("quantized/report.json").read_text())
    assert report["faces"] == 6

    for model in ("net.onnx", "quantized/model.onnx"):
        code, output = facecore("verify", "--model", model, "--pairs", "pairs.csv", "--images", "faces", "--json")
        assert code == 0
        found = json.loads(output)
        assert sorted(found) == ["accuracy", "fold_accuracies", "pairs", "standard_error", "tar"]
        assert found["pairs"] == 8
        assert 0 <= found["accuracy"] <= 1


def test_audit_holds_and_says_so_when_it_does_not(here):
    embedded()
    assert facecore("nms", "--keep", "0.6")[0] == 0
    code, output = facecore("audit", "subset.parquet")
    assert (code, output.splitlines()[-1]) == (0, "subset.parquet: all 14 claims checked hold")
    table = pq.read_table("subset.parquet")
    pq.write_table(table.slice(1), "subset.parquet")
    code, output = facecore("audit", "subset.parquet", "--no-hash")
    assert (code, output.splitlines()[-1]) == (
        1,
        "Error: subset.parquet: 3 of 13 claims do not hold: faces, facts, count; do not use it, select again",
    )


def test_verify_in_words(here):
    code, output = facecore("verify", "--model", "net.onnx", "--pairs", "pairs.csv", "--images", "faces")
    found = json.loads(
        facecore("verify", "--model", "net.onnx", "--pairs", "pairs.csv", "--images", "faces", "--json")[1]
    )
    assert (code, output) == (
        0,
        f"accuracy {100 * found['accuracy']:.2f} % +- {100 * found['standard_error']:.2f} (8 pairs, 2 folds)\n",
    )


def test_a_subset_is_a_data_set(here):
    embedded()
    facecore("nms", "--keep", "0.6")
    code, _ = facecore("embed", "subset.parquet", "--model", "net.onnx", "--out", "again")
    assert code == 0
    code, output = facecore("nms", "--keep", "0.5", "--embeddings", "again", "--out", "half.parquet")
    assert (code, output.splitlines()[0]) == (0, "half.parquet: 3 of 6 faces, 3 of 3 identities")
    assert set(read_manifest(Path("half.parquet"))[0]["face_id"].to_pylist()) < set(
        read_manifest(Path("subset.parquet"))[0]["face_id"].to_pylist()
    )


def test_embedding_again_finds_it_done(here):
    embedded()
    before = {path: path.read_bytes() for path in Path("embeddings").rglob("*") if path.is_file()}
    assert embedded().rstrip().endswith(", 1 of 1 shards were there already")
    assert before == {path: path.read_bytes() for path in Path("embeddings").rglob("*") if path.is_file()}


def test_preprocessing_goes_from_the_store_to_the_quantized_network(here):
    facecore("embed", "faces", "--model", "net.onnx", "--mean", "100", "--bgr")
    facecore("nms", "--keep", "0.6")
    facecore("quantize", "--manifest", "subset.parquet", "--model", "net.onnx", "--steps", "0")
    assert json.loads(Path("quantized/report.json").read_text())["preprocess"] == {
        "mean": 100.0, "scale": 127.5, "bgr": True,
    }  # fmt: skip


# Mistakes


def test_an_unreadable_image_is_listed_and_the_run_goes_on(here):
    Path("faces/ann/9.jpg").write_bytes(jpeg(1)[:-300])
    code, output = facecore("embed", "faces", "--model", "net.onnx", "--max-rejected", "0.5")
    assert (code, output.splitlines()[1:]) == (0, ["1 face rejected, see embeddings/rejected.parquet"])
    (rejected,) = pq.read_table("embeddings/rejected.parquet").to_pylist()
    assert rejected["face_id"] == "ann/9.jpg"
    assert rejected["reason"].startswith("not an image: ")


NO_PARQUET = (
    "is no Parquet file; facecore nms writes manifests, and embed, export, quantize and train take lists (.txt, .lst), "
    "too"
)
MISTAKES = {
    "no such data set": (
        "embed nowhere --model net.onnx",
        "no data set at nowhere, which is not there; give a folder of images, a RecordIO folder, a .bin, tar shards, "
        "Parquet, a .zip, an LMDB, a list (.txt, .lst) or a manifest (.parquet)",
    ),
    "an empty data set": (
        "embed empty --model net.onnx",
        "no images in empty (0 other files); "
        "they are sought as IDENTITY/image with one of .jpg, .jpeg, .png, .bmp, .webp",
    ),
    "images of nobody": (
        "embed faces/ann --model net.onnx",
        "5 images directly in faces/ann, first 0.jpg, and nothing says whose; move each into a folder of its identity",
    ),
    "too many unreadable": (
        "embed damaged --model net.onnx",
        "1 of 1 faces rejected so far, more than --max-rejected 0.01 allows; first a/1.jpg: not an image: unknown "
        "image format; see embeddings/rejected.parquet, then run again with a larger --max-rejected, it goes on "
        "where it was",
    ),
    "no model": (
        "embed faces --model no.onnx",
        "no model at no.onnx; facecore downloads none, name a file that is there",
    ),
    "a model that is none": (
        "embed faces --model pairs.csv",
        "pairs.csv does not end in .onnx, .safetensors, .pt2, .pt, .pth; facecore tells model formats by the suffix",
    ),
    "no store": (
        "nms --keep 0.6 --embeddings faces",
        "faces is no embedding store; facecore embed makes one of a data set",
    ),
    "keep 0": ("nms --keep 0", "--keep is the fraction of faces to keep, in (0, 1]; got 0"),
    "keep 1.4": ("nms --keep 1.4", "--keep is the fraction of faces to keep, in (0, 1]; got 1.4"),
    "keep nan": ("nms --keep nan", "--keep is the fraction of faces to keep, in (0, 1]; got nan"),
    "an unknown rank": (
        "nms --keep 0.6 --rank best",
        "--rank is one of identity, dataset, confusable, central, twin, random; got best",
    ),
    "neither a fraction nor a cosine": (
        "nms",
        "give one of --keep, --max-cosine and --order",
    ),
    "bits": (
        "quantize --manifest faces --model net.onnx --bits w9a9",
        "bits per weight go from 2 to 8, as in w8a8 or w4a8; got 9",
    ),
    "no manifest": (
        "quantize --manifest no.parquet --model net.onnx",
        "no manifest at no.parquet; facecore nms writes one",
    ),
    "a manifest that is none": (
        "quantize --manifest bad.parquet --model net.onnx",
        f"bad.parquet {NO_PARQUET}",
    ),
    "a list where a manifest belongs": ("audit list.txt --embeddings faces", f"list.txt {NO_PARQUET}"),
    "a number that is none": ("nms --keep much", "Invalid value for '--keep': 'much' is not a valid float."),
    "a number out of its range": (
        "nms --keep 1 --threads 0",
        "Invalid value for '--threads': 0 is not in the range 1<=x<=4096.",
    ),
    "an option of a classifier without one": (
        "embed faces --model net.onnx --head-scale 3",
        "--head-scale and --head-margin are of a classifier; name it with --head, or leave them out",
    ),
    "no pairs": ("verify --model net.onnx --pairs no.csv", "no pairs file at no.csv; check the path"),
    "a scale of nothing": (
        "embed faces --model net.onnx --scale 0",
        "--scale divides every pixel and must be above 0; got 0.0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name, here):
    Path("empty").mkdir()
    folder_of(Path("damaged"), {"a/1.jpg": b"nothing"})
    Path("bad.parquet").write_bytes(b"nothing" * 10)
    Path("list.txt").write_text("ann/0.jpg ann\n")
    command, line = MISTAKES[name]
    assert facecore(*command.split()) == (1, f"Error: {line}\n")


def test_a_manifest_of_another_data_set(here):
    embedded()
    facecore("nms", "--keep", "0.6")
    folder_of(Path("others"), {"dan/1.jpg": jpeg(1, 16)})
    assert facecore("quantize", "--manifest", "subset.parquet", "--model", "net.onnx", "--images", "others") == (
        1,
        "Error: subset.parquet is not a manifest of others: 6 of 6 faces sought are missing, first "
        f"{pq.read_table('subset.parquet')['source'][0]}; give --images the root it was made from\n",
    )


def test_outputs_that_exist(here):
    embedded()
    facecore("nms", "--keep", "0.6")
    exists = "exists; choose another --out, or add --overwrite to replace it\n"
    assert facecore("nms", "--keep", "0.6") == (1, f"Error: subset.parquet {exists}")
    assert facecore("nms", "--keep", "0.6", "--overwrite")[0] == 0
    written(small(), Path("other.onnx"))
    otherwise = "was made from other faces or options; choose another --out, or add --overwrite to replace it\n"
    assert facecore("embed", "faces", "--model", "other.onnx") == (1, f"Error: embeddings {otherwise}")
    assert facecore("embed", "faces", "--model", "other.onnx", "--overwrite")[0] == 0


def test_keep_below_the_floor(here):
    embedded()
    assert facecore("nms", "--keep", "0.2") == (
        1,
        "Error: --keep 0.2 asks for 2 of 10 faces, but every identity keeps at least 1, 3 in all; "
        "use --keep 0.3 or more, or --min-per-identity 0\n",
    )
    assert facecore("nms", "--keep", "0.2", "--min-per-identity", "0")[0] == 0


def test_a_pickle_that_would_run_code(here):
    class Evil:
        def __reduce__(self):
            return (eval, ("open('ran', 'w')",))

    Path("evil.bin").write_bytes(pickle.dumps(([b"x", b"y"], [Evil()])))
    assert facecore("verify", "--model", "net.onnx", "--pairs", "evil.bin") == (
        1,
        "Error: evil.bin holds builtins.eval, which is neither a byte string nor a boolean; "
        "it was refused and nothing of it was run\n",
    )
    assert not Path("ran").exists()


def test_a_network_that_gives_nothing(here):
    model = network()
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b3"):
            shape = tuple(tensor.dims)
            tensor.raw_data = np.zeros(shape, np.float32).tobytes()
    written(model, Path("zero.onnx"))
    code, output = facecore("embed", "faces", "--model", "zero.onnx")
    assert code == 1
    assert "10 of 10 faces rejected so far" in output
    reasons = pq.read_table("embeddings/rejected.parquet")["reason"].unique().to_pylist()
    assert reasons == ["the embedding has length zero"]


@pytest.mark.parametrize("words", [["verify"], ["nms", "--keep", "1", "--fast"], ["fly"], ["embed", "faces"]])
def test_a_usage_error_is_2(words, here):
    code, output = facecore(*words)
    assert code == 2
    assert output.startswith("Usage: facecore")


def test_an_interrupt_is_130_and_the_run_goes_on_later(here):
    folder_of(Path("many"), {f"p{n:04d}/1.jpg": jpeg(n % 50, 16) for n in range(600)})
    command = [sys.executable, "-m", "facecore", "embed", "many", "--model", "net.onnx", "--shard-rows", "5"]
    running = subprocess.Popen(
        [*command, "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        # a shell without job control starts what it puts in the background deaf to interrupts, and its children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(Path("embeddings/metadata").glob("*.parquet")):
        assert running.poll() is None, "it should not be done before its first shard"
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert said == "Interrupted; nothing is half-written: run the same command again\n"
    assert not Path("embeddings/meta.json").exists()
    done = len(list(Path("embeddings/metadata").glob("*.parquet")))
    assert 0 < done < 120
    code, output = facecore(*command[3:])
    assert code == 0
    assert output.startswith("embeddings: 600 faces of 600 identities in ")
    assert f", {done} of 120 shards were there already" in output


COMMANDS = [[name] for name in sorted(main.commands) if name != "select"] + [["select", name] for name in SELECTORS]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words):
    code, output = facecore(*words, "--help")
    assert code == 0
    assert output.splitlines()[0].startswith(f"Usage: facecore {' '.join(words)} ")
    assert output.split("Options:")[0].rstrip().endswith(".")
    options = [line for line in output.splitlines() if line.lstrip().startswith("-")]
    assert len(options) > 3


def test_a_store_that_lost_the_bytes_of_a_shard_is_mended_by_embedding_again(here):
    words = ["embed", "faces", "--model", "net.onnx", "--shard-rows", "5"]
    facecore(*words)
    whole = {path: path.read_bytes() for path in Path("embeddings").rglob("*") if path.is_file()}
    vectors = Path("embeddings/img_emb/img_emb_00000.npy")
    for damage in (b"", whole[vectors][:100], whole[vectors][:-2] + b"\x00\x3c"):  # gone, cut, and another number
        vectors.write_bytes(damage)
        code, output = facecore(*words)
        assert code == 0
        assert output.rstrip().endswith(", 1 of 2 shards were there already")
        assert whole == {path: path.read_bytes() for path in Path("embeddings").rglob("*") if path.is_file()}
    vectors.write_bytes(b"")
    assert facecore("nms", "--keep", "0.6") == (
        1,
        "Error: shard 0 of embeddings is missing or damaged; delete embeddings/metadata/metadata_00000.parquet "
        "and run facecore embed again, it redoes only that shard\n",
    )


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("embed faces --model net.onnx --out pairs.csv/sub", "pairs.csv is a file, so nothing can be written in it"),
        (
            "quantize --manifest faces --model net.onnx --out pairs.csv",
            "pairs.csv is a file, so nothing can be written in it",
        ),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(command, line, here):
    assert facecore(*command.split()) == (1, f"Error: {line}; choose another --out\n")


def test_an_output_that_is_a_folder(here):
    embedded()
    for more in ([], ["--overwrite"]):
        assert facecore("nms", "--keep", "0.6", "--out", "faces", *more) == (
            1, "Error: faces is a folder; choose another --out\n",
        )  # fmt: skip


def test_a_full_disk_is_one_line(here, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "embeddings/img_emb/img_emb_00000.npy.part")

    monkeypatch.setattr("facecore.embed.steps.write_shard", full)
    assert facecore("embed", "faces", "--model", "net.onnx") == (
        1,
        "Error: embeddings/img_emb/img_emb_00000.npy.part: No space left on device; "
        "check the path, its permissions and the free space\n",
    )


def test_a_network_without_products_cannot_be_quantized(here):
    from onnx import helper
    from test_models_onnx import model_of

    nodes = [helper.make_node("GlobalAveragePool", ["in"], ["p"]), helper.make_node("Flatten", ["p"], ["out"])]
    written(model_of(nodes, {}), Path("flat.onnx"))
    assert facecore("quantize", "--manifest", "faces", "--model", "flat.onnx") == (
        1,
        "Error: the network has no convolution or matrix product, so there is nothing to quantize\n",
    )


def test_a_data_set_of_which_nothing_can_be_read(here):
    folder_of(Path("damaged"), {"a/1.jpg": b"nothing", "a/2.jpg": b"nothing"})
    assert facecore("quantize", "--manifest", "damaged", "--model", "net.onnx", "--max-rejected", "1") == (
        1,
        "Error: none of 2 faces can be read, first a/1.jpg: not an image: unknown image format; mend the data set\n",
    )


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("demo --keep 2", "--keep is the fraction of faces to keep, in (0, 1]; got 2"),
        ("demo --steps 0", "--steps must be at least 1, got 0"),
        ("quantize --manifest faces --model net.onnx --seed -1", "--seed must be 0 or more, got -1"),
        ("nms --max-cosine 2", "--max-cosine must be from -1 to 1, got 2"),
        (
            "nms --keep 0.5 --min-per-identity 4 --max-per-identity 2",
            "--max-per-identity must be 1 or more, and at least --min-per-identity, 4; got 2",
        ),
        (
            "quantize --manifest s --model m --bits float --edges-8-bit",
            "--edges-8-bit is of integer networks, but bits are float; leave it out",
        ),
        ("select semdedup --keep 0.5 --cells 0", "--cells must be 1 or more, got 0"),
        (
            "embed faces --model net.onnx --shard-index 2 --num-shards 2",
            "--shard-index is from 0 to 1 for 2 tasks; got 2",
        ),
        (
            "embed faces --model net.onnx --images images",
            "images is the root of the images of a manifest or list, but faces is neither; leave it out",
        ),
    ],
)
def test_options_are_checked_before_any_work(command, line, here):
    assert facecore(*command.split()) == (1, f"Error: {line}\n")
    assert not Path("demo").exists()


def test_more_networks_a_point_than_anybody_has_time_for(here):
    assert facecore("curve", "--model", "net.onnx", "--seeds", "1000000000", "--verify", "a=pairs.csv") == (
        1, "Error: Invalid value for '--seeds': 1000000000 is not in the range x<=1000.\n"
    )  # fmt: skip


def test_a_subset_that_was_moved_away_from_its_store(here):
    embedded()
    assert facecore("nms", "--keep", "0.6")[0] == 0
    Path("elsewhere").mkdir()
    for name in ("subset.parquet", "subset.dropped.parquet"):
        Path(name).rename(Path("elsewhere", name))
    Path("embeddings").rename("store")
    assert facecore("audit", "elsewhere/subset.parquet") == (
        1,
        "Error: no embedding store at embeddings; "
        "name with --embeddings the one that elsewhere/subset.parquet was selected from\n",
    )
    code, output = facecore("audit", "elsewhere/subset.parquet", "--embeddings", "store")
    assert (code, output.splitlines()[-1]) == (0, "elsewhere/subset.parquet: all 14 claims checked hold")


def test_one_is_singular(here):
    folder_of(Path("one"), {"ann/1.jpg": jpeg(1, 16)})
    code, output = facecore("embed", "one", "--model", "net.onnx")
    assert (code, output.startswith("embeddings: 1 face of 1 identity in ")) == (0, True)
    code, output = facecore("nms", "--keep", "1")
    assert (code, output.splitlines()[0]) == (0, "subset.parquet: 1 of 1 face, 1 of 1 identity")
    assert [counted(*of) for of in ((0, "face"), (1, "identity"), (2000, "identity"))] == [
        "0 faces", "1 identity", "2,000 identities"
    ]  # fmt: skip


def test_a_label_that_is_no_number_is_told_of_that_face(here):
    records = insightface([[jpeg(n, 16) for n in range(3)], [jpeg(3, 16)]])
    records[2] = packed([0.5, 1], jpeg(1, 16), 2)
    write_records(Path("rec"), records)
    line = "record 2 of rec/train.rec has the label 0.5, not a whole number; pack the data set again"
    code, output = facecore("embed", "rec", "--model", "net.onnx")
    assert (code, output) == (
        1,
        f"Error: 1 of 4 faces rejected so far, more than --max-rejected 0.01 allows; first 2: {line}; "
        "see embeddings/rejected.parquet, then run again with a larger --max-rejected, it goes on where it was\n",
    )


def test_the_first_screen_shows_the_job_line_by_line():
    _, output = facecore("--help")
    assert "\n  facecore nms --keep 0.6                    the subset" in output


def test_the_main_job_on_recordio(here):
    people = [[jpeg(10 * person + face, 16) for face in range(4)] for person in range(3)]
    Path("packed").mkdir()
    write_records(Path("packed"), insightface(people))
    code, output = facecore("embed", "packed", "--model", "net.onnx")
    assert (code, output.startswith("embeddings: 12 faces of 3 identities in ")) == (0, True)
    code, output = facecore("nms", "--keep", "0.5")
    assert (code, output.splitlines()[0]) == (0, "subset.parquet: 6 of 12 faces, 3 of 3 identities")
    code, _ = facecore("quantize", "--manifest", "subset.parquet", "--model", "net.onnx", "--steps", "1")
    assert code == 0
    assert json.loads(Path("quantized/report.json").read_text())["faces"] == 6
