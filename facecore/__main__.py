"""The facecore command, and `python -m facecore`."""

import os

from facecore.signals import end_well


def run() -> None:
    """The program."""
    end_well()  # before anything that takes a while to import
    # Before torch is imported: threads that spin while they wait make training 8 times slower on cores that are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from facecore.cli import main

    main(prog_name="facecore")


if __name__ == "__main__":
    run()
