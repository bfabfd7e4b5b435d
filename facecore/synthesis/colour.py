"""Colours, and what is made of one or two of them."""

import colorsys

Colour = tuple[float, float, float]  # RGB, 0 to 255; may leave the range until `rgb` rounds it


def dark(colour: Colour, factor: float) -> Colour:
    """The colour with every channel times `factor`: darker below 1, lighter above."""
    red, green, blue = colour
    return red * factor, green * factor, blue * factor


def blend(first: Colour, second: Colour, part: float) -> Colour:
    """`part` of the second colour over the first."""
    red, green, blue = ((1 - part) * a + part * b for a, b in zip(first, second, strict=True))
    return red, green, blue


def of_hue(hue: float, saturation: float, value: float) -> Colour:
    """The colour of a hue, a saturation and a value, each from 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return red * 255, green * 255, blue * 255


def rgb(colour: Colour) -> tuple[int, int, int]:
    """The nearest colour that a picture can hold."""
    red, green, blue = (min(255, max(0, round(channel))) for channel in colour)
    return red, green, blue
