# All targets use the virtual environment .venv, which the first one creates.
#
#   make demo    run the quick start example on a real Redis and a real worker
#   make test    run every check
#
# PYTHON selects the interpreter (3.11 or newer): make clean test PYTHON=python3.13

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CHECKED := src tests examples scripts benchmarks

# Minimum coverage of src in per cent, including branches and worker processes.
COVERAGE := 97
# Only `make test` measures coverage; the targets `unit` and `integration` alone do not.
RUN := python
# Half of the unit tests: those that run no greenlets (greenlet.settrace is told of none). Coverage takes half the
# time without them.
PURE := tests/unit/values $(filter-out %_celery.py %_defaults.py %_precedence.py %_sqlalchemy.py %_provider.py, \
	$(sort $(wildcard tests/unit/test_celery_*.py tests/unit/test_internals*.py tests/unit/test_lazy_*.py \
	tests/unit/test_s*.py tests/unit/test_urls.py)))
PYTEST := pytest
# What `make test-lowest`, `test-newest` and `test-pythons` run: make test-lowest TESTS=tests/unit
TESTS := tests/unit tests/integration
# In virtual environments of their own, .venv-lowest and so on.
VERSIONS := $(BIN)/python scripts/versions.py
# Processes for the unit tests. Integration tests mostly wait, so they get twice as many. Each process
# starts private servers and workers on free ports.
PROCESSES := 2
# By file, so that one process has all tests of the editor, and the language server that they share.
# They come first, as they take longest.
BY_FILE_PURE = $(BY_FILE)
BY_FILE = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

# The tests start hundreds of Python processes: none shall compile what another has compiled already.
unexport PYTHONDONTWRITEBYTECODE

# In `make check` what takes long and runs no tests is run again only if something that it reads has changed
# since it passed: $(call unless_passed,name,files and folders) command
unless_passed = $(if $(CHECKING),$(BIN)/python scripts/unless_passed.py $(1) $(2) --)

say = @printf '\n==> %s\n' '$(1)'

.DEFAULT_GOAL := help
# Only `make check` runs two of its parts at a time.
ifndef CHECKING
.NOTPARALLEL:
endif
.PHONY: help demo test check measure plan servers format lint types stubs typing contracts unit \
	unit-pure unit-others integration test-lowest test-newest test-pythons docs docs-site coverage \
	bench bench-pools clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

# -- the two commands of the README

demo: $(VENV)/.demo ## run the quick start example on a real Redis and a real worker
	$(call say,demo)
	@$(BIN)/python scripts/ensure_servers.py --or-carried redis-server
	@$(BIN)/python scripts/demo.py

test: RUN := coverage run
test: plan servers lint types stubs typing contracts measure unit integration docs coverage ## run every check
	$(call say,all checks passed)

check: $(VENV)/.dev $(VENV)/.site ## run every check that needs no server, in about a minute
	@$(MAKE) --no-print-directory -j2 --output-sync=target CHECKING=yes \
		PYTEST='pytest --hypothesis-profile=quick' BY_FILE_PURE= \
		types unit-pure unit-others typing docs stubs contracts lint
	$(call say,all checks that need no server passed)

# -- one by one

format: $(VENV)/.dev ## format the code and sort the imports
	$(call say,format)
	@$(BIN)/ruff check --quiet --fix-only --select I,RUF022 .
	@$(BIN)/ruff format .

lint: $(VENV)/.dev ## check the format and the lint rules (ruff)
	$(call say,format and lint rules: ruff)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## check the types with mypy strict and pyright strict
	$(call say,types: mypy)
	@$(call unless_passed,mypy,$(CHECKED) stubs mypy.ini) $(BIN)/mypy $(CHECKED)
	$(call say,types: pyright)
	@$(call unless_passed,pyright,$(CHECKED) stubs pyproject.toml) $(BIN)/pyright

stubs: $(VENV)/.dev ## compare our stubs with the packages that they describe (stubtest)
	$(call say,stubs of aiomysql and pymysql: stubtest)
	@$(call unless_passed,stubs,stubs) env MYPYPATH=stubs $(BIN)/python -m mypy.stubtest aiomysql pymysql \
		--ignore-missing-stub

typing: $(VENV)/.dev ## check user code, right and wrong, with five type checkers
	$(call say,typing tests: mypy pyright basedpyright pyrefly ty)
	@$(call unless_passed,typing,src tests/typing scripts/check_typing.py) $(BIN)/python scripts/check_typing.py

contracts: $(VENV)/.dev ## check which module imports which, and the structure of the code
	$(call say,import contracts)
	@$(BIN)/lint-imports --no-logo
	$(call say,structure of the code)
	@$(BIN)/python scripts/check_house.py

unit: unit-pure unit-others ## run the unit tests and the editor tests, without servers

