# Two commands on a fresh machine with Python 3.11, git and make: `make repro` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Stages run as `python stages/...`: the environment's Python comes first.
export PATH := $(BIN):$(PATH)
# Nothing phones home.
export DVC_NO_ANALYTICS := 1

.PHONY: repro test app install lock
repro: install
	$(BIN)/dvc repro

test: install
	$(BIN)/pytest -n logical --dist loadscope

app: install
	$(BIN)/castline app

install: $(VENV)/.installed

# uv comes from pip, everything else from the lock; a second run finds the stamp and does nothing.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	touch $@

DEVICES = $(BIN)/uv pip compile - --universal --python-version 3.11 --constraint requirements.lock --generate-hashes \
	--no-annotate --no-header --quiet -o castline

# After a change of versions in pyproject.toml. The second part is what devices install, and what Lambda runs.
lock:
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --quiet -o requirements.lock
	printf 'ai-edge-litert\nawsiotsdk\nnumpy\npillow\n' | $(DEVICES)/edge/requirements.txt
	printf 'av\n' | $(DEVICES)/edge/requirements-video.txt
	printf 'paho-mqtt\n' | $(DEVICES)/edge/requirements-mqtt.txt
	printf 'ai-edge-litert\nboto3\nnumpy\npillow\n' | $(DEVICES)/cloud/requirements-lambda.txt
