"""Files made to do harm: nothing of them runs, nothing is read or written outside, and memory stays bounded."""

import resource
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from archives import tar_of, zip_of
from geometry import random_faces, write_store
from onnx import TensorProto, helper, numpy_helper
from pictures import encoded, folder_of, jpeg, pixels
from test_cli import facecore
from test_models_onnx import written
from test_quantize import network

from facecore.checkpoint import Checkpoint
from facecore.embed.head import read_weights
from facecore.embeddings import Embeddings
from facecore.errors import FacecoreError
from facecore.models import load_backbone
from facecore.readers import open_dataset

WRITE_AGAIN = "run facecore embed again, with --overwrite if it refuses"


def refusal(function, *args, **options):
    with pytest.raises(FacecoreError) as caught:
        function(*args, **options)
    return str(caught.value)


# What would run


class Evil:
    def __reduce__(self):
        return (eval, ("open('ran', 'w').close()",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_runs_nothing(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"fingerprint": Evil()}, "evil.pt", _use_new_zipfile_serialization=zipped)
    assert refusal(load_backbone, Path("evil.pt"), arch="tiny") == (
        "evil.pt is not a checkpoint of tensors alone, and nothing else is read; "
        "save network.state_dict() with torch.save"
    )
    assert refusal(read_weights, Path("evil.pt"), 4) == (
        "evil.pt is not a whole file of arrays alone, and nothing else is read; save the weights again"
    )
    line = "evil.pt cannot be read; delete it to start again"
    assert refusal(Checkpoint(Path("evil.pt"), "x", overwrite=False).load) == line
    assert not Path("ran").exists()


def test_torchscript_is_not_loaded(tmp_path):
    path = tmp_path / "script.pt"
    archive = {"script/constants.pkl": b"\x80\x02).", "script/code/__torch__.py": b"", "script/data.pkl": b"\x80\x02N."}
    zip_of(path, {**archive, "script/version": b"3\n"})
    assert refusal(load_backbone, path, arch="tiny").startswith(f"{path} is not a checkpoint of tensors alone")


def test_arrays_of_objects_are_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("evil.npy", np.array([[Evil()]], dtype=object), allow_pickle=True)
    Path("names.csv").write_text("identity\nann\n")
    assert refusal(read_weights, Path("evil.npy"), 1).startswith("evil.npy is not a whole file of arrays alone")
    assert facecore("import", "evil.npy", "--labels", "names.csv") == (
        1,
        "Error: evil.npy cannot be read: it holds Python objects, which are not loaded; write it again as .npy\n",
    )
    assert not Path("ran").exists()


def test_a_saved_state_that_is_none(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    for path in (tmp_path / "list.pt", tmp_path / "other.pt"):
        assert (
            refusal(Checkpoint(path, "x", overwrite=False).load) == f"{path} cannot be read; delete it to start again"
        )


# What would be read outside


def outside(tmp_path):
    """A folder of one face, and an image beside it, which no name in the data may reach."""
    folder_of(tmp_path, {"faces/a/1.png": encoded(pixels(0, 16), "PNG"), "secret.png": encoded(pixels(1, 16), "PNG")})
    return tmp_path / "faces", tmp_path / "secret.png"


def listing(path, source):
    """A manifest whose first face is at a source, and 199 others where they should be."""
    names = [f"{n:03d}" for n in range(200)]
    columns = {"face_id": names, "identity": ["a"] * 200, "source": [source, *["a/1.png"] * 199]}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("how", ["../secret.png", "a/../../secret.png", "absolute", "a/1.png\0"])
def test_a_source_that_leaves_the_root(tmp_path, how):
    faces, secret = outside(tmp_path)
    source = str(secret) if how == "absolute" else how
    dataset = open_dataset(listing(tmp_path / "m.parquet", source), images=faces)
    assert refusal(dataset.read, source) == f"{source!a} leads out of the data set"
    assert dataset.read("a/1.png")


def test_an_export_takes_nothing_from_outside(tmp_path, monkeypatch):
    secret = outside(tmp_path)[1]
    monkeypatch.chdir(tmp_path)
    listing(Path("m.parquet"), "../secret.png")
    code, output = facecore("export", "m.parquet", "--images", "faces", "--to", "webdataset", "--out", "out")
    assert code == 0, output
    assert pq.read_table("out/rejected.parquet")["reason"].to_pylist() == ["'../secret.png' leads out of the data set"]
    assert all(secret.read_bytes() not in path.read_bytes() for path in Path("out").rglob("*") if path.is_file())


def test_pairs_that_leave_their_folder(tmp_path):
    outside(tmp_path)
    written(network(), tmp_path / "net.onnx")
    pairs = tmp_path / "pairs.csv"
    for name in ("../secret.png", str(tmp_path / "secret.png")):
        pairs.write_text(f"left,right,same\na/1.png,{name},1\n")
        words = ("verify", "--model", tmp_path / "net.onnx", "--pairs", pairs, "--images", tmp_path / "faces")
        assert facecore(*words) == (
            1,
            f"Error: {pairs} names {name!a}, which leads out of {tmp_path / 'faces'}; name what lies there\n",
        )


def test_names_in_archives_are_left_out_and_nothing_is_unpacked(tmp_path):
    good = jpeg(0, 16)
    before = {"b/1.jpg": good, "../../up.jpg": good, "/absolute/1.jpg": good}
    zip_of(tmp_path / "set.zip", before)
    assert open_dataset(tmp_path / "set.zip").faces["face_id"].to_pylist() == ["b/1.jpg"]
    tar_of(tmp_path / "set.tar", {name.replace(".jpg", kind): data for name in before for kind, data in
                                  ((".jpg", good), (".cls", b"1"))})  # fmt: skip
    assert open_dataset(tmp_path / "set.tar").faces["face_id"].to_pylist() == ["set.tar/b/1.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.tar", "set.zip"]


def external(name, location, dims=(48, 2)):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def net(weights, *, batch="n", nodes=(), functions=()):
    """A product of 4 x 4 images with weights (48, 2)."""
    chain = nodes or [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 4, 4])
    vectors = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, None])
    graph = helper.make_graph(list(chain), "g", [images], [vectors], list(weights))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)


