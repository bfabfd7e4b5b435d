"""One drawn face: who it is, how it was taken, and the pixels that follow from the two.

Lengths are pixels of the 112 x 112 crop, measured from the middle of the head: x to the right, y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from facecore.synthesis.colour import Colour

_SKINS = ((255, 224, 196), (241, 194, 155), (224, 172, 125), (198, 134, 84), (141, 85, 48), (92, 56, 38))
_HAIRS = ((24, 20, 20), (62, 40, 28), (110, 70, 40), (168, 116, 60), (222, 184, 110), (158, 66, 32), (172, 170, 168))
_IRISES = ((70, 44, 26), (110, 76, 36), (92, 116, 66), (66, 112, 160), (110, 136, 150))
_FRAMES = ((24, 24, 28), (120, 60, 30), (150, 30, 44), (40, 60, 120), (196, 166, 90))


@dataclass(frozen=True)
class Person:
    """What stays the same from one picture of somebody to the next."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    frame: Colour  # of the glasses
    half_width: float  # of the head
    forehead: float  # from the middle up to the top of the skull
    chin: float  # from the middle down to the chin
    jaw: float  # 0 pointed, 1 square
    ear: float  # its height
    ear_out: float  # how far it stands out
    eye_apart: float  # from the middle line to the pupil
    eye_y: float
    eye_width: float  # half
    eye_height: float  # half
    eye_tilt: float  # radians, above 0: outer corner higher
    brow_lift: float  # above the eye
    brow_width: float  # half
    brow_thick: float
    brow_tilt: float
    brow_bend: float
    nose_length: float
    nose_width: float  # half
    mouth_y: float
    mouth_width: float  # half
    upper_lip: float
    lower_lip: float
    hairline: tuple[float, float, float, float, float]  # depth below the top of the skull, from left to right
    hair_volume: float  # beyond the skull; below 1: bald
    hair_length: float  # how far down the sides it reaches; past the chin it hangs behind the neck
    hair_curl: float  # height of the waves in its outline
    glasses: float  # 0 none, else half the height of a lens
    glasses_round: float  # 1 round, towards 4 square
    beard: float  # 0 none, 1 full colour
    moustache: float  # its thickness, 0 none
    mole: tuple[float, float]  # where, as parts of the half width and the chin
    mole_size: float  # 0 none
    freckles: float  # 0 to 1


@dataclass(frozen=True)
class Shot:
    """What changes from one picture of somebody to the next."""

    yaw: float  # radians, above 0: turned to the right of the picture
    pitch: float
    roll: float
    scale: float
    shift_x: float
    shift_y: float
    smile: float  # -1 to 1
    mouth_open: float  # 0 to 1
    eye_open: float  # 0 to 1
    brow_raise: float
    gaze: float  # -1 to 1
    brightness: float
    contrast: float
    light_angle: float
    light_strength: float
    cast_red: float  # factors, about 1
    cast_blue: float
    wall_hue: float  # 0 to 1
    wall_light: float  # 0 to 1
    shirt_hue: float
    blur: float  # standard deviation in pixels
    noise: float  # standard deviation in grey levels
    noise_seed: int

    def jittered(self, random: np.random.Generator, amount: float) -> "Shot":
        """The next frame of a burst: every number moved by about `amount` of its spread, and new noise."""
        moves = {name: getattr(self, name) + amount * spread * random.normal() for name, spread in _SPREADS.items()}
        return replace(self, **moves, noise_seed=int(random.integers(2**31)))


# how much each quantity of a shot varies; the background, blur and noise level do not change within a burst
_SPREADS = {
    "yaw": 0.3,
    "pitch": 0.13,
    "roll": 0.11,
    "scale": 0.07,
    "shift_x": 3.0,
    "shift_y": 3.0,
    "smile": 0.5,
    "brow_raise": 1.2,
    "gaze": 0.4,
    "brightness": 0.17,
    "light_strength": 0.2,
}


