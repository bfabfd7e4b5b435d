"""Ctrl-C, and SIGTERM as a cluster sends it when the time is up: taken in the same way, from the first moment on."""

import os
import signal
from types import FrameType

INTERRUPTED = "Interrupted; nothing is half-written: run the same command again"


class Terminated(KeyboardInterrupt):
    """Somebody asked this process to end: taken like Ctrl-C."""


def end_well() -> None:
    """From now on take both signals, unless they are to be ignored, as nohup and a script's `&` have it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """As a shell tells of a process that a signal ended: 130, or 143."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or Terminated; in the midst of an import say so and leave at once.

    There an exception may be swallowed, and Python's lock on imports never be released, for which threads then wait
    for ever. What is being imported is not at work yet.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{INTERRUPTED}\n".encode())
            os._exit(128 + number)
        frame = frame.f_back
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
