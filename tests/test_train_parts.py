"""The parts of training against their formulas: losses, sampled classes, orders, shares, rates and augmentations."""

import io
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pictures import pixels
from PIL import Image

from facecore.embed.head import class_numbers
from facecore.errors import DataError, OptionError
from facecore.readers import Dataset
from facecore.train.augment import AUGMENTATIONS, augmented
from facecore.train.head import LOSSES, Head
from facecore.train.sampling import Plan, Roster, check_batch, sampled_classes
from facecore.train.schedule import rate

CPU = torch.device("cpu")
EMBEDDINGS = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
CENTRES = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]])
LABELS = torch.tensor([0, 1, 0])


def head(loss="cosface", classes=3, dimension=2, margin=0.25, scale=8.0, centres=None):
    made = Head(loss, classes, dimension, margin=margin, scale=scale, seed=0, device=CPU)
    if centres is not None:
        made.centres.copy_(centres)
    return made


def by_formula(logit):
    """Cross-entropy of scaled cosines, the own one replaced: both papers, without a library."""
    cosine = EMBEDDINGS @ CENTRES.T / EMBEDDINGS.norm(dim=1, keepdim=True) / CENTRES.norm(dim=1)
    total = 0.0
    for row, own in enumerate(LABELS.tolist()):
        logits = [8 * (logit(float(c)) if j == own else float(c)) for j, c in enumerate(cosine[row])]
        total -= logits[own] - math.log(sum(math.exp(value) for value in logits))
    return total / len(LABELS)


@pytest.mark.parametrize(
    ("loss", "logit"),
    [
        ("cosface", lambda cosine: cosine - 0.25),  # Wang et al. 2018, eq. 4: the margin is a cosine
        ("arcface", lambda cosine: math.cos(math.acos(cosine) + 0.25)),  # Deng et al. 2019, eq. 3: it is an angle
    ],
)
def test_the_loss_is_that_of_the_paper(loss, logit):
    found = head(loss, centres=CENTRES).loss(EMBEDDINGS, LABELS, torch.arange(3))
    assert found.item() == pytest.approx(by_formula(logit), abs=1e-5)


def test_the_default_margins_are_those_of_the_papers():
    assert {name: loss.margin for name, loss in LOSSES.items()} == {"cosface": 0.35, "arcface": 0.5}


def test_the_head_draws_from_its_seed_alone():
    before = torch.random.get_rng_state()
    first, second = head(classes=50), head(classes=50)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.centres, second.centres)
    assert torch.allclose(first.centres.norm(dim=1), torch.ones(50))