def a_person(random: np.random.Generator) -> Person:
    """Somebody drawn at random: proportions, colours and a few marks, independent of one another."""
    r = random
    bald = r.random() < 0.1
    tone, shade = r.random(), r.random()
    return Person(
        skin=_mixed(r, _SKINS, tone, 6),
        hair=_mixed(r, _HAIRS, shade * min(1.0, 1.5 - 1.3 * tone), 8),  # fair hair is rare on dark skin
        iris=_mixed(r, _IRISES, r.random(), 12),
        lips=(float(r.uniform(150, 215)), float(r.uniform(70, 125)), float(r.uniform(75, 125))),
        frame=_mixed(r, _FRAMES, r.random(), 8),
        half_width=r.uniform(29.0, 38.0),
        forehead=r.uniform(39.0, 47.0),
        chin=r.uniform(40.0, 51.0),
        jaw=r.uniform(0.0, 1.0),
        ear=r.uniform(8.0, 15.0),
        ear_out=r.uniform(2.0, 8.0),
        eye_apart=r.uniform(13.0, 18.5),
        eye_y=r.uniform(-6.0, 1.0),
        eye_width=r.uniform(5.2, 8.6),
        eye_height=r.uniform(2.6, 5.6),
        eye_tilt=r.uniform(-0.16, 0.28),
        brow_lift=r.uniform(7.0, 12.0),
        brow_width=r.uniform(6.5, 10.5),
        brow_thick=r.uniform(1.0, 4.2),
        brow_tilt=r.uniform(-0.25, 0.3),
        brow_bend=r.uniform(0.0, 3.0),
        nose_length=r.uniform(13.0, 21.0),
        nose_width=r.uniform(3.6, 8.2),
        mouth_y=r.uniform(24.0, 30.0),
        mouth_width=r.uniform(9.0, 16.5),
        upper_lip=r.uniform(1.2, 4.2),
        lower_lip=r.uniform(1.8, 5.4),
        hairline=_hairline(r),
        hair_volume=0.0 if bald else r.uniform(2.5, 11.0),
        hair_length=r.uniform(60.0, 75.0) if r.random() < 0.4 else r.uniform(-14.0, 14.0),
        hair_curl=r.uniform(0.0, 3.2) if r.random() < 0.5 else 0.0,
        glasses=r.uniform(7.0, 10.5) if r.random() < 0.25 else 0.0,
        glasses_round=r.uniform(1.0, 3.5),
        beard=r.uniform(0.25, 0.9) if r.random() < 0.22 else 0.0,
        moustache=r.uniform(1.5, 4.0) if r.random() < 0.2 else 0.0,
        mole=(r.uniform(-0.7, 0.7), r.uniform(0.1, 0.7)),
        mole_size=r.uniform(0.8, 1.6) if r.random() < 0.3 else 0.0,
        freckles=r.uniform(0.4, 1.0) if r.random() < 0.15 else 0.0,
    )


def a_shot(random: np.random.Generator) -> Shot:
    """A picture taken at random: pose, expression, light, background, blur and noise."""
    r = random
    spread = {name: float(np.clip(r.normal(), -2.2, 2.2)) * size for name, size in _SPREADS.items()}
    return Shot(
        yaw=spread["yaw"],
        pitch=spread["pitch"],
        roll=spread["roll"],
        scale=1.0 + spread["scale"],
        shift_x=spread["shift_x"],
        shift_y=spread["shift_y"],
        smile=float(np.clip(0.3 + spread["smile"], -0.8, 1.0)),
        mouth_open=max(0.0, r.normal(0.0, 0.5)) if r.random() < 0.6 else 0.0,
        eye_open=float(r.uniform(0.55, 1.1)) if r.random() < 0.93 else 0.12,
        brow_raise=spread["brow_raise"],
        gaze=spread["gaze"],
        brightness=1.0 + spread["brightness"],
        contrast=r.uniform(0.7, 1.15),
        light_angle=r.uniform(0.0, 2 * np.pi),
        light_strength=0.25 + spread["light_strength"],
        cast_red=r.uniform(0.87, 1.13),
        cast_blue=r.uniform(0.85, 1.15),
        wall_hue=r.random(),
        wall_light=r.random(),
        shirt_hue=r.random(),
        blur=r.uniform(0.0, 1.3),
        noise=r.uniform(1.0, 8.0),
        noise_seed=int(r.integers(2**31)),
    )


def _mixed(random: np.random.Generator, palette: Sequence[Colour], where: float, spread: float) -> Colour:
    """The colour at `where`, 0 to 1 along the palette, moved a little."""
    at = where * (len(palette) - 1)
    low = int(at)
    mixed = (1 - (at - low)) * np.array(palette[low]) + (at - low) * np.array(palette[min(low + 1, len(palette) - 1)])
    red, green, blue = np.clip(mixed + random.normal(0, spread, 3), 0, 255).tolist()
    return red, green, blue


def _hairline(random: np.random.Generator) -> tuple[float, float, float, float, float]:
    """Temples, the sides of the forehead, its middle: an even line, parted on one side, or a widow's peak."""
    base, slope, peak = random.uniform(9, 22), random.uniform(-6, 6), random.uniform(-6, 5)
    left, middle_left, middle, middle_right, right = (
        max(5.0, base + slope * x + peak * bump + random.normal(0, 1.0))
        for x, bump in ((-1, 0), (-0.5, -0.4), (0, 1), (0.5, -0.4), (1, 0))
    )
    return left, middle_left, middle, middle_right, right
