# `make run` and `make test` include all set-up. All files that they create are in .venv/ and build/.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
SOURCES := $(shell find src -name '*.py' -o -name '*.in' -o -name '*.md' -o -path '*/control/ui/*' | sort) setup.py build_compiled.py build_c_files.py pyproject.toml
BUILT   := build/compiled

# Without a cache of bytecode each of the many processes that tests start would compile all its modules.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test tables test-interpreted test-compiled shows check format bench fuzz build docs clean hostile-page soak slow interop instructions audit constraints always

run: build                       ## serve the two-hop example until Ctrl-C
	PYTHONPATH=$(BUILT) $(BIN)/python -m pymosn start

test: test-interpreted test-compiled

test-interpreted: $(VENV)/ready
	PYMOSN_EXPECT=interpreted PYMOSN_ONCE=later .ci/tests $@ $(BIN)/python

test-compiled: build
	PYMOSN_EXPECT=$$(cat $(BUILT)/build-kind) PYTHONPATH=$(BUILT) PYMOSN_ONCE=now .ci/tests $@ $(BIN)/python

tables: build                    ## every member of the tables of which `make test` takes a share
	PYMOSN_EXPECT=$$(cat $(BUILT)/build-kind) PYTHONPATH=$(BUILT) $(BIN)/python -m pytest tests/hostile tests/system

shows: build                     ## the acceptance tests at full scale, with their figures; takes minutes
	PYMOSN_EXPECT=$$(cat $(BUILT)/build-kind) PYTHONPATH=$(BUILT) $(BIN)/python -m pytest tests/shows -m show -s

check: $(VENV)/ready             ## format, lint, types, layer arrows, word check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=. $(BIN)/mypy --explicit-package-bases -p tests.kit
	$(BIN)/python -m pytest tests/unit/test_layers.py tests/unit/test_words.py

audit: $(VENV)/ready             ## installed packages: as pinned, without known vulnerabilities (skipped when offline)
	$(BIN)/python .ci/audit.py

constraints: $(VENV)/ready       ## pin the installed packages in constraints.txt
	sed -i '/^[^#]/d' constraints.txt
	$(BIN)/pip freeze --exclude-editable >> constraints.txt
	touch $(VENV)/ready

format: $(VENV)/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: build                     ## CPU per request compared to nginx, HAProxy and Envoy; see bench/
	PYTHONPATH=$(BUILT) $(BIN)/python -m bench $(BENCH)

instructions: $(if $(OF),$(VENV)/ready,build)  ## instructions per request, by callgrind; OF="FOLDER..." compares other builds
	$(BIN)/python -m bench.instructions $(or $(OF),$(BUILT))

fuzz: build                      ## ten minutes for each fuzzer
	$(BIN)/pip install --quiet --disable-pip-version-check atheris || echo "atheris is not available: its fuzzers are skipped"
	PYMOSN_FUZZ_SECONDS=$${SECONDS_EACH:-600} PYTHONPATH=$(BUILT) $(BIN)/python -m pytest tests/fuzz --timeout=0 -rP

hostile-page: build              ## docs/hostile.md: the hostile tables against pymosn, nginx, HAProxy and Envoy
	PYTHONPATH=$(BUILT):. $(BIN)/python -m tests.hostile.page

soak: build                      ## SOAK_SECONDS (600) of mixed traffic with upstreams that fail in turn
	PYTHONPATH=$(BUILT) $(BIN)/python -m tests.load.soak

slow: build                      ## 10,000 idle connections and the modes of slowhttptest, two minutes
	PYTHONPATH=$(BUILT) $(BIN)/python -m tests.load.slow

interop: build                   ## against Dubbo, SOFARPC, TLS and HTTP/2 programs, as far as they are installed; MOSN=BINARY: and MOSN
	PYTHONPATH=$(BUILT) $(BIN)/python -m pytest interop tests/system/test_mosn_tls_samples.py

build: $(BUILT)/build-kind       ## compile the data path

docs: $(VENV)/ready              ## regenerate the pages of keys and of fields of xDS
	$(BIN)/python -m pymosn.config.compatibility --write
	$(BIN)/python -m tests.xds_fields --write
	$(BIN)/python -m pymosn.observe.metrics_page --write

# The working tree stays interpreted: the package is compiled into a separate directory.
# Only changed files are compiled again. build-kind is written last, so without it the build is incomplete.
$(BUILT)/build-kind: $(SOURCES) build/sources | $(VENV)/ready
	rm -f $@
	$(BIN)/python setup.py --quiet build --build-lib $(BUILT)
	cd $(BUILT) && kind=$$(PYTHONPATH=. $(abspath $(BIN))/python -c "from pymosn.version import build; print(build())") && echo $$kind > build-kind
	@echo "pymosn is built: $$(cat $@)"

# Its time stamp is that of the last change of the list of sources.
build/sources: always
	@mkdir -p build && echo $(SOURCES) | cmp -s - $@ || echo $(SOURCES) > $@

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("pymosn needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV) || { echo "cannot create a virtual environment: install python3-venv"; exit 1; }
	PYMOSN_INTERPRETED=1 PIP_CONSTRAINT=$(abspath constraints.txt) \
	    $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	# xds-protos has old modules of the same names, which overwrite these.
	PIP_CONSTRAINT=$(abspath constraints.txt) \
	    $(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps opentelemetry-proto
	touch $@

clean:
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
