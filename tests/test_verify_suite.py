"""A folder of protocols as one table, and the ROC: what the user sees, whole."""

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from janus import PLAIN, grey, ijb
from onnx import TensorProto, helper
from PIL import Image

from facecore.cli import main
from facecore.errors import DataError
from facecore.models import record_preprocess
from facecore.provenance import sha256_of_file
from facecore.verify import Suite, TemplateVerification, Verification, suite_table
from facecore.verify.identification import Identification
from facecore.verify.suite import survey


def facecore(*words):
    """Exit code, standard output, and standard error."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="facecore")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def circle(path):
    """A network for even grey images, whose grey value is the angle of the embedding in degrees."""
    nodes = [
        helper.make_node("ReduceMean", ["faces"], ["grey"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["grey", "degree"], ["angle"]),
        helper.make_node("Cos", ["angle"], ["x"]),
        helper.make_node("Sin", ["angle"], ["y"]),
        helper.make_node("Unsqueeze", ["x", "one"], ["left"]),
        helper.make_node("Unsqueeze", ["y", "one"], ["right"]),
        helper.make_node("Concat", ["left", "right"], ["vector"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "circle",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 2])],
        [
            onnx.numpy_helper.from_array(np.float32(np.pi / 180), "degree"),
            onnx.numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    record_preprocess(model, PLAIN)
    onnx.save(model, path)
    return path


# two people, at 0 and 10 and at 90 and 130 degrees: in the second fold a stranger is as near as a pair of the first
PAIRS = [(0, 10, 1), (90, 130, 1), (0, 90, 0), (10, 130, 0), (10, 0, 1), (130, 90, 0), (90, 10, 0), (130, 0, 0)]


def pair_list(folder, name, pairs=PAIRS):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for angle in {angle for left, right, _ in pairs for angle in (left, right)}:
        (folder / "images" / f"{angle}.png").write_bytes(grey(angle, 4))
    rows = [f"{left}.png,{right}.png,{same},{1 + (n >= len(pairs) / 2)}" for n, (left, right, same) in enumerate(pairs)]
    (folder / name).write_text("\n".join(["left,right,same,fold", *rows]) + "\n")


def lfw(folder):
    people = {"Ann": (0, 10), "Bo": (90, 130)}
    for name, angles in people.items():
        (folder / "images" / name).mkdir(parents=True)
        for number, angle in enumerate(angles, 1):
            (folder / "images" / name / f"{name}_{number:04d}.png").write_bytes(grey(angle, 4))
    (folder / "pairs.txt").write_text("2\t1\nAnn\t1\t2\nAnn\t1\tBo\t1\nBo\t1\t2\nBo\t2\tAnn\t1\n")


def a_bin(path, pairs=PAIRS):
    images = [grey(angle, 4) for left, right, _ in pairs for angle in (left, right)]
    path.write_bytes(pickle.dumps((images, [bool(same) for *_, same in pairs])))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A network and a suite: four protocols, two that are damaged, and other things."""
    monkeypatch.chdir(tmp_path)
    circle(Path("net_a.onnx"))
    suite = tmp_path / "suite"
    lfw(suite / "lfw")
    pair_list(suite / "cfp", "pairs_fp.csv")
    a_bin(suite / "AgeDB_30.bin")
    (suite / "calfw.bin").write_bytes(b"cut off")
    a_bin(suite / "mine.bin", [*PAIRS[:5], (90, 130, 1), *PAIRS[6:]])
    # thirty strangers 40 to 98 degrees apart, and four own pairs of which one is as far apart as the farther of them
    faces = [(angle, number, number) for number, angle in enumerate((0, 10, 20, 50, *range(40, 100, 2)), 1)]
    pairs = [(1, 2, 1), (1, 3, 1), (2, 3, 1), (1, 4, 1), *((1, number, 0) for number in range(5, 35))]
    probes = [(2, 1), (3, 1), (4, 1), *((number, 100 + number) for number in range(5, 35))]
    ijb(suite / "IJBC", faces=faces, scores=None, pairs=pairs, gallery={"G1": [(1, 1)]}, probes=probes)
    ijb(suite / "ijb-b", prefix="ijbb")
    (suite / "ijb-b" / "meta" / "ijbb_template_pair_label.txt").write_text("1 2 yes\n")
    (suite / "README.md").write_text("about")
    (suite / "notes").mkdir()
    (suite / "notes" / "people.csv").write_text("name,age\nAnn,7\n")
    (suite / "notes" / "pairsDevTrain.txt").write_text("1100\n")
    (suite / "lonely").mkdir()
    (suite / "lonely" / "pairs.txt").write_text("1 1\n")
    (suite / "faces").mkdir()
    (suite / "faces" / "1.jpg").write_bytes(b"")
    return tmp_path


