"""The same bytes from any number of threads and shards of any size; how near, where a library adds up as it likes."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from test_faults import STAGES, data, facecore, here, made  # noqa: F401 (fixtures)

from facecore.embeddings import Embeddings
from facecore.importing import ImportOptions, import_vectors

ULP = 2.0**-10  # of a float16 below 2, and more than one of any coordinate of a unit row


def run(words):
    code, said = facecore(words)
    assert code == 0, said


def vectors(store):
    return np.concatenate([np.load(path) for path in sorted(Path(store, "img_emb").glob("*.npy"))]).astype(np.float64)


@pytest.mark.parametrize("stage", ["embed", "quantize", "recordio", "webdataset", "train"])
def test_workers_change_no_byte(stage, here):  # noqa: F811
    found = []
    for workers in (1, 3):
        run(STAGES[stage].replace("--workers 1", "") + f" --workers {workers}")
        found.append(made(here))
        Path("out").rename(f"workers-{workers}")
    assert found[0] == found[1]


def test_threads_of_an_import_change_no_byte(here):  # noqa: F811
    found = []
    for threads in (1, 3):
        import_vectors(
            Path("rows.npy"), Path("out"), ImportOptions(memory=1e-6), labels=Path("rows.csv"), threads=threads
        )
        found.append(made(here))
        Path("out").rename(f"threads-{threads}")
    assert found[0] == found[1]


def test_the_size_of_shards_changes_no_vector_and_no_choice(here):  # noqa: F811
    found, content = [], set()
    for rows in (1, 5, 100):
        run(f"embed faces --model net.onnx --shard-rows {rows} --out store-{rows}")
        run(f"nms --keep 0.6 --embeddings store-{rows} --out out-{rows}.parquet")
        content.add(json.loads(Path(f"store-{rows}/meta.json").read_text())["content"])
        tables = [pq.read_table(f"out-{rows}{kind}.parquet").to_pylist() for kind in ("", ".dropped")]
        found.append((tables, vectors(f"store-{rows}").tolist()))
    assert found[0] == found[1] == found[2]
    assert len(content) == 1
    assert Embeddings.open(Path("store-1")).sha256 == Embeddings.open(Path("store-100")).sha256


def test_the_size_of_batches_changes_a_last_bit_at_most(here):  # noqa: F811
    stores = []
    for size in (1, 3, 64):
        run(f"embed faces --model net.onnx --batch-size {size} --out store-{size}")
        stores.append(vectors(f"store-{size}"))
    assert max(np.abs(store - stores[0]).max() for store in stores) <= ULP


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the cores of a process cannot be set here")
def test_the_cores_change_a_last_bit_of_an_embedding_at_most(here):  # noqa: F811
    cores = os.sched_getaffinity(0)
    stores = []
    try:
        for few in ({min(cores)}, cores):
            os.sched_setaffinity(0, few)
            run(f"embed faces --model net.onnx --out cores-{len(few)}-{len(stores)}")
            stores.append(vectors(f"cores-{len(few)}-{len(stores)}"))
    finally:
        os.sched_setaffinity(0, cores)
    assert np.abs(stores[0] - stores[1]).max() <= ULP


def test_threads_of_torch_change_hardly_anything_of_a_quantized_network(here):  # noqa: F811
    reports = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            run(STAGES["quantize"].replace("--out out", f"--out threads-{threads}"))
            reports.append(json.loads(Path(f"threads-{threads}/report.json").read_text())["cosine_to_teacher"])
    finally:
        torch.set_num_threads(1)
    for stage, found in reports[0].items():
        assert found == pytest.approx(reports[1][stage], abs=1e-3), stage
