"""A person and a shot to pixels: polygons at three times the size, reduced, then light, blur and noise."""

from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from facecore.images import Floats, Pixels
from facecore.synthesis.colour import Colour, blend, dark, of_hue, rgb
from facecore.synthesis.face import Person, Shot

SIZE = 112
_FINER = 3  # drawn this many times larger, then reduced: smooth edges without a vector library

Points = npt.NDArray[np.float64]  # (n, 2), x and y, pixels of the crop from the middle of the head

_TURN = np.linspace(0, 2 * np.pi, 41)[:-1]
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)  # (40, 2)
_ACROSS = np.linspace(-1, 1, 15)  # along an eye or a mouth, from left to right
_GRID = np.linspace(-1, 1, SIZE, dtype=np.float32)


def draw_face(person: Person, shot: Shot) -> Pixels:
    """The picture (112, 112, 3): a function of its arguments alone."""
    pen = _Pen(person, shot)
    _back_hair(pen)
    _neck_and_shirt(pen)
    _ears(pen)
    _skin(pen)
    _beard(pen)
    _marks(pen)
    for side in (-1, 1):
        _eye(pen, side)
        _brow(pen, side)
    _mouth(pen)
    _nose(pen)
    _front_hair(pen)
    _glasses(pen)
    return _photographed(pen.image.reduce(_FINER), shot)


class _Pen:
    """A canvas, and where the points of the head fall on it."""

    def __init__(self, person: Person, shot: Shot) -> None:
        self.person, self.shot = person, shot
        wall = of_hue(shot.wall_hue, 0.3, 0.35 + 0.6 * shot.wall_light)
        self.image = Image.new("RGB", (SIZE * _FINER, SIZE * _FINER), rgb(wall))
        self._draw = ImageDraw.Draw(self.image)
        turn = np.array([[np.cos(shot.roll), np.sin(shot.roll)], [-np.sin(shot.roll), np.cos(shot.roll)]])
        self._affine = turn * shot.scale * _FINER
        self._origin = np.array([SIZE / 2 + shot.shift_x, SIZE * 0.52 + shot.shift_y]) * _FINER

    def place(self, points: Points, depth: float = 1.0) -> list[tuple[float, float]]:
        """Canvas positions; `depth` is 1 on the face, 0 on its outline, more for what stands out, as the nose does."""
        person, shot = self.person, self.shot
        x, y = points[:, 0], points[:, 1]
        # the head is an ellipsoid, nearly as deep as wide
        inside = 1 - np.minimum(1, (x / (person.half_width * 1.12)) ** 2 + (y / (person.chin * 1.25)) ** 2)
        z = depth * person.half_width * 0.85 * np.sqrt(inside)
        flat = min(depth, 1.0)
        x_turned = x * (1 - flat * (1 - np.cos(shot.yaw))) + z * np.sin(shot.yaw)
        y_turned = y * (1 - flat * (1 - np.cos(shot.pitch))) + z * np.sin(shot.pitch)
        placed = np.stack([x_turned, y_turned], axis=1) @ self._affine + self._origin
        return cast("list[tuple[float, float]]", list(map(tuple, placed.tolist())))

    def fill(self, points: Points, colour: Colour, depth: float = 1.0) -> None:
        self._draw.polygon(self.place(points, depth), fill=rgb(colour))

    def stroke(self, points: Points, colour: Colour, width: float, depth: float = 1.0) -> None:
        pixels = max(1, round(width * _FINER * self.shot.scale))
        self._draw.line(self.place(points, depth), fill=rgb(colour), width=pixels, joint="curve")


def _outline(person: Person, grow: float = 0.0) -> Points:
    """The head from the front, `grow` pixels beyond the skin: an ellipse above, a jaw below."""
    cosine, sine = _CIRCLE[:, 0], _CIRCLE[:, 1]
    down = np.maximum(sine, 0)
    # a square jaw keeps its width on the way down, a pointed one loses it
    width = person.half_width * (1 - (0.24 - 0.22 * person.jaw) * down**1.5)
    bulge = np.sign(cosine) * np.abs(cosine) ** (0.95 - 0.25 * person.jaw * down)
    height = np.where(sine > 0, person.chin, person.forehead)
    return np.stack([(width + grow) * bulge, (height + grow) * sine], axis=1)


