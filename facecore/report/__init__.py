"""What was made, for people to look at: one page about a folder, and one face explained."""

from facecore.report.explain import explain
from facecore.report.run import Report, ReportOptions, report

__all__ = ["Report", "ReportOptions", "explain", "report"]
