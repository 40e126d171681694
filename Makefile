# make demo   watch the main job done, about half a minute
# make test   pass every test
# make soak   pass the long tests too, and print the table of docs/servers/README.md
# make check  format, lint, types, import contracts
# make bench  measure what the README quotes
#
# Everything is installed into .venv in this folder. PYTHON chooses the interpreter (3.11 or later).

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo test test-wheel test-oldest soak coverage check bench lock clean

demo: $(VENV)/ready
	$(RUN) -m rheostat demo

# Most tests wait for processes and servers, so four of them share two cores.
test: $(VENV)/ready $(VENV)/apart/ready
	$(RUN) -m pytest -n 4 --dist worksteal

# The same of what would be published, in an environment of its own.
test-wheel: $(VENV)/wheel/ready $(VENV)/apart/ready
	$(VENV)/wheel/bin/python -m pytest -n 4 --dist worksteal

# With the oldest versions of its dependencies that pyproject.toml declares, in a place of their own; what searches for
# long would take minutes more with an older Hypothesis, and tells nothing new.
test-oldest: $(VENV)/oldest/ready
	$(VENV)/oldest/bin/python -m pytest -n 2 --dist worksteal -m "not newest and not soak" tests/unit tests/properties \
		tests/integration/test_pyroscope.py tests/integration/test_sources.py \
		--ignore tests/properties/test_machine.py --ignore tests/properties/test_fuzz.py

# About an hour. The common rows of the table are tests of the normal run.
soak: coverage $(VENV)/apart/ready
	$(RUN) -m pytest -n 2 --dist worksteal -m "soak or not soak" --hypothesis-profile nightly --timeout 3600 \
		-o faulthandler_timeout=0 --junit-xml $(VENV)/soak.xml
	PYTHONPATH=tests $(RUN) -m support.servers $(VENV)/soak.xml

# Of the core, line and branch, in whatever process the tests run it.
coverage: $(VENV)/wheel/ready $(VENV)/apart/ready
	rm -f .coverage .coverage.*
	$(VENV)/wheel/bin/python -m coverage run -m pytest
	$(VENV)/wheel/bin/python -m coverage combine --quiet
	$(VENV)/wheel/bin/python -m coverage report

check: $(VENV)/ready
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/ready
	$(RUN) -m bench

lock: $(VENV)/ready
	$(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --no-annotate \
		--custom-compile-command "make lock" --upgrade --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV)

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Rheostat needs Python 3.11 or later; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check uv

$(VENV)/ready: $(VENV)/bin/uv pyproject.toml requirements.lock
	$(RUN) -m uv pip sync --quiet --python $(RUN) requirements.lock
	$(RUN) -m uv pip install --quiet --python $(RUN) --no-deps --editable .
	touch $@

$(VENV)/wheel/ready: $(VENV)/ready $(shell find reconciler backends flagsources -name '*.py')
	rm -rf $(VENV)/wheel/dist
	$(RUN) -m uv venv --quiet --clear --python $(RUN) $(VENV)/wheel
	$(RUN) -m uv build --quiet --wheel --out-dir $(VENV)/wheel/dist .
	$(RUN) -m uv pip install --quiet --python $(VENV)/wheel/bin/python --requirement requirements.lock
	$(RUN) -m uv pip install --quiet --python $(VENV)/wheel/bin/python --no-deps $(VENV)/wheel/dist/*.whl
	touch $@

# What the tests need and the environment itself is not to have: uWSGI as a program, which has to be compiled here; its
# last release without threads of its own accord, which knows CPython up to 3.12; and a redis-server, unpacked from Debian's
# packages where none is installed. What cannot be had is skipped by the tests that need it.
$(VENV)/apart/ready: $(VENV)/ready
	-$(RUN) -m uv pip install --quiet --python $(RUN) --no-deps --target $(VENV)/apart/uwsgi uwsgi==2.0.31
	-$(RUN) -m uv pip install --quiet --python $(RUN) --no-deps --target $(VENV)/apart/threadless --only-binary pyuwsgi pyuwsgi==2.0.26
	-command -v redis-server >/dev/null || sh tests/support/unpack_redis.sh $(VENV)/apart
	touch $@

$(VENV)/oldest/ready: $(VENV)/ready
	$(RUN) -m uv venv --quiet --clear --python $(RUN) $(VENV)/oldest
	$(RUN) -m uv pip compile --quiet --resolution lowest-direct --all-extras --output-file $(VENV)/oldest/pins pyproject.toml
	$(RUN) -m uv pip install --quiet --python $(VENV)/oldest/bin/python --requirement requirements.lock
	$(RUN) -m uv pip install --quiet --python $(VENV)/oldest/bin/python --requirement $(VENV)/oldest/pins
	$(RUN) -m uv pip install --quiet --python $(VENV)/oldest/bin/python --no-deps --editable .
	touch $@
