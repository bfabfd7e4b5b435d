# make demo | test | check: each sets itself up, on a fresh machine, from nothing but Python 3.10+ and the package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo venv test check wheel-check clean

demo: venv
	$(BIN)/facecore demo --out demo --overwrite

venv: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: venv
	$(BIN)/python -m pytest

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test
	$(MAKE) wheel-check

# The wheel must stand on its own: built, installed without the development extras into a new environment, and run.
wheel-check: venv
	rm -rf build dist $(VENV)-wheel
	$(BIN)/python -m build --quiet --wheel --outdir dist .
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/facecore-*.whl
	cd / && $(CURDIR)/$(VENV)-wheel/bin/facecore --help
	rm -rf build dist $(VENV)-wheel

clean:
	rm -rf $(VENV) $(VENV)-wheel build dist demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
