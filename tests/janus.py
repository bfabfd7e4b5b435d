"""A made-up protocol in the layout of IJB-C: grey faces whose grey value is an angle, and a network that reads it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facecore.images import Preprocess

PLAIN = Preprocess(mean=0, scale=1)  # the network sees the grey values themselves


@dataclass
class Circle:
    """A network for even grey images: the grey value is the angle in degrees; it counts what it embeds.

    An embedding is as long as the angle's tens, plus one.
    """

    size: int = 4
    dimension: int = 2
    sha256: str = "0" * 64
    preprocess: Preprocess | None = PLAIN
    seen: int = 0

    def embed(self, batch):
        self.seen += len(batch)
        degrees = batch.mean(axis=(1, 2, 3))
        angle = np.radians(degrees)
        return ((degrees // 10 + 1) * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)


def length(degrees):
    return degrees // 10 + 1


def grey(degrees, size=112):
    stream = io.BytesIO()
    Image.new("L", (size, size), degrees).save(stream, "png")
    return stream.getvalue()


LANDMARKS = "38.2946 51.6963 73.5318 51.5014 56.0252 71.7366 41.5493 92.3655 70.7299 92.2041"

# image (an angle), template, media: template 1 is a video of two frames and a still
FACES = [(0, 1, 10), (20, 1, 10), (40, 1, 11), (30, 2, 12), (90, 3, 13), (100, 4, 14), (150, 5, 15), (160, 5, 16)]
SCORES = [0.9, 0.5, 0.8, 1.0, 0.7, 0.6, 0.95, 0.4]
PAIRS = [(1, 2, 1), (3, 4, 1), (1, 3, 0), (1, 4, 0), (2, 3, 0), (2, 4, 0), (5, 2, 0), (5, 4, 0)]


def ijb(folder, *, faces=FACES, scores=SCORES, pairs=PAIRS, gallery=None, probes=None, prefix="ijbc"):
    """Write a protocol; `gallery` is {G1: [(template, subject)]}; without `scores` there are no landmarks."""
    meta, crops = folder / "meta", folder / "loose_crop"
    meta.mkdir(parents=True)
    crops.mkdir()
    names = [f"{number}.png" for number in range(1, len(faces) + 1)]
    for name, (degrees, *_) in zip(names, faces, strict=True):
        (crops / name).write_bytes(grey(degrees))
    lines(meta / f"{prefix}_face_tid_mid.txt", [f"{n} {t} {m}" for n, (_, t, m) in zip(names, faces, strict=True)])
    lines(meta / f"{prefix}_template_pair_label.txt", [f"{a} {b} {same}" for a, b, same in pairs])
    if scores:
        five = [f"{name} {LANDMARKS} {score}" for name, score in zip(names, scores, strict=True)]
        lines(meta / f"{prefix}_name_5pts_score.txt", five)
    for name, rows in (gallery or {}).items():
        table(meta / f"{prefix}_1N_gallery_{name}.csv", rows)
    if probes:
        table(meta / f"{prefix}_1N_probe_mixed.csv", probes)
    return folder


def lines(path, text):
    path.write_text("".join(f"{line}\n" for line in text))


def table(path, rows):
    lines(path, ["TEMPLATE_ID,SUBJECT_ID,FILENAME", *(f"{t},{s},img/{t}.jpg" for t, s in rows)])
