"""`python -m facecore` is the facecore command."""

from facecore.cli import run

run()