# `make check` runs both at a time. Those without greenlets need a processor all the time: in one process, as of
# those that share them out each would read all of the tests. The others wait more than they compute.
unit-pure: $(VENV)/.dev
	$(call say,unit tests without greenlets)
	@$(BIN)/$(RUN) $(if $(filter coverage,$(RUN)),--concurrency=thread) -m $(PYTEST) $(PURE) $(BY_FILE_PURE)

unit-others: $(VENV)/.dev
	$(call say,the other unit tests and the editor tests)
	@$(BIN)/$(RUN) -m $(PYTEST) tests/editor tests/unit $(PURE:%=--ignore=%) $(BY_FILE)

integration: $(VENV)/.dev servers ## run the integration tests on real servers and workers
	$(call say,integration tests)
	@$(BIN)/$(RUN) -m $(PYTEST) tests/integration --numprocesses 4 --dist worksteal

test-lowest: $(VENV)/.created servers ## unit and integration tests, lowest versions that pyproject.toml admits
	@$(VERSIONS) lowest $(TESTS)

test-newest: $(VENV)/.created servers ## the same, newest versions, pre-releases of celery and kombu, hiredis
	@$(VERSIONS) newest $(TESTS)

test-pythons: $(VENV)/.created servers ## the same, each Python that is installed, 3.11 and newer
	@$(VERSIONS) pythons $(TESTS)

# Its commands name tests, too.
READ_BY_DOCS := $(wildcard *.md) Makefile pyproject.toml mypy.ini docs examples src stubs scripts benchmarks \
	--names tests

docs: $(VENV)/.dev docs-site ## check generated pages, links and every code block, and build the site
	$(call say,documentation)
	@$(call unless_passed,docs,$(READ_BY_DOCS)) $(BIN)/python -m scripts.docs --check

docs-site: $(VENV)/.site ## build the documentation as a site, in build/site; warnings are errors
	$(call say,documentation site)
	@$(call unless_passed,site,$(wildcard *.md) LICENSE docs examples scripts/site.py zensical.toml) \
		sh -c '$(BIN)/python scripts/site.py && $(BIN)/zensical build --strict'

bench: $(VENV)/.dev ## compare the speed with peers, in the same run
	$(call say,benchmarks)
	@$(BIN)/python -m benchmarks

bench-pools: $(VENV)/.bench ## compare the asyncio pool with its peers, in some minutes
	$(call say,benchmarks: worker pools and task queues)
	@benchmarks/run

clean: ## remove the virtual environments and all files that the tools created
	$(call say,clean)
	@rm -rf $(VENV) .venv-* build dist htmlcov .coverage .coverage.* \
		.cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find $(CHECKED) -name __pycache__ -type d -prune -exec rm -rf {} +

# -- parts of the above

# Says what the tests need before anything is downloaded, with any Python 3.
plan:
	$(call say,what the tests need)
	@for python in $(BIN)/python $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if command -v "$$python" >/dev/null 2>&1; then \
			[ -e $(VENV)/.dev ] || echo '  Python packages: pip will install them into $(VENV)'; \
			exec "$$python" scripts/ensure_servers.py --plan; \
		fi; \
	done

servers: $(VENV)/.created
	$(call say,servers)
	@$(BIN)/python scripts/ensure_servers.py

measure: $(VENV)/.dev
	@$(BIN)/coverage erase

coverage: $(VENV)/.dev
	$(call say,coverage: at least $(COVERAGE) per cent)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=$(COVERAGE)

# Stamps: packages are installed again only after a change of pyproject.toml.

$(VENV)/.demo: $(VENV)/.created pyproject.toml
	$(call say,installing tomskit for the demo)
	@$(PIP) install --editable '.[sqlite]' --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml
	$(call say,installing tomskit and its development tools)
	@$(PIP) install --editable '.[mysql,sqlite,postgres]' --group dev
	@touch $@

$(VENV)/.site: $(VENV)/.created pyproject.toml
	$(call say,installing zensical)
	@$(PIP) install --group site
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(call say,installing the peers of the benchmark)
	@$(PIP) install --group bench
	@touch $@

$(VENV)/.created:
	$(call say,creating the virtual environment $(VENV))
	@python='$(PYTHON)'; \
	old='import sys; sys.exit(sys.version_info < (3, 11))'; \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if [ -z "$$python" ] && "$$candidate" -c "$$old" >/dev/null 2>&1; then \
			python=$$candidate; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'No Python 3.11 or newer on the PATH.' \
			'Install one, or name one: make PYTHON=/path/to/python3.11' >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c "$$old"; then \
		echo "$$python cannot be used: tomskit needs Python 3.11 or newer." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -m venv $(VENV); then \
		echo "$$python failed to create a virtual environment. Debian and Ubuntu need a" \
			'separate package for this: apt-get install python3-venv' >&2; \
		exit 1; \
	fi
	@# Dependency groups need pip 25.1.
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@
