"""Several processes that train together, as torchrun starts them."""

import os
import subprocess
import sys

import numpy as np
import torch
from pictures import folder_of, jpeg

PROGRAM = """
import sys
from pathlib import Path
import onnx
import torch
from facecore.readers import open_dataset
from facecore.train import TrainOptions, train
from facecore.train import artefacts
from facecore.train.loop import Trainer

artefacts.to_onnx = lambda network, size: onnx.ModelProto()  # takes longer than all else, and is not the point

torch.set_num_threads(1)
faces, out = Path(sys.argv[1]), Path(sys.argv[2])
learn, batches, worlds = Trainer.learn, [], []

def watched(self, batch):
    worlds[:] = [self._world.rank, self]
    batches.append((batch.labels, batch.compared))
    if batch.step == 0:
        batches.insert(0, {name: values.clone() for name, values in self.network.state_dict().items()})
    return learn(self, batch)

Trainer.learn = watched
options = TrainOptions(arch="tiny", steps=4, batch_size=8, sample_classes=0.5, scale=24, margin=0.2, workers=1)
report = train(open_dataset(faces), out, options)
rank, trainer = worlds
weights = dict(trainer.network.named_parameters())
start, *batches = batches
held = {"start": start, "batches": batches, "weights": weights, "centres": trainer.head.centres, "loss": report["loss"]}
torch.save(held, f"{out}.{rank}.pt")
"""


def test_two_processes_start_and_end_alike_and_the_first_one_writes(tmp_path):
    faces = folder_of(tmp_path / "faces", {f"p{who}/{n}.jpg": jpeg(8 * who + n) for who in range(20) for n in range(2)})
    program, out = tmp_path / "program.py", tmp_path / "proxy"
    program.write_text(PROGRAM)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told = subprocess.run(
        [*words, program, faces, out],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert told.returncode == 0, told.stderr
    one, two = (torch.load(f"{out}.{rank}.pt", weights_only=True) for rank in range(2))
    for part in ("start", "weights"):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(values, two[part][name]) for name, values in one[part].items()), part
    assert torch.equal(one["centres"], two["centres"])
    assert all(torch.isfinite(values).all() for values in one["weights"].values())
    assert any(not torch.equal(values, one["start"][name]) for name, values in one["weights"].items())
    for (labels, compared), (others, same) in zip(one["batches"], two["batches"], strict=True):
        assert (len(labels), len(others), len(compared)) == (4, 4, 10)
        assert torch.equal(compared, same)
        assert {*labels.tolist(), *others.tolist()} <= {*compared.tolist()}
    assert one["loss"] == two["loss"]
    assert len((out / "log.csv").read_text().splitlines()) == 5
    kept = torch.load(out / "backbone.pt", weights_only=True)
    assert all(torch.equal(values, kept[name]) for name, values in one["weights"].items())
    assert np.isfinite(one["loss"]["last"])
