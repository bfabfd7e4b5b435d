"""SubsetDataset: a data set of any format, for PyTorch."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from archives import zip_of
from pictures import folder_of, jpeg
from test_readers import MADE, SIX

from facecore.data import SubsetDataset
from facecore.errors import DataError
from facecore.export import WRITERS, ExportOptions, export
from facecore.images import decode
from facecore.manifest import write_manifest
from facecore.provenance import Provenance
from facecore.readers import open_dataset


@pytest.fixture
def images(tmp_path):
    return folder_of(tmp_path / "images", SIX)


def loaded(dataset, **options):
    batches = list(torch.utils.data.DataLoader(dataset, batch_size=4, **options))
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def test_what_a_face_is(images):
    faces = SubsetDataset(images)
    tensor, label = faces[5]
    assert (tensor.shape, tensor.dtype, type(label), label) == ((3, 112, 112), torch.float32, int, 2)
    pixels = decode(SIX["2/1.jpg"], 112)
    assert torch.equal(tensor, torch.tensor((pixels.transpose(2, 0, 1).astype(np.float32) - 127.5) / 127.5))
    assert torch.allclose(tensor, (torch.tensor(pixels).permute(2, 0, 1) / 255 - 0.5) / 0.5, atol=1e-6)  # arcface_torch
    assert SubsetDataset(images, size=48)[0][0].shape == (3, 48, 48)
    assert (len(faces), faces.identities, faces.labels.tolist()) == (6, ["0", "1", "2"], [0, 0, 1, 1, 2, 2])
    assert len(list(faces)) == 6
    assert torch.equal(faces[-1][0], tensor)


@pytest.mark.parametrize("name", [name for name in MADE if name not in ("folder", "recordio", "bin")])
def test_every_format(name, images, tmp_path):
    made = SubsetDataset(MADE[name](tmp_path / "root"))
    for (ours, label), (wanted, person) in zip(made, SubsetDataset(images), strict=True):
        assert torch.equal(ours, wanted)
        assert label == person


@pytest.mark.parametrize("to", WRITERS)
def test_exports_give_the_same_batches(to, images, tmp_path):
    export(open_dataset(images), to, tmp_path / "out", ExportOptions())
    wanted, labels = loaded(SubsetDataset(images))
    out = tmp_path / "out" / "list.txt" if to == "list" else tmp_path / "out"
    made = SubsetDataset(out, images=images if to == "list" else None)
    for dataset in (made, SubsetDataset(tmp_path / "out" / "export.parquet")):
        found, numbers = loaded(dataset)
        assert torch.equal(found, wanted)
        assert torch.equal(numbers, labels)


def test_a_subset(images, tmp_path):
    made = Provenance("test", facts={"root": "moved", "format": "folder"})
    write_manifest(open_dataset(images).faces.take([0, 4, 5]), tmp_path / "subset.parquet", made)
    faces = SubsetDataset(tmp_path / "subset.parquet", images=images)
    assert [label for _, label in faces] == [0, 1, 1]
    assert faces.identities == ["0", "2"]


@pytest.mark.parametrize("name", ["zip", "recordio", "parquet"])
def test_it_is_pickled_without_its_files(name, tmp_path):
    faces = SubsetDataset(MADE[name](tmp_path / "root"), size=16)
    if name != "recordio":
        tensor, label = faces[3]  # opens them
        again = pickle.loads(pickle.dumps(faces))
        assert torch.equal(again[3][0], tensor)
        assert again[3][1] == label
    assert len(pickle.loads(pickle.dumps(faces))) == 6


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="nothing is forked here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # is multi-threaded: torch's affair
def test_forked_workers_read_one_archive(tmp_path):
    path = zip_of(tmp_path / "a.zip", {f"{i % 7}/{i:02}.jpg": jpeg(i, 16) for i in range(60)})
    faces = SubsetDataset(path, size=16)
    wanted, labels = loaded(faces)  # the archive is open by now
    found, numbers = loaded(faces, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(found, wanted)
    assert torch.equal(numbers, labels)


def test_a_face_that_cannot_be_read(images):
    folder_of(images, {"1/1.jpg": b"x"})
    faces = SubsetDataset(images)
    with pytest.raises(DataError) as caught:
        faces[3]
    assert str(caught.value) == (
        "1/1.jpg cannot be read: not an image: unknown image format; leave it out of the manifest"
    )
    with pytest.raises(IndexError):
        faces[6]
