# `make demo` and `make test` need only Python and make; each makes .venv once and reuses it.
PYTHON ?= python3
PY := .venv/bin/python
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test test-slow test-jax test-lowest lint clean

help:
	@echo 'make demo         train, verify and export a model of real faces (about 5 minutes)'
	@echo 'make test         the tests'
	@echo 'make test-slow    the tests that take minutes'
	@echo 'make test-jax     the core tests on the JAX backend, in .venv-jax'
	@echo 'make test-lowest  the tests on the oldest supported versions, in .venv-lowest'
	@echo 'make lint         ruff'

demo: .venv/demo.stamp
	$(PY) examples/orl_faces.py $(ARGS)

test: .venv/test.stamp
	$(PY) -m pytest -m 'not slow' $(ARGS)

test-slow: .venv/test.stamp
	$(PY) -m pytest -m slow $(ARGS)

test-jax: .venv-jax/stamp
	KERAS_BACKEND=jax PYTHONPATH=. .venv-jax/bin/python -m pytest tests/core $(ARGS)

test-lowest: .venv-lowest/stamp
	.venv-lowest/bin/python -m pytest -m 'not slow' $(ARGS)

lint: .venv/test.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip

.venv/demo.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable '.[demo]'
	touch $@

.venv/test.stamp: setup.cfg pyproject.toml | .venv/bin/python
	$(PY) -m pip install --quiet --editable '.[test]'
	touch $@

# JAX alone, without TensorFlow: the core must not need it.
.venv-jax/stamp: setup.cfg
	$(PYTHON) -m venv .venv-jax
	.venv-jax/bin/python -m pip install --quiet jax 'keras<3.16' 'numpy<2.5' hypothesis pytest
	touch $@

.venv-lowest/stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --editable '.[test]' \
		tensorflow==2.18.0 keras==3.8.0 numpy==1.26.4
	touch $@

clean:
	rm -rf .venv .venv-jax .venv-lowest build *.egg-info
