"""A report in a few lines."""

from collections.abc import Mapping
from typing import Any

from facecore.errors import counted


def summary(report: Mapping[str, Any]) -> str:
    """What was trained on what, how long it took, and what it is worth where that was measured."""
    seconds = report["seconds"]
    lines = [
        f"{report['options']['arch']}, {report['parameters']:,} parameters, on "
        f"{counted(report['faces'], 'face')} of {counted(report['identities'], 'identity')}",
        f"{counted(report['steps'], 'step')} in {seconds['work'] + seconds['wait']:.0f} s, "
        f"{report['waiting_share']:.1%} of them waiting for faces; "
        f"loss {report['loss']['first']:.3f} at first, {report['loss']['last']:.3f} at last",
    ]
    if report["accuracy"]:
        for name, kept in report["accuracy"]["kept"].items():
            final = report["accuracy"]["final"][name]["accuracy"]
            lines.append(
                f"{name}: accuracy {100 * kept['accuracy']:.2f} % +- {100 * kept['standard_error']:.2f} after step "
                f"{report['kept_step']:,}, which is kept; {100 * final:.2f} % at last"
            )
    if report["rejected"]:
        lines.append(f"{counted(len(report['rejected']), 'face')} could not be read, see report.json")
    return "\n".join(lines)