def in_function(tensor):
    inner = [helper.make_node("Constant", [], ["w"], value=tensor), helper.make_node("MatMul", ["a", "w"], ["b"])]
    function = helper.make_function("own", "F", ["a"], ["b"], inner, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("F", ["f"], ["y"], domain="own")]
    return net([], nodes=nodes, functions=[function])


@pytest.mark.parametrize("where", ["../weights", "absolute", "link"])
@pytest.mark.parametrize("form", ["initializer", "function"])
def test_onnx_weights_in_files_elsewhere(tmp_path, where, form):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights").write_bytes(np.arange(96, dtype="<f4").tobytes())
    (folder / "link").symlink_to(tmp_path / "weights")
    location = str(tmp_path / "weights") if where == "absolute" else where
    tensor = external("w", location)
    model = net([tensor]) if form == "initializer" else in_function(tensor)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    assert refusal(load_backbone, folder / "net.onnx").startswith(f"{folder / 'net.onnx'} is not an ONNX model (")


def test_onnx_weights_beside_the_network_are_read(tmp_path):
    (tmp_path / "weights").write_bytes(np.ones(96, "<f4").tobytes())
    (tmp_path / "net.onnx").write_bytes(net([external("w", "weights")]).SerializeToString())
    assert load_backbone(tmp_path / "net.onnx").embed(np.ones((1, 3, 4, 4), np.float32)).tolist() == [[48, 48]]


def packed_file(path, model):
    graph = np.frombuffer(zlib.compress(model.SerializeToString()), np.uint8)
    path.write_bytes(safetensors.numpy.save({"graph": graph}))
    return path


def test_a_packed_network_reads_no_other_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights").write_bytes(np.ones(96, "<f4").tobytes())
    path = packed_file(Path("m.safetensors"), net([external("w", "weights")]))
    assert refusal(load_backbone, path) == (
        "m.safetensors is not a network that facecore packed (w lies in another file); "
        "name the model.safetensors that facecore quantize wrote"
    )


# What would take all memory, in a process that has little


