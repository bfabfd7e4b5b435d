"""Read the data sets named on standard input, each in a child of its own, and say how that ended: see `ENDS`.

For readers of libraries that end the process at some damage.
"""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

from facecore.errors import FacecoreError
from facecore.readers import open_dataset

READ, REFUSED, TRACEBACK = range(3)
ENDS = {READ: "read", REFUSED: "refused", TRACEBACK: "traceback"}
SECONDS = 120


def ends(path):
    """How reading every face of a data set ends, as an exit code."""
    try:
        dataset = open_dataset(path)
        for source in dataset.faces["source"].to_pylist():
            with contextlib.suppress(FacecoreError, OSError):
                dataset.read(source)
    except FacecoreError as error:
        return TRACEBACK if "\n" in str(error) else REFUSED
    except BaseException:
        return TRACEBACK
    return READ


if __name__ == "__main__":
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            os._exit(ends(Path(line.rstrip("\n"))))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(ENDS.get(code) or signal.Signals(-code).name, flush=True)  # noqa: T201
