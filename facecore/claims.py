"""Outputs that one run at a time may write: a claim lasts as long as its process, however that ends."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from facecore.errors import DataError

TRIES = 100  # to get a lock where other runs end and begin

log = logging.getLogger(__name__)


@contextmanager
def claimed(*outputs: Path) -> Iterator[None]:
    """Hold these files and folders, there or to be made, for as long as the block lasts.

    The claim is a lock on the file NAME.lock beside the output, removed in the end. What a killed run leaves of it is
    an empty file that claims nothing, and is gone with the next run. Where files cannot be locked (some network file
    systems, Windows) or made, the block runs all the same. Raises DataError if another process holds one of them.
    """
    with ExitStack() as held:
        # by their real names, each once, and in one order: two runs never wait for, or shut out, each other in a circle
        for path, given in sorted({os.path.realpath(output): output for output in outputs}.items()):
            held.enter_context(_claim(Path(f"{path}.lock"), given))
        yield


@contextmanager
def _claim(lock: Path, given: Path) -> Iterator[None]:
    made = _missing(lock.parent)
    try:
        descriptor = _locked(lock)
    except BlockingIOError:
        raise DataError(
            f"{given} is being written by another run; wait until that is done, or choose another --out"
        ) from None
    except (OSError, ImportError) as error:  # of a folder that cannot be written, the command itself will tell
        log.info("%s goes without a lock against a second run: %s", given, error)
        yield
        return
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # before the lock is let go, so that nobody gets one on a file without a name
        os.close(descriptor)
        _remove_empty(made)


def _locked(lock: Path) -> int:
    """A descriptor of the lock, held; raises BlockingIOError if another process has it, OSError if none can be had."""
    fcntl = importlib.import_module("fcntl")  # not on Windows
    for left in reversed(range(TRIES)):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            if left:
                continue  # a run that ended has just removed the folder, which it had made
            raise  # no: nothing can be made here, as in /proc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, lock):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a run that has just ended, and taken the name away
    raise BlockingIOError(f"{lock} changes hands too often")


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _missing(folder: Path) -> list[Path]:
    """The folders to be made for this one, itself first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Remove those that nothing was put in."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