def files_that_claim_much(root):
    """A file of each kind that claims gigabytes."""
    weights = numpy_helper.from_array(np.zeros((48, 2), np.float32), "w")
    (root / "batch.onnx").write_bytes(net([weights], batch=10**9).SerializeToString())
    bomb = zlib.compress(bytes(1 << 27), 1)
    (root / "bomb.safetensors").write_bytes(safetensors.numpy.save({"graph": np.frombuffer(bomb, np.uint8)}))
    (root / "header.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    planes = onnx.ModelProto()
    planes.graph.initializer.append(TensorProto(name="p", data_type=TensorProto.INT8, dims=(1 << 36,)))
    graph = np.frombuffer(zlib.compress(planes.SerializeToString()), np.uint8)
    tensors = {"graph": graph, "p": np.zeros((8, 1), np.uint8)}
    (root / "planes.safetensors").write_bytes(safetensors.numpy.save(tensors))
    np.save(root / "short.npy", np.zeros((2, 2), np.float32))
    head = (root / "short.npy").read_bytes().replace(b"(2, 2)", b"(9999999999, 2)".ljust(6))
    (root / "short.npy").write_bytes(head)
    (root / "names.csv").write_text("identity\nann\n")
    rec = root / "rec"
    rec.mkdir()
    (rec / "train.rec").write_bytes(b"\x0a\x23\xd7\xce" + struct.pack("<I", (1 << 29) - 1) + bytes(100))
    (rec / "train.idx").write_text("1\t0\n")
    write_store(root / "store", [random_faces(0, [3])])
    (root / "store" / "meta.json").write_text("[" * 1_000_000)
    zip_of(root / "bomb.zip", {"a/1.jpg": bytes(300 << 20)})


CLAIMS = """
    import resource, sys
    from pathlib import Path
    from facecore.embeddings import Embeddings
    from facecore.errors import FacecoreError
    from facecore.importing import ImportOptions, import_vectors
    from facecore.models import load_backbone
    from facecore.readers import open_dataset

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (700 << 20),) * 2)

    def read(path):
        dataset = open_dataset(path)
        dataset.read(dataset.faces["source"][0].as_py())

    attempts = {
        "batch.onnx": load_backbone,
        "bomb.safetensors": load_backbone,
        "header.safetensors": load_backbone,
        "planes.safetensors": load_backbone,
        "short.npy": lambda path: import_vectors(path, Path("out"), ImportOptions(), labels=Path("names.csv")),
        "rec": read,
        "bomb.zip": read,
        "store": Embeddings.open,
    }
    for name, attempt in attempts.items():
        try:
            attempt(Path(name))
        except FacecoreError as error:
            print(type(error).__name__, error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_claims_are_not_believed(tmp_path):
    files_that_claim_much(tmp_path)
    program = [sys.executable, "-c", textwrap.dedent(CLAIMS)]
    ran = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stderr
    assert [line.split("(")[0].split(": ")[0] for line in lines] == [
        "ModelError batch.onnx takes 1,000,000,000 images of 4 x 4 at a time; export it for fewer",
        "ModelError bomb.safetensors is not a network that facecore packed ",
        "ModelError header.safetensors is not a network that facecore packed ",
        "ModelError planes.safetensors is not a network that facecore packed ",
        "DataError short.npy cannot be read",
        "DataError rec/train.rec has 108 bytes, but a record goes on to byte 536,870,919; "
        "it was cut short or is damaged, copy it again",
        "DataError 314,572,800 bytes, more than an image has",
        "DataError store/meta.json is damaged; run facecore embed again, with --overwrite if it refuses",
    ]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 << 20  # KiB


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"shards": [{"rows": 1e400}]}', '{"shards": [{"rows": -1, "identities": 1}], "rows": -1}', "7"],
)
def test_a_meta_json_made_to_hurt(tmp_path, text):
    write_store(tmp_path, [random_faces(0, [3])])
    (tmp_path / "meta.json").write_text(text)
    assert refusal(Embeddings.open, tmp_path) == (f"{tmp_path / 'meta.json'} is damaged; {WRITE_AGAIN}")


def test_errors_command_no_terminal(tmp_path):
    path = tmp_path / "\x1b]0;owned\x07.onnx"
    line = refusal(load_backbone, path)
    assert line == f"no model at {tmp_path}/\\x1b]0;owned\\x07.onnx; facecore downloads none, name a file that is there"