def test_a_step_on_all_classes_is_that_of_torch():
    ours, centres = head(centres=CENTRES), torch.nn.Parameter(CENTRES.clone())
    theirs = torch.optim.SGD([centres], lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    for _ in range(3):
        ours.loss(EMBEDDINGS, LABELS, torch.arange(3)).backward()
        ours.step(0.1, momentum=0.9, weight_decay=0.01)
        cosine = torch.nn.functional.normalize(EMBEDDINGS) @ torch.nn.functional.normalize(centres).T
        own = torch.nn.functional.one_hot(LABELS, 3)
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(8 * (cosine - 0.25 * own), LABELS).backward()
        theirs.step()
    assert torch.allclose(ours.centres, centres.detach(), atol=1e-5)


def test_only_the_classes_compared_with_are_moved():
    wide, narrow = head(classes=20, dimension=4), head(classes=3, dimension=4)
    compared = torch.tensor([2, 7, 11])
    narrow.centres.copy_(wide.centres[compared])
    before, embeddings = wide.centres.clone(), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    loss = wide.loss(embeddings, torch.tensor([2, 7, 7, 2, 2]), compared)
    same = narrow.loss(embeddings, torch.tensor([0, 1, 1, 0, 0]), torch.arange(3))
    assert loss.item() == same.item()
    for one, value in ((wide, loss), (narrow, same)):
        value.backward()
        one.step(0.1, momentum=0.9, weight_decay=0.1)
    moved = (wide.centres != before).any(dim=1)
    assert moved.nonzero()[:, 0].tolist() == [2, 7, 11]
    assert torch.equal(wide.centres[compared], narrow.centres)
    assert wide.momentum.any(dim=1).nonzero()[:, 0].tolist() == [2, 7, 11]


def test_activations_do_not_grow_with_the_identities():
    def held(classes):
        """Elements that a step keeps for its way back."""
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            head(classes=classes, dimension=4).loss(torch.ones(8, 4), torch.arange(8), torch.arange(50))
        return sum(sizes)

    assert held(20_000) == held(50) > 0


def test_sampled_classes_hold_those_of_the_batch_and_are_as_many_as_asked():
    positive = np.array([90, 3, 3, 41])
    for step in range(20):
        found = sampled_classes(positive, 100, sample=0.1, seed=0, step=step)
        assert len(found) == 10
        assert np.array_equal(found, np.unique(found))
        assert {3, 41, 90} <= set(found.tolist())
    others = [sampled_classes(positive, 100, sample=0.1, seed=s, step=t).tolist() for s, t in ((0, 1), (0, 1), (1, 1))]
    assert others[0] == others[1] != others[2]


def test_every_class_has_its_turn():
    seen = [sampled_classes(np.array([0]), 30, sample=5, seed=0, step=step) for step in range(400)]
    counts = np.bincount(np.concatenate(seen), minlength=30)
    assert counts[0] == 400
    assert (np.abs(counts[1:] - 400 * 4 / 29) < 30).all()


@pytest.mark.parametrize(("sample", "expected"), [(1.0, 30), (0.01, 2), (2, 2), (29, 29), (31, 30)])
def test_how_many_classes_are_sampled(sample, expected):
    assert len(sampled_classes(np.array([4, 17]), 30, sample=sample, seed=0, step=0)) == expected


def plan(classes, sampling="plain", batch_size=4, seed=0):
    return Plan(np.array(classes), sampling=sampling, batch_size=batch_size, seed=seed)


def test_plain_has_every_face_once_an_epoch():
    one = plan([0] * 7 + [1] * 3)
    flat = np.concatenate([one.places(step) for step in range(5)])  # two epochs in five batches of four
    for epoch in flat.reshape(2, 10):
        assert sorted(epoch.tolist()) == list(range(10))
    assert flat[:10].tolist() != flat[10:].tolist()


def test_balanced_has_every_identity_alike():
    classes = np.repeat([0, 1, 2], [10, 1, 4])
    one = plan(classes, "balanced", batch_size=5)
    assert one.epoch_faces == 15
    flat = np.concatenate([one.places(step) for step in range(12)]).reshape(4, 15)
    for epoch in flat:
        assert np.bincount(classes[epoch]).tolist() == [5, 5, 5]
        assert len(set(epoch[classes[epoch] == 0].tolist())) == 5  # of a large identity no face twice
        assert set(epoch[classes[epoch] == 2].tolist()) == {11, 12, 13, 14}  # of a small one every face
    assert len(set(flat[classes[flat] == 0].tolist())) > 5  # and others in another epoch


@pytest.mark.parametrize("sampling", ["plain", "balanced"])
def test_a_step_depends_on_nothing_but_the_seed(sampling):
    classes = np.arange(50) % 7
    forward = [plan(classes, sampling).places(step).tolist() for step in range(30)]
    one = plan(classes, sampling)
    assert [one.places(step).tolist() for step in reversed(range(30))] == forward[::-1]
    assert plan(classes, sampling, seed=1).places(0).tolist() != forward[0]


def test_fewer_faces_than_a_batch():
    assert sorted(plan([0, 1, 1], batch_size=6).places(0).tolist()) == [0, 0, 1, 1, 2, 2]


def dataset(identities):
    """A data set of faces with these identities, sorted as readers do."""
    names = sorted(identities)
    ids = [str(row) for row in range(len(names))]
    return Dataset(Path("faces"), "folder", pa.table({"face_id": ids, "identity": names, "source": ids}), lambda _: b"")


def roster(whose, **share):
    return Roster(dataset(whose), **{"identities": None, "faces": None, "seed": 0, **share})


def test_a_share_of_the_identities_has_all_their_faces():
    drawn = roster([f"p{who:02}" for who in range(20) for _ in range(3)], identities=0.25)
    assert (len(drawn), len(drawn.names)) == (15, 5)
    assert np.bincount(drawn.classes).tolist() == [3] * 5
    names = np.repeat([f"p{who:02}" for who in range(20)], 3)
    assert [drawn.names[int(c)].as_py() for c in drawn.classes] == names[drawn.rows].tolist()
    assert drawn.names.to_pylist() == sorted(drawn.names.to_pylist())


def test_a_share_of_the_faces():
    names = [f"p{who:02}" for who in range(20) for _ in range(3)]
    first, again, other = roster(names, faces=0.4), roster(names, faces=0.4), roster(names, faces=0.4, seed=1)
    assert len(first) == 24
    assert np.array_equal(first.rows, again.rows)
    assert not np.array_equal(first.rows, other.rows)
    assert set(first.classes.tolist()) == set(range(len(first.names)))


@pytest.mark.parametrize(
    "names",
    [
        [str(n) for n in range(12)],
        [f"{n:03}" for n in range(12)],
        [f"{n:03}" for n in range(1, 13)],
        ["7", "20", "100"],
        ["7", "07", "1"],
        ["ann", "bob", "0"],
    ],
    ids=str,
)
def test_embed_reads_the_classes_as_they_were_trained(names):
    drawn = roster(names)
    numbers = class_numbers(pa.array(sorted(names)), len(names), Path("head"))
    assert [drawn.names[int(number)].as_py() for number in numbers] == sorted(names)


@pytest.mark.parametrize(
    ("names", "share", "line"),
    [
        (["a", "a"], {}, "faces has 1 identity; "),
        (["a", "b", "c"], {"identities": 0.4}, "faces has 1 identity in the share drawn, of 3 in all; "),
        (["a", "b", "c"], {"faces": 0.1}, "faces has 0 identities in the share drawn, of 3 in all; "),
    ],
    ids=str,
)
def test_nothing_to_tell_apart(names, share, line):
    with pytest.raises(DataError) as error:
        roster(names, **share)
    assert str(error.value) == line + "a margin softmax tells identities apart and needs at least 2"


def test_the_rate_rises_in_a_line_and_falls():
    rates = [rate(step, 20, warm_up=0.2, decay="polynomial") for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[12] == pytest.approx((1 - 8 / 16) ** 2)
    assert 0 < rates[-1] < 0.01
    steps = [rate(step, 20, warm_up=0, decay="step") for step in range(20)]
    assert steps == pytest.approx([1] * 10 + [0.1] * 5 + [0.01] * 3 + [0.001] * 2)


def drawn(*key):
    return np.random.default_rng(key)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_changes_a_face_as_drawn_and_keeps_its_size(name):
    face = pixels(3)
    before, (one, same, other) = (
        face.copy(),
        (augmented(face, [AUGMENTATIONS[name]], drawn(seed), share=1, flip=False) for seed in (0, 0, 1)),
    )
    assert one.shape == (112, 112, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(face, before)
    assert 0 < np.abs(one.astype(int) - face).mean() < 80  # still the same face


def test_a_jpeg_is_worse_where_its_quality_is_low():
    face = Image.fromarray(pixels(3))

    class Low:
        def integers(self, low, high):
            return low

    stream = io.BytesIO()
    face.save(stream, "JPEG", quality=20)
    expected = np.asarray(Image.open(stream).convert("RGB"))
    assert np.array_equal(np.asarray(AUGMENTATIONS["jpeg"](face, Low())), expected)


def test_half_of_the_faces_are_mirrored():
    face = pixels(3)
    mirrored = [np.array_equal(augmented(face, [], drawn(n), share=0, flip=True), face[:, ::-1]) for n in range(200)]
    assert 70 < sum(mirrored) < 130
    assert np.array_equal(augmented(face, [], drawn(0), share=0, flip=False), face)


@pytest.mark.parametrize("size", [9, 2])
def test_processes_that_do_not_divide_the_batch(size):
    with pytest.raises(OptionError) as error:
        check_batch(size, 2)
    assert str(error.value) == (f"batch_size must be a multiple of the 2 processes, and at least 2 each; got {size}")
