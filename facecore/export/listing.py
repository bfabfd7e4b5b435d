"""A text list of images that lie in a folder: `path label` a line."""

from collections.abc import Sequence

import pyarrow as pa

from facecore.errors import OptionError
from facecore.export.plan import Face, Form, Plan
from facecore.provenance import filling

LIST = "list.txt"


class ListWriter:
    """Appends lines to list.txt; the images stay where they are.

    Raises OptionError if they are not files in a folder, which is what the paths are relative to.
    """

    form = Form("folder", named="label", path=LIST, grows=(LIST,))

    def __init__(self, plan: Plan) -> None:
        self._part = plan.part
        if plan.dataset.format != "folder":
            raise OptionError(
                f"a list names images in a folder, and these are in {plan.dataset.format}; export --to folder first"
            )

    def refuses(self, face: Face) -> str | None:
        """A path that a line cannot hold."""
        path = face.source
        return (
            "its path has a line break, or begins or ends with a space"
            if path != path.strip() or "\n" in path
            else None
        )

    def write(self, number: int, written: int, faces: Sequence[Face]) -> list[str]:
        """Append the lines of a batch."""
        path = self._part / LIST
        with filling(path), path.open("a", encoding="utf-8", newline="") as stream:
            stream.writelines(f"{face.source} {face.label}\n" for face in faces)
        return [face.source for face in faces]

    def finish(self, written: pa.Table) -> None:
        """Nothing is left to do."""
