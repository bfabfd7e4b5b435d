"""Plant redundancy: a folder of faces once more, with bursts of near-duplicates as video and scrapers leave them.

python pipelines/swell.py FACES OUT --share 0.5 --burst 3

Curated benchmarks have few near-duplicates; this makes a pool in which it is known which faces are worth little. Every
face is copied as it is; the share that is drawn gets `burst` more: cropped a little, shifted by a few pixels or encoded
again, in turn. Equal arguments give equal files.
"""

import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from facecore.cli.group import Recipe
from facecore.errors import OptionError
from facecore.images import decode
from facecore.provenance import write_text_whole, written_whole
from facecore.readers import open_dataset

SIZE = 112
ASKED = ".swollen"  # of what and how, written first; the folder reader ignores names that begin with a dot


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Up to 8 pixels less on every side, enlarged to the size it had."""
    left, upper, right, lower = rng.integers(2, 9, 4).tolist()
    return image.resize(image.size, Image.Resampling.BILINEAR, (left, upper, SIZE - right, SIZE - lower))


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Moved by up to 4 pixels; what comes in at the border repeats it."""
    across, down = rng.integers(-4, 5, 2).tolist()
    pixels = np.pad(np.asarray(image), ((4, 4), (4, 4), (0, 0)), mode="edge")
    return Image.fromarray(np.ascontiguousarray(pixels[4 + down :, 4 + across :][:SIZE, :SIZE]))


CHANGES = (cropped, shifted, lambda image, rng: image)  # every copy is encoded again, at a quality that is drawn


@click.command(cls=Recipe)
@click.argument("faces", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of faces with a burst.")
@click.option("--burst", type=click.IntRange(1), default=3, show_default=True, help="Near-duplicates of each.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all draws.")
def swell(faces: Path, out: Path, share: float, burst: int, seed: int) -> None:
    """Copy a data set into a folder, with bursts of near-duplicates."""
    if faces.resolve() in (out.resolve(), *out.resolve().parents):
        raise OptionError(f"{out} lies in {faces}, from which it would be made; choose another folder")
    dataset = open_dataset(faces)
    asked = f"{dataset.sha256} --share {share:g} --burst {burst} --seed {seed}\n"
    if out.exists() and any(out.iterdir()) and (not (out / ASKED).is_file() or (out / ASKED).read_text() != asked):
        raise OptionError(f"{out} holds something else, or was made from other faces or options; choose another OUT")
    write_text_whole(out / ASKED, asked)
    drawn = np.random.default_rng(seed).permutation(len(dataset)) < round(share * len(dataset))
    for row, (identity, source) in enumerate(zip(*map(dataset.faces.column, ("identity", "source")), strict=True)):
        data = dataset.read(source.as_py())
        stem = out / identity.as_py() / f"{row:07d}"
        copies = {stem.with_suffix(".jpg"): data}  # Pillow knows an image by its bytes, not by its name
        for number in range(burst if drawn[row] else 0):
            rng = np.random.default_rng([seed, row, number])
            image = CHANGES[number % len(CHANGES)](Image.fromarray(decode(data, SIZE)), rng)
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=int(rng.integers(50, 91)))
            copies[stem.with_name(f"{stem.name}_burst{number}.jpg")] = stream.getvalue()
        for path, content in copies.items():
            if not path.exists():
                with written_whole(path) as part:
                    part.write_bytes(content)
    planted = int(drawn.sum()) * burst
    click.echo(f"{out}: {len(dataset):,} faces, and {planted:,} near-duplicates of {int(drawn.sum()):,} of them")


if __name__ == "__main__":
    swell()