AMISS = (
    "suite/ijb-b/meta/ijbb_template_pair_label.txt:1: found '1 2 yes', expected 'TEMPLATE TEMPLATE LABEL', "
    "the label being 0 or 1"
)
SAID = f"""\
skipped README.md: not a protocol
skipped faces: no protocol in it
skipped lonely/pairs.txt: no folder images beside it
skipped notes/people.csv: has no columns left, right, same
LFW: suite/lfw/pairs.txt
CFP-FP: suite/cfp/pairs_fp.csv
AgeDB-30: suite/AgeDB_30.bin
CALFW: suite/calfw.bin
CALFW failed: suite/calfw.bin is not an InsightFace .bin: it is not a whole pickle; download or write it again
IJB-B: suite/ijb-b
IJB-B failed: {AMISS}
IJB-C: suite/IJBC
mine: suite/mine.bin
"""
TEXT = """\
model    LFW  CFP-FP  AgeDB-30  CALFW  IJB-B  IJB-C    mine
net_a  75.00   75.00     75.00      -      -      -  100.00
accuracy in %; of templates: TAR in % at FAR 1e-4

protocol  1e-6  1e-5  1e-4  1e-3  1e-2   1e-1  rank-1  rank-5  TPIR 0.01  TPIR 0.1
IJB-C        -     -     -     -     -  75.00  100.00  100.00          -     66.67
TAR in % by FAR; identification in %, TPIR by FPIR, the mean over the galleries
"""
MARKDOWN = """\
| model | LFW | CFP-FP | AgeDB-30 | CALFW | IJB-B | IJB-C | mine |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| net_a | 75.00 | 75.00 | 75.00 | - | - | - | 100.00 |

accuracy in %; of templates: TAR in % at FAR 1e-4

| protocol | 1e-6 | 1e-5 | 1e-4 | 1e-3 | 1e-2 | 1e-1 | rank-1 | rank-5 | TPIR 0.01 | TPIR 0.1 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| IJB-C | - | - | - | - | - | 75.00 | 100.00 | 100.00 | - | 66.67 |

TAR in % by FAR; identification in %, TPIR by FPIR, the mean over the galleries
"""
LATEX = r"""% accuracy in %; of templates: TAR in % at FAR 1e-4
\begin{tabular}{lrrrrrrr}
\hline
model & LFW & CFP-FP & AgeDB-30 & CALFW & IJB-B & IJB-C & mine \\
\hline
net\_a & 75.00 & 75.00 & 75.00 & - & - & - & 100.00 \\
\hline
\end{tabular}

% TAR in % by FAR; identification in %, TPIR by FPIR, the mean over the galleries
\begin{tabular}{lrrrrrrrrrr}
\hline
protocol & 1e-6 & 1e-5 & 1e-4 & 1e-3 & 1e-2 & 1e-1 & rank-1 & rank-5 & TPIR 0.01 & TPIR 0.1 \\
\hline
IJB-C & - & - & - & - & - & 75.00 & 100.00 & 100.00 & - & 66.67 \\
\hline
\end{tabular}
"""


@pytest.mark.parametrize(("form", "table"), [("text", TEXT), ("markdown", MARKDOWN), ("latex", LATEX)])
@pytest.mark.usefixtures("here")
def test_a_suite(form, table):
    assert facecore("verify", "--model", "net_a.onnx", "--suite", "suite", "--table", form) == (1, table, SAID)


