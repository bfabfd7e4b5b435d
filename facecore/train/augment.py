"""What is done to a face before the network sees it: mirrored, and a few of what the field does besides."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from facecore.errors import OptionError
from facecore.images import Pixels

Augmentation = Callable[[Image.Image, np.random.Generator], Image.Image]


def _crop(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """A square of 80 to 100 % of the side, brought back to the full size."""
    side = draw.uniform(0.8, 1) * image.width
    left, top = draw.uniform(0, image.width - side, 2)
    return image.resize(image.size, Image.Resampling.BILINEAR, (left, top, left + side, top + side))


def _colour(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation, each times 0.5 to 1.5."""
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(draw.uniform(0.5, 1.5))
    return image


def _blur(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """A Gaussian of 0.5 to 2 pixels."""
    return image.filter(ImageFilter.GaussianBlur(draw.uniform(0.5, 2)))


def _jpeg(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """Through a JPEG of quality 20 to 80."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(draw.integers(20, 81)))
    return Image.open(stream).convert("RGB")


AUGMENTATIONS: dict[str, Augmentation] = {"crop": _crop, "colour": _colour, "blur": _blur, "jpeg": _jpeg}


def augmentations_of(names: str) -> list[Augmentation]:
    """The augmentations of names with commas between; raises OptionError for an unknown one."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in AUGMENTATIONS:
            raise OptionError(f"no augmentation {name}; there are {', '.join(AUGMENTATIONS)}")
    return [AUGMENTATIONS[name] for name in AUGMENTATIONS if name in wanted]


def augmented(
    pixels: Pixels, augmentations: Sequence[Augmentation], draw: np.random.Generator, *, share: float, flip: bool
) -> Pixels:
    """A face (size, size, 3), changed as the generator draws: every augmentation with probability `share`."""
    if flip and draw.random() < 0.5:
        pixels = pixels[:, ::-1]
    chosen = [augmentation for augmentation in augmentations if draw.random() < share]
    if not chosen:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    for augmentation in chosen:
        image = augmentation(image, draw)
    return np.asarray(image)
