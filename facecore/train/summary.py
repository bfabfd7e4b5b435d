"""A report in a few lines."""

from collections.abc import Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> str:
    """What was trained on what, how long it took, and what it is worth where that was measured."""
    seconds = report["seconds"]
    lines = [
        f"{report['options']['arch']}, {report['parameters']:,} parameters, on {report['faces']:,} faces of "
        f"{report['identities']:,} identities",
        f"{report['steps']:,} steps in {seconds['work'] + seconds['wait']:.0f} s, "
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
        lines.append(f"{len(report['rejected']):,} faces could not be read, see report.json")
    return "\n".join(lines)
