"""Run a target under atheris: python tests/fuzz/fuzz.py recordio [CORPUS_DIR] [-max_total_time=60] ..."""

import sys

import atheris

with atheris.instrument_imports(include=["facecore.readers", "facecore.manifest", "facecore.parquet"]):
    from targets import refuses_or_reads

NAME = sys.argv.pop(1)

if __name__ == "__main__":
    atheris.Setup(sys.argv, lambda data: refuses_or_reads(NAME, data))
    atheris.Fuzz()
