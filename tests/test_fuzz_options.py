"""Any value of any option of any command: at worst one line, never a traceback."""

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import folder_of, jpeg
from test_cli import facecore
from test_models_onnx import written
from test_quantize import network

from facecore.cli import main
from facecore.errors import DataError

SLOW = ("curve", "quantize", "synthesize", "train")  # given nothing that they could work with
LEFT_OUT = ("help", "_click_default_help", "processes")  # the last would start a billion of them
GOOD = {
    "model": "net.onnx", "embeddings": "embeddings", "pairs": "pairs.csv", "images": "faces", "keep": "0.6",
    "out": "new.parquet", "to": "folder", "dataset": "faces", "subset": "subset.parquet", "order": "subset.parquet",
    "folder": ".", "against": "embeddings", "vectors": "embeddings",
}  # fmt: skip
PATHS = (
    "faces", "net.onnx", "pairs.csv", "empty", "junk.bin", "junk.parquet", "zero", "nowhere", "embeddings",
    "subset.parquet", "subset.dropped.parquet", "faces/ann/0.jpg", "", ".", "..", "/dev/null", "a" * 300,
    "new/a/b.parquet", "new", "x\ny", "*.tar", "[",
)  # fmt: skip
WORDS = (
    "0", "1", "-1", "0.5", "nan", "inf", "-inf", "1e400", "1e-400", "1e-12", "", "w8a8", "r18", "tiny", "ann",
    "ann/0.jpg", "\xe9", "9" * 30, "2", "folder", "recordio", "list", "identity", "nms,random", "1,2,3", ",", " ",
    "lfw=pairs.csv,faces", "=", "--", "\n", "crop,blur", "x" * 2000, "true", "0x10", "1_000",
)  # fmt: skip


def commands():
    """Every command by its words, those of groups too."""
    for name, command in main.commands.items():
        if isinstance(command, click.Group):
            yield from (((name, below), one) for below, one in command.commands.items())
        else:
            yield (name,), command


COMMANDS = dict(commands())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with something of everything."""
    root = tmp_path_factory.mktemp("options")
    folder_of(
        root / "faces", {f"{who}/{n}.jpg": jpeg(7 * n + len(who), 16) for who in ("ann", "bob") for n in range(4)}
    )
    written(network(), root / "net.onnx")
    (root / "pairs.csv").write_text("left,right,same\nann/0.jpg,ann/1.jpg,1\nann/0.jpg,bob/1.jpg,0\n")
    (root / "empty").mkdir()
    (root / "junk.bin").write_bytes(b"\x80\x04junk")
    (root / "junk.parquet").write_bytes(b"PAR1junkPAR1")
    (root / "zero").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("facecore.synthesis.drawn._write_faces", no_faces)  # demo would go on for minutes
        assert facecore("embed", "faces", "--model", "net.onnx")[0] == 0
        assert facecore("nms", "--keep", "0.6")[0] == 0
        yield root


def no_faces(root, options):
    raise DataError(f"no faces at {root}; none were drawn")


def words_for(draw, parameter, *, slow):
    """A value for a parameter: mostly a fitting one, or any other."""
    kind = parameter.type
    if parameter.name in GOOD and not slow and draw(st.integers(0, 9)) < 7:
        return GOOD[parameter.name]
    if isinstance(kind, click.Choice) and draw(st.booleans()):
        return str(draw(st.sampled_from(list(kind.choices))))
    if isinstance(kind, click.Path):
        return draw(st.sampled_from(PATHS))
    if isinstance(kind, click.types.IntParamType) and draw(st.booleans()):
        return str(draw(st.sampled_from((0, 1, 2, -1, 3, 10**9, 2**31, 2**64, 10**30))))
    return draw(st.sampled_from(WORDS) | st.text("0123456789.,-+eaxw \u00e9", max_size=6))


def command_line(draw, name, command):
    slow = name[0] in SLOW
    words = list(name)
    for parameter in command.get_params(click.Context(command)):
        needed = parameter.required or (parameter.name in GOOD and draw(st.booleans()))
        if parameter.name in ("help", "_click_default_help", "processes") or not (
            needed or draw(st.integers(0, 7)) == 0
        ):
            continue
        if isinstance(parameter, click.Argument):
            words.append(words_for(draw, parameter, slow=slow))
        elif parameter.is_flag:
            words.append(draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts])))
        else:
            words += [draw(st.sampled_from(parameter.opts)), words_for(draw, parameter, slow=slow)]
    return words


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_no_option_gives_a_traceback(name, place, data):
    words = command_line(data.draw, name, COMMANDS[name])
    result = CliRunner().invoke(main, words, prog_name="facecore")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(words) from result.exception
    if result.exit_code == 1:
        lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        assert len(lines) <= 1, words
        assert not lines or result.output.endswith(lines[0] + "\n"), words
