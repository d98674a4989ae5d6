# The three words that count, here and in CI: make setup, make check, make test.

PYTHON ?= python3
DATA ?= ../shared/data/gowalla
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench docs clean

help:  ## Show these words
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(INSTALLED)  ## Install everything into .venv (Python 3.11 or later), under pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rankwell needs Python 3.11 or later: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## Train on generated data, and compare with the ideal ranking
	rm -rf runs/demo
	$(BIN)/rankwell train synthetic --loss.temperature 0.2 --training.batch_size 256 --out runs/demo

test: setup  ## All tests, doctests included
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

check: setup  ## Style, format, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup  ## Benchmarks; DATA=FOLDER for those on real interactions
	$(BIN)/python bench/step.py
	@if [ -d '$(DATA)' ]; then \
	  $(BIN)/python bench/read.py '$(DATA)' && $(BIN)/python bench/evaluate.py '$(DATA)'; \
	else \
	  echo 'bench/read.py and bench/evaluate.py are skipped: there is no $(DATA). Give another by DATA=FOLDER.'; \
	fi

docs: setup  ## Build the site into build/site: a page a loss, a page a metric, which loss to choose
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo 'build/site/index.html' 

clean:  ## Remove what make made, runs excepted
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench docs examples -name __pycache__ -prune -exec rm -rf {} +
