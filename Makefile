# Two commands do everything on a machine with Python 3.11 and make: `make scan`, `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A range that admits a newer torch would pull the CUDA build: the pinned one goes in first.
INSTALL := $(PIP) install --quiet --constraint constraints.txt

.PHONY: scan test bench format clean

scan: $(VENV)/installed
	$(BIN)/headprobe scan $(MODEL) $(if $(PROBES),--probes $(PROBES)) $(ARGS)

# Two processes, one thread each: threads that wait for one another's cores double the time.
test: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 $(BIN)/python -m pytest --numprocesses 2 $(ARGS)

# Times against a plain forward pass: see tests/bench. Other work on the machine blurs them.
bench: $(VENV)/tested
	GOMP_SPINCOUNT=0 $(BIN)/python -m tests.bench $(ARGS)

format: $(VENV)/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml constraints.txt
	$(INSTALL) torch
	$(INSTALL) --editable .
	touch $@

$(VENV)/tested: $(VENV)/installed
	$(INSTALL) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