def _back_hair(pen: _Pen) -> None:
    person = pen.person
    if person.hair_volume == 0 or person.hair_length <= person.chin:
        return
    top = _hair_outline(person)
    side = person.half_width + person.hair_volume
    fall = np.array([[side * 1.05, person.hair_length], [-side * 1.05, person.hair_length]])
    pen.fill(np.concatenate([top, fall]), dark(person.hair, 0.75), depth=0.0)


def _neck_and_shirt(pen: _Pen) -> None:
    person = pen.person
    neck = person.half_width * (0.52 + 0.16 * person.jaw)
    chin = person.chin
    throat = np.array([[-neck, chin * 0.5], [neck, chin * 0.5], [neck, chin + 30], [-neck, chin + 30]])
    pen.fill(throat, dark(person.skin, 0.78), depth=0.0)
    shirt = of_hue(pen.shot.shirt_hue, 0.5, 0.65)
    shoulders = np.array(
        [
            [-neck - 3, chin + 9],
            [0, chin + 17],
            [neck + 3, chin + 9],
            [75, chin + 18],
            [75, 110],
            [-75, 110],
            [-75, chin + 18],
        ]
    )
    pen.fill(shoulders, shirt, depth=0.0)


def _ears(pen: _Pen) -> None:
    person = pen.person
    for side in (-1, 1):
        centre = np.array([side * (person.half_width + person.ear_out * 0.4), person.eye_y + 7])
        ear = _CIRCLE * [person.ear_out, person.ear]
        pen.fill(centre + ear, dark(person.skin, 0.86), depth=0.0)
        pen.fill(centre + ear * 0.55, dark(person.skin, 0.7), depth=0.0)


def _skin(pen: _Pen) -> None:
    """Bands that lighten towards the light make the head round."""
    person, shot = pen.person, pen.shot
    outline = _outline(person)
    towards = 5.0 * np.array([np.cos(shot.light_angle), np.sin(shot.light_angle)])
    for step in np.linspace(0, 1, 6):
        colour = dark(person.skin, 0.8 + 0.26 * step)
        pen.fill(outline * (1 - 0.5 * step) + towards * step, colour, depth=float(0.25 * step))


def _beard(pen: _Pen) -> None:
    person = pen.person
    if person.beard:
        outline = _outline(person)
        lower = outline[outline[:, 1] > 8]
        lower = lower[np.argsort(-lower[:, 0])]
        x = lower[::-1, 0] * 0.9
        upper = np.stack([x, person.mouth_y - 6.0 - 14.0 * (x / person.half_width) ** 4], axis=1)
        pen.fill(np.concatenate([lower, upper]), blend(person.skin, person.hair, person.beard), depth=0.35)
    if person.moustache:
        y = person.mouth_y - person.upper_lip - person.moustache * 0.7
        arc = np.stack([_ACROSS * person.mouth_width * 0.9, y + 3 * _ACROSS**2], axis=1)
        pen.stroke(arc, blend(person.skin, person.hair, 0.9), person.moustache, depth=1.1)


def _marks(pen: _Pen) -> None:
    person = pen.person
    blush = blend(person.skin, (220, 90, 80), 0.12)
    for side in (-1, 1):
        cheek = np.array([side * person.half_width * 0.56, person.eye_y + 17])
        pen.fill(cheek + _CIRCLE * [6, 4.5], blush)
        if person.freckles:
            for x, y in ((-4, 0), (0, -2), (3, 1), (-1, 3), (5, -2), (2, 4)):
                dot = cheek + [x, y] + _CIRCLE * 0.9
                pen.fill(dot, blend(person.skin, (120, 60, 30), 0.6 * person.freckles))
    if person.mole_size:
        where = np.array([person.mole[0] * person.half_width, person.mole[1] * person.chin])
        pen.fill(where + _CIRCLE * person.mole_size, dark(person.skin, 0.35))


