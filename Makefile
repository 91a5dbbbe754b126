# Each target makes its own virtual environment from the tested versions in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

.PHONY: demo test stacks bench docs docs-versions lint compile soak clean

demo: $(READY)  ## Train a net on MNIST addition, 4 digits (scikit-learn's digits where MNIST is not at hand).
	$(BIN)/python -m emnesy_gpu train addition --digits 4 --out runs/demo

test: $(READY)  ## Run the tests, on up to four cores.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

stacks: $(READY)  ## Run what needs Lightning, transformers, Accelerate and TensorBoard, and tests of several processes.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[stacks]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --slow tests/test_examples.py tests/test_distributed.py tests/test_event_files.py

bench: $(READY)  ## Run the benchmarks.
	$(BIN)/python -m pytest --benchmark-only

docs: $(READY)  ## Build the site in build/docs; a broken link or a wrong docstring is an error.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs . build/docs
	@echo "open build/docs/docs/index.html"

docs-versions: $(READY)  ## Build the site of older versions beside this one: make docs-versions TAGS="v0.1.0 v0.2.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python docs/versions.py $(TAGS)

soak: $(READY)  ## Random calls, kills and damaged files, for as many MINUTES; losses end it with an error.
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.robustness.soak --minutes $(or $(MINUTES),60) --report soak.json

lint: $(READY)  ## Check style and types; the links put the kernels where they are imported from.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types
	mkdir -p build/types/emnesy_gpu
	ln -s $(CURDIR)/emnesy_gpu/* $(CURDIR)/kernels build/types/emnesy_gpu
	cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache

compile: $(READY)  ## Compile all kernels for sm_90 with another Triton, and simulate some: make compile TRITON=3.6.0
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/triton-$(TRITON) triton==$(TRITON)
	PYTHONPATH=build/triton-$(TRITON) OMP_NUM_THREADS=1 $(BIN)/python -m tests.kernel_budgets --arch 90
	PYTHONPATH=build/triton-$(TRITON) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_kernel_values.py -k hopper

$(READY): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch --editable ".[train,profile,test]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
