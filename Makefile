# Every target makes its own virtual environment in .venv and installs what it needs; a second run costs nothing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test check static format fuzz clean

help:
	@echo "make demo    simulate, train, evaluate and report a small Model II set (about 6 minutes after installation)"
	@echo "make test    run the tests"
	@echo "make check   format, lint, types, layers and tests"
	@echo "make format  put the code in shape"
	@echo "make fuzz    100,000 damaged files through every reader"
	@echo "make clean   remove the virtual environment"

demo: $(VENV)/.installed
	$(BIN)/deeplense simulate model_ii --train 1500 --validation 300 --test 1000 --out data/demo
	$(BIN)/deeplense train --config experiments/demo.toml
	$(BIN)/deeplense evaluate runs/demo
	$(BIN)/deeplense report runs/demo

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --dist loadfile

check: static test

static: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz.fuzz_readers --files 100000

clean:
	rm -rf $(VENV)

$(VENV)/.installed: EXTRAS =
$(VENV)/.installed-test: EXTRAS = [test]
$(VENV)/.installed-dev: EXTRAS = [dev]
$(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing deeplense$(EXTRAS) into $(VENV); the first time this takes a few minutes and 7 GB"
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@
