"""Charts by matplotlib as SVG inside a page: text stays text, colours follow the page, and every mark has its value."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stand for the page's own, which differ between light and dark: #0101NN becomes var(--name).
_NAMES = ("ink", "soft", "line", "kept", "dropped", "accent", "s0", "s1", "s2", "s3", "s4", "s5")
COLOURS = {name: f"#0101{number:02x}" for number, name in enumerate(_NAMES, 1)}
SERIES = tuple(COLOURS[f"s{number}"] for number in range(6))
MARKERS = ("o", "s", "^", "D", "v", "P")

WIDTH, HEIGHT = 5.4, 3.2  # inches; 389 units of the SVG wide, so that its text is readable on a phone and in a column
SIDE_BY_SIDE = 7  # names of bins that fit
LOGARITHMIC = 30  # from this ratio of the largest to the smallest count on
STYLE: dict[Any, Any] = {  # matplotlib 3.11 types its keys one by one, earlier ones as str
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name from the data may hold a dollar
    "text.color": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.edgecolor": COLOURS["line"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": COLOURS["line"],
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["soft"],
    "ytick.labelcolor": COLOURS["soft"],
    "ytick.left": False,
    "legend.frameon": False,
    "font.size": 11,
}

Mark = tuple[Artist, str]  # something drawn, and its value in words

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True)
class Chart:
    """A chart to put in a page."""

    title: str
    svg: Markup
    values: list[str]  # of its marks, in order


def chart(name: str, title: str, paint: Callable[[Axes], Sequence[Mark]], *, height: float = HEIGHT) -> Chart:
    """What `paint` draws on empty axes, as SVG whose ids are its own if no other chart of the page has its name."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure((WIDTH, height), layout="constrained", facecolor="none")
        marks = paint(figure.add_subplot(facecolor="none"))
        for number, (artist, _) in enumerate(marks):
            artist.set_gid(f"mark-{number}")
        text = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    values = [value for _, value in marks]
    return Chart(title, Markup(_inline(text.getvalue(), title, values)), values)


def count_axis(axes: Axes, name: str, counts: npt.NDArray[np.int64]) -> None:
    """Count upwards: 1,000 and not 10^3, and logarithmically where one would not see the smallest otherwise."""
    axes.set_ylabel(name)
    there = counts[counts > 0]
    if len(there) and there.max() >= LOGARITHMIC * there.min():
        axes.set_yscale("symlog", linthresh=1, linscale=0.3)  # bars have a foot to stand on, which is 0
        axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def bin_axis(axes: Axes, places: Sequence[int], names: Sequence[str]) -> None:
    """Name the bins of `doubling_bins`, aslant where there are many."""
    aslant = len(names) > SIDE_BY_SIDE
    axes.set_xticks(places, names, rotation=30 if aslant else 0, ha="right" if aslant else "center")
    axes.set_xlabel("faces of an identity")


def _inline(text: str, title: str, values: Sequence[str]) -> str:
    """The SVG as an element of a page: sized by it, coloured by it, and with the value of every mark as its title."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", LINK)
    root = ElementTree.fromstring(text.encode())
    for name in ("width", "height"):
        del root.attrib[name]
    root.set("role", "img")
    root.set("aria-label", title)
    _without_frills(root)
    for group in root.iter(f"{{{SVG}}}g"):
        name = group.attrib.pop("id", "")  # matplotlib's own, the same in every chart
        if name.startswith("mark-"):
            group.set("class", "mark")
            said = ElementTree.Element(f"{{{SVG}}}title")
            said.text = values[int(name.removeprefix("mark-"))]
            group.insert(0, said)
    whole = ElementTree.tostring(root, encoding="unicode")
    whole = re.sub(r"font-family: [^;\"]*;? ?", "", whole)
    return re.sub(r"#0101([0-9a-f]{2})", lambda found: f"var(--{_NAMES[int(found[1], 16) - 1]})", whole)


def _without_frills(root: ElementTree.Element) -> None:
    """Take out the style sheet, which in a page would hold for all of it, the metadata, and white space."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
            child.tail = None
        if not parent.tag.endswith(("}text", "}tspan")):
            parent.text = None
        if "d" in parent.attrib:
            parent.set("d", " ".join(parent.attrib["d"].split()))
