"""What the tests share: the folder of real faces, where there is one, and one thread for torch."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does, before torch is imported

import torch


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real faces and the real network; the test is skipped where it is absent."""
    path = Path(os.environ.get("FACECORE_DATA", Path(__file__).parents[2] / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"no real faces at {path}; FACECORE_DATA names their folder")
    return path


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """The networks here are tiny, and two threads that wait for each other on a busy machine are ten times slower."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _as_quiet_as_before() -> Iterator[None]:
    """A command run with -v sets the level of the logger, which belongs to the whole process."""
    logger = logging.getLogger("facecore")
    level = logger.level
    yield
    logger.setLevel(level)
