# make book     run every notebook (PROFILE=smoke|full DEVICE=auto|cpu|cuda JOBS=2), then build and check the site
# make site     build and check the site from the committed outputs; nothing is run
# make test     the tests, the notebooks' claims, and the site, in a browser too where Chromium is installed
# make pdf      the book as build/strflab.pdf, printed by Chromium; nothing is run
# make bench    speed, side by side with other libraries
# make publish  copy the outputs of the last full run into notebooks/
# make clean    remove what the others made, but for the environment
#
# STRFLAB_DATA names a folder with recordings; without it they are fetched, or replaced by simulated ones.

PY ?= python3
PROFILE ?= smoke
DEVICE ?= auto
JOBS ?= 2
B := .venv/bin

# Notebooks run in their own folder, so a relative path would miss.
ifdef STRFLAB_DATA
export STRFLAB_DATA := $(shell $(PY) -c 'import os; print(os.path.abspath(os.environ["STRFLAB_DATA"]))')
endif
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: book site test pdf bench publish clean

.venv/.ok: requirements.lock pyproject.toml
	$(PY) -m venv .venv
	$(B)/python -m pip install -q --no-compile -r requirements.lock
	$(B)/python -m pip install -q --no-compile --no-deps --no-build-isolation -e .
	-$(B)/python -m compileall -qq -j 0 .venv/lib  # on every core, which pip does not
	touch $@

book: .venv/.ok
	$(B)/python -m strflab.book run --profile $(PROFILE) --device $(DEVICE) --jobs $(JOBS)
	$(B)/python -m strflab.book stage
	$(B)/python -m strflab.book build
	$(B)/python -m strflab.book check

site: .venv/.ok
	$(B)/python -m strflab.book stage --committed
	$(B)/python -m strflab.book build
	$(B)/python -m strflab.book check

test: .venv/.ok
	OMP_NUM_THREADS=1 STRFLAB_PROFILE=smoke STRFLAB_DEVICE=cpu $(B)/python -m pytest -q -n $(JOBS) --dist loadfile \
	  --nbval-lax --nbval-kernel-name python3 --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval_sanitize.cfg \
	  --doctest-modules tests notebooks strflab
	$(MAKE) site
	$(B)/python -m strflab.book browse

pdf: .venv/.ok
	$(B)/python -m strflab.book stage --committed
	$(B)/python -m strflab.book pdf

bench: .venv/.ok
	$(B)/python -m benchmarks

publish: .venv/.ok
	$(B)/python -m strflab.book publish

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
