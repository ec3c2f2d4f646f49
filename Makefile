# Two commands on a fresh machine with Python 3.11, git and make: `make repro` and `make test`.
PYTHON ?= python3.11
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Nothing phones home.
export DVC_NO_ANALYTICS := 1
export NO_ALBUMENTATIONS_UPDATE := 1

.PHONY: repro test install lint clean lock
repro: install
	dvc repro

test: install
	pytest

install: $(VENV)/.installed

# uv comes from pip, everything else from the lock; a second run finds the stamp and does nothing.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	uv pip sync --quiet --compile-bytecode --python $(VENV)/bin/python requirements.lock
	uv pip install --quiet --no-deps --no-build-isolation --python $(VENV)/bin/python --editable .
	touch $@

lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --no-header --quiet -o requirements.lock

clean:
	rm -rf build reports models $(VENV)