def _eye(pen: _Pen, side: int) -> None:
    """White, iris and pupil cut off by the lids, a lash line above."""
    person, shot = pen.person, pen.shot
    width, height = person.eye_width, person.eye_height * shot.eye_open
    centre = np.array([side * person.eye_apart, person.eye_y])
    lift = -np.sin(person.eye_tilt) * side  # y for each x: outer corner higher

    def lids(x: Points) -> tuple[Points, Points]:
        arc = np.sqrt(np.maximum(0, 1 - (x / width) ** 2))
        return -height * arc + lift * x, 0.75 * height * arc + lift * x

    across = _ACROSS * width
    upper, lower = lids(across)
    pen.fill(
        centre + np.concatenate([np.stack([across, upper], 1), np.stack([across, lower], 1)[::-1]]), (244, 242, 238)
    )
    iris = min(person.eye_width * 0.56, 4.2)
    for radius, colour in ((iris, person.iris), (iris * 0.5, (12, 10, 10))):
        disc = _CIRCLE * radius + [np.clip(shot.gaze, -1, 1) * width * 0.3, -0.3]
        x = np.clip(disc[:, 0], -width, width)
        pen.fill(centre + np.stack([x, np.clip(disc[:, 1], *lids(x))], 1), colour)
    if shot.eye_open > 0.4:
        pen.fill(centre + _CIRCLE * 0.9 + [shot.gaze * width * 0.3 + 1.2, -1.4], (250, 250, 250))
    pen.stroke(centre + np.stack([across, upper - 0.4], 1), dark(person.skin, 0.28), 1.2)
    crease = np.stack([across * 0.9, upper - 2.4], 1)
    pen.stroke(centre + crease, dark(person.skin, 0.7), 0.7)


def _brow(pen: _Pen, side: int) -> None:
    person, shot = pen.person, pen.shot
    x = _ACROSS * person.brow_width
    y = -person.brow_lift - shot.brow_raise - person.brow_bend * (1 - _ACROSS**2)
    y = y - side * x * np.sin(person.brow_tilt)
    centre = np.array([side * person.eye_apart, person.eye_y])
    colour = blend(dark(person.skin, 0.6), dark(person.hair, 0.8), 0.85)
    pen.stroke(centre + np.stack([x, y], 1), colour, person.brow_thick)


def _mouth(pen: _Pen) -> None:
    person, shot = pen.person, pen.shot
    width = person.mouth_width * (1 + 0.14 * shot.smile)
    x = _ACROSS * width
    bow = 1 - _ACROSS**2
    corner = -4.0 * shot.smile * _ACROSS**2  # a smile lifts the corners
    gap = 5.0 * min(shot.mouth_open, 1.3) * bow
    cupid = 0.8 + 0.2 * np.cos(2 * np.pi * np.abs(_ACROSS) - np.pi)  # the dip in the middle of the upper lip
    middle = np.stack([x, corner], 1)
    below = np.stack([x, corner + gap], 1)
    top = np.stack([x, corner - person.upper_lip * np.sqrt(bow) * cupid], 1)
    bottom = np.stack([x, corner + gap + person.lower_lip * np.sqrt(bow)], 1)
    centre = np.array([0.0, person.mouth_y])
    lips = blend(person.skin, person.lips, 0.6)
    if shot.mouth_open > 0.05:
        pen.fill(centre + np.concatenate([middle, below[::-1]]), (70, 24, 28), depth=1.05)
        teeth = np.stack([x * 0.9, corner + gap * 0.45], 1)
        pen.fill(centre + np.concatenate([middle * [0.9, 1], teeth[::-1]]), (240, 236, 228), depth=1.05)
    pen.fill(centre + np.concatenate([top, middle[::-1]]), dark(lips, 0.9), depth=1.05)
    pen.fill(centre + np.concatenate([below, bottom[::-1]]), lips, depth=1.05)
    pen.stroke(centre + middle, dark(lips, 0.5), 0.8, depth=1.05)


