# make course | test | bench | bench-gpu | colab | profiles | figures | owner | release | notebooks-clean | clean.
# On a fresh machine each makes .venv first; owner, release and notebooks-clean need none.
SHELL := /bin/bash
PYTHON ?= python3
PY := .venv/bin/python
COLAB_PYTHON ?= python3.13
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
# Waiting threads soon sleep instead of spinning: beside any other busy process that is several times faster
# (bench/bench_waiting.py). libgomp reads it when torch is loaded, so it is set here; a value of your own wins.
export GOMP_SPINCOUNT ?= 1000
# Tests run in JOBS processes of one thread each: most of their work is small, and two threads of one process seldom share it.
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -q -n $(JOBS) --dist loadfile
export FIT3D_PROFILE ?= $(if $(filter test,$(MAKECMDGOALS)),quick,)

.PHONY: help setup course test lint unit notebooks bench bench-gpu colab profiles solutions figures owner release notebooks-clean clean
help:
	@echo "make course   run every notebook, then open build/course/index.html"
	@echo "make test     ruff, unit tests, every notebook in the quick profile"
	@echo "make bench    run bench/bench_*.py (ONLY=name1,name2 for some)"
	@echo "make bench-gpu   what needs a GPU: torch, Triton and gsplat side by side, lifting, fine-tuning, memory (BUILD=1 builds gsplat first)"
	@echo "make colab    run the lessons with Colab's own versions, as a reader opens them (ONLY='00 01' for some; needs Python 3.13)"
	@echo "make profiles run the middle and the full profile, shrunk, on a pretended GPU (ONLY='00 01' for some)"
	@echo "make solutions   for teachers: the notebooks with all solutions filled in, in build/solutions"
	@echo "make figures  make the pictures of README and notebooks again (ONLY=hero,room for some)"
	@echo "make owner    write the GitHub owner/name into badges, bootstrap and links (OWNER=you/name; else what git remote says)"
	@echo "make release  pin every notebook to the commit checked out (OVER=1 takes the pin out again)"
	@echo "make notebooks-clean   strip outputs; renew badge and bootstrap cells"

# One pip command for everything: torch and torchvision must be builds made for each other.
# The stamp is older than a requirements file that changed, so a change updates the environment.
.venv/.ready: requirements.txt tests/requirements.txt
	@echo "setup: making .venv and installing what requirements.txt and tests/requirements.txt list (minutes, once)"
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python 3.11 or newer is needed, $(PYTHON) is {v.major}.{v.minor}; say make PYTHON=python3.12") if v < (3, 11) else None'
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r requirements.txt -r tests/requirements.txt
	@touch $@
setup: .venv/.ready

course: setup
	@echo "course: running $(words $(NOTEBOOKS)) notebooks; the result will be build/course/index.html"
	@$(PY) -m tools.gallery $(ONLY)

test: lint unit notebooks
	@echo "test: all passed (ruff, unit tests, $(words $(NOTEBOOKS)) notebooks in the quick profile)"
lint: setup
	@echo "test 1/3: ruff over code and notebooks"
	@$(PY) -m ruff check .
unit: lint
	@echo "test 2/3: unit tests in tests/"
	@$(PYTEST) --durations=5 tests
notebooks: unit
ifeq ($(NOTEBOOKS),)
	@echo "test 3/3: notebooks/ has no notebook yet, nothing to run"
else
	@echo "test 3/3: running $(words $(NOTEBOOKS)) notebooks, quick profile"
	@MPLBACKEND= $(PYTEST) --nbmake --nbmake-timeout=300 --durations=0 --durations-min=1 notebooks
endif

bench: setup
	@echo "bench: running bench/bench_*.py; each prints its table"
	@$(PY) -m tools.bench $(ONLY)

bench-gpu: setup
	@$(PY) -m bench.gpu $(if $(BUILD),--build) $(if $(ONLY),--only $(ONLY))

build/colab/.ready: tools/colab_pins.txt
	@echo "colab: making build/colab and installing what tools/colab_pins.txt lists (minutes, once)"
	@$(COLAB_PYTHON) -m venv build/colab
	@build/colab/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r $<
	@touch $@
colab: setup build/colab/.ready
	@$(PY) -m tools.colab run build/colab/bin/python $(ONLY)
profiles: setup
	@$(PY) -m tools.profiles $(ONLY)

solutions: setup
	@$(PY) -m tools.exercises solutions
figures: setup
	@$(PY) -m tools.figures $(ONLY)
owner:
	@$(PYTHON) -m tools.owner $(OWNER)
release:
	@$(PYTHON) -m tools.release $(if $(OVER),over)
notebooks-clean:
	@$(PYTHON) -m tools.notebooks clean

clean:
	rm -rf build .pytest_cache .ruff_cache
