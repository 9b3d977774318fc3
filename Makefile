# Two commands do everything, from a fresh clone on: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
CEILING := $(VENV)/bin/ceiling
CPU := $(if $(shell command -v nvidia-smi 2>/dev/null),,--cpu)

.PHONY: help demo test setup engines tools check clean
.NOTPARALLEL:
help:
	@echo "make demo   set everything up, then search a real LLM server on this machine"
	@echo "make test   set everything up, then ruff, mypy and all tests but slow ones"
	@echo "make check  ruff and mypy only"
	@echo "make clean  remove the environment (runs/ and installed engines stay)"

PYTEST := $(VENV)/bin/pytest --dist loadfile --no-loadscope-reorder

PYTHON_HERE := $(VENV)/bin/python
PIP := $(PYTHON_HERE) -m pip install -qq --disable-pip-version-check --no-compile -c .ci/constraints.txt
# Some packages carry files for other Pythons, which do not compile.
COMPILE := $(PYTHON_HERE) -m compileall -qq -j 0 $(VENV)/lib

setup: $(VENV)/ready

$(PYTHON_HERE):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "error: Python 3.11 or later is needed; name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: pyproject.toml .ci/constraints.txt | $(PYTHON_HERE)
	@echo "== Setting up the harness in $(VENV) (a minute, once)"
	$(PIP) -e .
	@$(COMPILE) || true
	@touch $@

$(VENV)/ready-to-test: pyproject.toml .ci/constraints.txt | $(PYTHON_HERE)
	@echo "== Setting up the harness and its test tools in $(VENV) (a minute, once)"
	$(PIP) -e '.[test]'
	@$(COMPILE) || true
	@touch $@ $(VENV)/ready

demo: setup
	@echo "== The main job on this machine"
	$(CEILING) demo

engines: setup
	@echo "== Engines and model for the tests (several minutes the first time, seconds afterwards)"
	$(CEILING) engines install torch $(CPU)
	$(CEILING) engines install vllm $(CPU)
	$(CEILING) models fetch smollm2-135m

tools:
	@sh .ci/tools

check: $(VENV)/ready-to-test
	@echo "== ruff and mypy"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: $(VENV)/ready-to-test tools engines
	@echo "== ruff"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	@echo "== pytest on four workers (they mostly wait)"
	$(PYTEST) -n 4 --deselect tests/real
	@echo "== pytest with real engines, which take every core, and mypy beside them"
	@$(VENV)/bin/mypy > $(VENV)/mypy.log 2>&1 & types=$$!; \
	$(PYTEST) -n 2 tests/real; tests=$$?; \
	wait $$types; types=$$?; echo "== mypy"; cat $(VENV)/mypy.log; [ $$tests = 0 ] && [ $$types = 0 ]

clean:
	rm -rf $(VENV)