@pytest.mark.usefixtures("here")
def test_a_suite_as_json_with_its_roc():
    code, output, said = facecore(
        "verify", "--model", "net_a.onnx", "--suite", "suite", "--json", "--roc", "out/roc.png"
    )
    assert (code, said) == (1, SAID)
    found = json.loads(output)
    assert list(found["protocols"]) == ["LFW", "CFP-FP", "AgeDB-30", "IJB-C", "mine"]
    folds = {"accuracy": 0.75, "standard_error": 0.0, "fold_accuracies": [0.75, 0.75]}
    assert found["protocols"]["CFP-FP"] == {**folds, "tar": {}, "pairs": 8}
    one = {"rank-1": 1.0, "rank-5": 1.0, "tpir": {"0.1": 2 / 3}, "mated": 3, "non_mated": 30, "enrolled": 1}
    assert found["protocols"]["IJB-C"] == {
        "tar": {"1e-1": 0.75},
        "pairs": 34,
        "templates": 34,
        "images": 34,
        "identification": {"mean": one, "G1": one},
    }
    assert found["failed"]["IJB-B"] == AMISS
    assert found["skipped"]["README.md"] == "not a protocol"
    curve = pq.read_table("out/roc.parquet")
    assert curve["protocol"].unique().to_pylist() == list(found["protocols"])
    rows = curve.filter(np.array(curve["protocol"].to_pylist()) == "IJB-C").to_pydict()
    assert rows["min_cosine"] == pytest.approx(np.cos(np.radians([10, 20, 50])), abs=1e-6)
    assert rows["tar"] == [0.5, 0.75, 1.0]  # two pairs are 10 degrees apart
    assert rows["far"] == pytest.approx([0, 0, 6 / 30])
    assert json.loads(curve.schema.metadata[b"facecore"]) == {
        "facts": {},
        "inputs": {"model": sha256_of_file(Path("net_a.onnx"))},
        "options": {"detector_score": False, "flip": True},
        "stage": "verify",
    }
    with Image.open("out/roc.png") as image:
        assert image.size == (1024, 704)


@pytest.mark.usefixtures("here")
def test_the_roc_of_one_list_of_pairs_is_not_overwritten():
    words = ["verify", "--model", "net_a.onnx", "--pairs", "suite/mine.bin", "--roc", "roc.png"]
    assert facecore(*words) == (0, "accuracy 100.00 % +- 0.00 (8 pairs, 8 folds)\n", "")
    made = [Path(name).read_bytes() for name in ("roc.png", "roc.parquet")]
    assert facecore(*words) == (
        1,
        "",
        "Error: roc.png exists; choose another --roc, or add --overwrite to replace it\n",
    )
    assert facecore(*words, "--overwrite")[0] == 0
    assert [Path(name).read_bytes() for name in ("roc.png", "roc.parquet")] == made
    assert pq.read_table("roc.parquet")["protocol"].unique().to_pylist() == ["mine"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "verify takes a list of --pairs or a --suite of protocols; give one of the two"),
        (
            ["--pairs", "suite/mine.bin", "--suite", "suite"],
            "verify takes a list of --pairs or a --suite of protocols; give one of the two",
        ),
        (
            ["--suite", "suite", "--images", "suite"],
            "the protocols of a suite have their images beside them; leave out --images",
        ),
        (
            ["--pairs", "suite/mine.bin", "--table", "text"],
            "--table is the form of a suite's table, and there is no --suite; leave --table out",
        ),
        (
            ["--pairs", "suite/mine.bin", "--cache", "cache"],
            "--detector-score and --cache are of IJB-B and IJB-C, in a --suite; leave them out",
        ),
        (
            ["--pairs", "suite/mine.bin", "--detector-score"],
            "--detector-score and --cache are of IJB-B and IJB-C, in a --suite; leave them out",
        ),
        (
            ["--suite", "suite", "--roc", "roc.pdf"],
            "the ROC is drawn as .png, with a table as .parquet beside it; got roc.pdf",
        ),
        (
            ["--suite", "suite", "--cache", "net_a.onnx"],
            "--cache is a folder to make or to go on in, but net_a.onnx is a file",
        ),
        (["--suite", "absent"], "no folder at absent; --suite takes a folder of protocols"),
        (
            ["--suite", "suite/faces"],
            "no protocol in suite/faces; looked there and one folder down for *.bin, for pairs.txt or *.csv with a "
            "folder images beside it, and for IJB folders with meta and loose_crop",
        ),
    ],
)
def test_what_a_suite_cannot_be(words, message):
    code, output, said = facecore("verify", "--model", "net_a.onnx", *words)
    assert (code, output, said.splitlines()[-1]) == (1, "", f"Error: {message}")


