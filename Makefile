# make quickstart   the whole idea in a few minutes, from nothing but Python
# make test         lint and the quick tier of tests (docs/testing.md)
# make test-all     lint and every test, before a release
# make docs         the documentation as a site, in build/site
# make smoke        some tests on another Python with the newest packages, PYTHON=python3.13
# make faults       a small job hurt 300 times (docs/reliability.md); half an hour
# Both make .venv at the first call and use it again at the next. PYTHON=python3.12 chooses another.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# One a core; each takes whole files, whose fixtures are runs.
WORKERS ?= 2
TIER ?= not slow

# XLA on a CPU takes its scratch memory anew in every step. With huge pages a small training step
# runs about 1.4 times faster on Linux (docs/results.md). Commands ask for them; tests are none.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

.PHONY: quickstart test test-all smoke faults docs lint clean

quickstart: $(VENV)/installed
	$(RUN) -m vit_jax_xfer.quickstart $(ARGS)

test: lint
	$(RUN) -m pytest -m "$(TIER)" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15 $(ARGS)

test-all:
	$(MAKE) test TIER=

faults: $(VENV)/installed-test
	$(RUN) -m tests.faults $(ARGS)

docs: $(VENV)/installed-docs
	$(RUN) -m mkdocs build --strict

# What an older or a newer Python, or package, breaks first: names, configs, a run and its resume, a
# file that is read, a map that is drawn.
SMOKE := tests/test_public_api.py tests/test_front_door.py tests/experiments/test_config_files.py tests/test_predict.py \
  tests/models/test_vision_transformer.py tests/transfer/test_transfer_values.py tests/storage/test_written_by_0_1.py \
  tests/train/test_resume.py tests/data/sources/test_open.py tests/explain/test_overlay.py
smoke:
	$(PYTHON) -m venv .venv-smoke
	.venv-smoke/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	.venv-smoke/bin/python -m pytest $(SMOKE) $(ARGS)

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python setup.cfg
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .cache build *.egg-info