def _nose(pen: _Pen) -> None:
    person = pen.person
    base, width = person.eye_y + 3 + person.nose_length, person.nose_width
    shadow = dark(person.skin, 0.72)
    away = -1.0 if np.cos(pen.shot.light_angle) > 0 else 1.0
    bridge = np.array([[away * 2.0, person.eye_y + 1], [away * width * 0.55, base - 5], [away * width, base - 1.5]])
    pen.stroke(bridge, dark(person.skin, 0.8), 1.3, depth=1.2)
    pen.fill(np.array([0.0, base - 3]) + _CIRCLE * [width * 0.55, 3.2], dark(person.skin, 1.1), depth=1.35)
    under = np.stack([_ACROSS * width, base - 1.8 * np.abs(_ACROSS) ** 2.5 + 0.6 * (1 - _ACROSS**2)], 1)
    pen.stroke(under, shadow, 1.2, depth=1.3)
    for side in (-1, 1):
        pen.fill(np.array([side * width * 0.5, base]) + _CIRCLE * [width * 0.24, 1.0], dark(shadow, 0.6), depth=1.3)


def _hair_outline(person: Person) -> Points:
    """The outer edge of the hair, from the left side over the top to the right, waved if it is curly."""
    turn = np.linspace(np.pi * 0.98, np.pi * 2.02, 61)
    wave = person.hair_curl * np.abs(np.sin(turn * 9))
    width = person.half_width + person.hair_volume * 0.75 + wave
    height = person.forehead + person.hair_volume + wave
    return np.stack([width * np.cos(turn), height * np.sin(turn)], axis=1)


def _front_hair(pen: _Pen) -> None:
    """From the outer edge back along the hairline, with a lock down each side."""
    person = pen.person
    if person.hair_volume == 0:
        return
    outer = _hair_outline(person)
    x = np.linspace(0.9, -0.9, 19)
    depth = np.interp(x, np.linspace(-0.9, 0.9, 5), person.hairline)
    skull = -person.forehead * np.sqrt(1 - x**2)
    line = np.stack([x * person.half_width, np.minimum(skull + depth, person.eye_y - 6)], 1)
    lock = min(person.hair_length, person.chin - 6)
    side, inner = person.half_width + person.hair_volume * 0.75, person.half_width * 0.9
    right = np.array([[side, lock], [inner, lock]])
    shape = np.concatenate([outer, right, line, right[::-1] * [-1, 1]])
    pen.fill(shape, person.hair, depth=0.4)
    for part in (0.62, 0.82):  # strands
        strand = outer[8:-8] * part + [0, -person.forehead * (1 - part) * 0.55]
        shine = strand[strand[:, 1] < np.interp(strand[:, 0], line[::-1, 0], line[::-1, 1]) - 1.5]
        if len(shine) > 2:
            pen.stroke(shine, dark(person.hair, 1.25), 0.9, depth=0.4)


def _glasses(pen: _Pen) -> None:
    person = pen.person
    if person.glasses == 0:
        return
    power = 1 / person.glasses_round  # an exponent below 1 makes an ellipse squarer
    lens = np.sign(_CIRCLE) * np.abs(_CIRCLE) ** power * [min(person.eye_apart - 2, 12.5), person.glasses]
    lens = np.concatenate([lens, lens[:2]])
    y = person.eye_y + 1.5
    for side in (-1, 1):
        pen.stroke(np.array([side * person.eye_apart, y]) + lens, person.frame, 1.5, depth=1.15)
        temple = np.array([[side * (person.eye_apart + 11), y - 3], [side * person.half_width, y - 3]])
        pen.stroke(temple, person.frame, 1.5)
    pen.stroke(np.array([[-3.0, y - 2], [3.0, y - 2]]), person.frame, 1.5, depth=1.2)


def _photographed(image: Image.Image, shot: Shot) -> Pixels:
    """Blur, light from one side, a colour cast, contrast and noise."""
    if shot.blur > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(shot.blur))
    picture: Floats = np.asarray(image, np.float32)
    slope = np.cos(shot.light_angle) * _GRID[None, :] + np.sin(shot.light_angle) * _GRID[:, None]
    light = np.float32(shot.brightness) * (1 + np.float32(shot.light_strength) * slope.astype(np.float32))
    picture = picture * light[..., None] * np.array([shot.cast_red, 1, shot.cast_blue], np.float32)
    picture = (picture - 110) * np.float32(shot.contrast) + 110
    noise = np.random.default_rng(shot.noise_seed).standard_normal(picture.shape, np.float32)
    return np.clip(np.rint(picture + np.float32(shot.noise) * noise), 0, 255).astype(np.uint8)
