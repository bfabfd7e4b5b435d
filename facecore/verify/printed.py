"""The figures of a suite as the table that papers print, for a terminal, Markdown or LaTeX."""

from collections.abc import Callable, Sequence

from facecore.verify.identification import FPIRS, RANKS
from facecore.verify.run import TEMPLATE_FARS, TemplateVerification, Verification
from facecore.verify.suite import Suite

HEADLINE = "1e-4"  # the FAR at which papers compare
ABSENT = "-"
NOTE = f"accuracy in %; of templates: TAR in % at FAR {HEADLINE}"
TEMPLATE_NOTE = "TAR in % by FAR; identification in %, TPIR by FPIR, the mean over the galleries"
LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}

Row = Sequence[str]


def suite_table(suite: Suite, model: str, form: str) -> str:
    """A row for the network and a column a protocol; if there are protocols of templates, a second table of theirs.

    `form` is one of FORMS.
    """
    headline = [_headline(suite.figures.get(name)) for name in suite.protocols]
    made = FORMS[form](["model", *suite.protocols], [[model, *headline]], NOTE)
    of_templates = [
        [name, *_details(found)] for name, found in suite.figures.items() if isinstance(found, TemplateVerification)
    ]
    if not of_templates:
        return made
    fars = list(reversed(TEMPLATE_FARS))
    header = ["protocol", *fars, *(f"rank-{k}" for k in RANKS), *(f"TPIR {fpir}" for fpir in FPIRS)]
    return f"{made}\n\n{FORMS[form](header, of_templates, TEMPLATE_NOTE)}"


def _headline(found: Verification | TemplateVerification | None) -> str:
    if found is None:
        return ABSENT
    return _percent(found.accuracy if isinstance(found, Verification) else found.tar.get(HEADLINE))


def _details(found: TemplateVerification) -> list[str]:
    of = found.identification
    return [
        *(_percent(found.tar.get(far)) for far in reversed(TEMPLATE_FARS)),
        *(_percent(of.rank.get(k) if of else None) for k in RANKS),
        *(_percent(of.tpir.get(fpir) if of else None) for fpir in FPIRS),
    ]


def _percent(rate: float | None) -> str:
    return ABSENT if rate is None else f"{100 * rate:.2f}"


def _text(header: Row, rows: Sequence[Row], note: str) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in (header, *rows))
    ]
    return "\n".join([*lines, note])


def _markdown(header: Row, rows: Sequence[Row], note: str) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *rows)]
    return "\n".join([*lines, "", note])


def _latex(header: Row, rows: Sequence[Row], note: str) -> str:
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
    begin = [f"% {note}", rf"\begin{{tabular}}{{{columns}}}", r"\hline"]
    return "\n".join([*begin, lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}"])


def _escaped(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in cell)


FORMS: dict[str, Callable[[Row, Sequence[Row], str], str]] = {"text": _text, "markdown": _markdown, "latex": _latex}
