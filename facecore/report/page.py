"""The page: sections in, one HTML text out that needs nothing else."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from facecore.provenance import Provenance


@dataclass(frozen=True)
class Section:
    """A part of the page about one thing that was found; `values` are what its template shows."""

    kind: str  # the template, and how the part is called
    name: str  # of the file or folder
    slug: str  # unique in the page
    figures: Sequence[tuple[str, str]]  # the few that matter: a value, and what it is
    made: Provenance | None
    values: dict[str, Any] = field(default_factory=dict)


def render(title: str, sections: Sequence[Section], left_out: Sequence[tuple[str, str]], *, faces: bool) -> str:
    """The page as HTML; every text is escaped, and no script runs but its own, not even one that got in."""
    pages = Environment(
        loader=PackageLoader("facecore.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(cosine="{:.4f}".format, count="{:,}".format, facts=_facts, breakable=_breakable)
    script = _source(pages, "page.js")
    return pages.get_template("page.html").render(
        title=title,
        sections=sections,
        left_out=left_out,
        faces=faces,
        style=_source(pages, "page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _source(pages: Environment, name: str) -> str:
    assert pages.loader is not None
    return pages.loader.get_source(pages, name)[0]


def _breakable(text: str) -> Markup:
    """A name, escaped, that may go on in the next line after a separator."""
    return Markup("<wbr>").join(re.split("(?<=[_/.-])", text))


def _facts(made: Provenance) -> list[tuple[str, str]]:
    """Provenance as rows, but for the folder of the images, which is nobody's business but its owner's."""
    rows = [("stage", made.stage)]
    rows += [(f"option {name}", str(value)) for name, value in sorted(made.options.items()) if value is not None]
    rows += [(f"sha256 of {name}", str(value)) for name, value in sorted(made.inputs.items())]
    rows += [(name, str(value)) for name, value in sorted(made.facts.items()) if name != "root"]
    return rows