@pytest.mark.usefixtures("here")
def test_a_suite_of_one_folder_of_ijb():
    code, output, said = facecore("verify", "--model", "net_a.onnx", "--suite", "suite/IJBC", "--cache", "cache")
    assert (code, said) == (0, "IJB-C: suite/IJBC\n")
    assert output.splitlines()[:2] == ["model  IJB-C", "net_a      -"]
    assert len(list(Path("cache").rglob("*.npy"))) == 1


def test_names_and_their_order(tmp_path):
    for name in ("CPLFW.bin", "lfw.bin", "zoo.bin", "cfp_ff.bin", "agedb30.bin"):
        (tmp_path / name).write_bytes(b"")
    lfw(tmp_path / "lfw")
    pair_list(tmp_path / "cfp", "pairs_fp.csv")
    pair_list(tmp_path / "cfp", "other.csv")
    pair_list(tmp_path / "x", "calfw_pairs.csv")
    (tmp_path / "IJB-B" / "meta").mkdir(parents=True)
    (tmp_path / "faces_of_ours" / "meta").mkdir(parents=True)
    found = {one.name: one.path.relative_to(tmp_path).as_posix() for one in survey(tmp_path).protocols}
    assert list(found.items()) == [
        ("LFW", "lfw.bin"),
        ("LFW (lfw/pairs.txt)", "lfw/pairs.txt"),
        ("CFP-FP", "cfp/pairs_fp.csv"),
        ("AgeDB-30", "agedb30.bin"),
        ("CALFW", "x/calfw_pairs.csv"),
        ("CPLFW", "CPLFW.bin"),
        ("IJB-B", "IJB-B"),
        ("CFP-FF", "cfp_ff.bin"),
        ("zoo", "zoo.bin"),
        ("other", "cfp/other.csv"),
        ("faces_of_ours", "faces_of_ours"),
    ]


def test_the_published_form():
    """MobileFaceNet as QuantFace reports it."""
    accuracies = {"LFW": 0.9947, "CFP-FP": 0.9159, "AgeDB-30": 0.9562, "CALFW": 0.9515, "CPLFW": 0.8798}
    figures = {name: Verification(value, 0.001, {}, 6000, 10, (), ()) for name, value in accuracies.items()}
    rates = {"1e-1": 0.99, "1e-2": 0.97, "1e-3": 0.94, "1e-4": 0.9088, "1e-5": 0.85, "1e-6": 0.8}
    search = Identification({1: 0.92, 5: 0.95}, {"0.01": 0.8, "0.1": 0.88}, 19593, 19593, 3531)
    figures["IJB-C"] = TemplateVerification(rates, 15_658_489, 23_124, 469_375, {"G1": search})
    suite = Suite(tuple(figures), figures, {}, {}, {})
    assert suite_table(suite, "mbf|w8", "markdown").splitlines()[:3] == [
        "| model | LFW | CFP-FP | AgeDB-30 | CALFW | CPLFW | IJB-C |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| mbf\\|w8 | 99.47 | 91.59 | 95.62 | 95.15 | 87.98 | 90.88 |",
    ]
    assert suite_table(suite, "mbf", "text").splitlines()[-2] == (
        "IJB-C     80.00  85.00  90.88  94.00  97.00  99.00   92.00   95.00      80.00     88.00"
    )
    assert r"a\_b\&\textbackslash{}c &" in suite_table(suite, "a_b&\\c", "latex")


def test_a_list_that_is_not_text_is_a_protocol_that_fails(here):
    for path in (here / "suite").glob("*.bin"):
        path.unlink()
    cfp = here / "suite" / "cfp"
    cfp.joinpath("pairs_fp.csv").write_bytes(b"left,right,same\n\xff.png,0.png,1\n")
    code, output, said = facecore("verify", "--model", "net_a.onnx", "--suite", "suite/cfp")
    assert (code, said) == (
        1,
        "CFP-FP: suite/cfp/pairs_fp.csv\nCFP-FP failed: suite/cfp/pairs_fp.csv is not UTF-8 text; save it as such\n",
    )
    assert output.splitlines()[:2] == ["model  CFP-FP", "net_a       -"]


def test_a_suite_without_a_folder(tmp_path):
    with pytest.raises(DataError) as error:
        survey(tmp_path / "absent")
    assert str(error.value) == f"no folder at {tmp_path / 'absent'}; --suite takes a folder of protocols"
