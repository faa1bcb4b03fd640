# make demo   whisper-base adapted to synthetic Esperanto: WER before and after
# make test   all tests
# make lint   style, without changing anything
# make bench  speed beside the stock ways, DATA=folder of Common Voice; SHORT=1: an hour
# make bench-bank    many languages in one model; ADAPTER=file is scored in fp16 and int8
# make tables  the runs of workflow/config/CONFIG.yaml and their report; DRY=1: how many hours
# make faults  every fault of docs/reliability.md at length, and a run of 5,000 steps
# make fuzz    coverage-guided fuzzing of tables and adapter files, SECONDS=60 each
# make audit   known vulnerabilities of what is installed
# make sbom    what is installed, as sbom.json (CycloneDX)
# make bench-growth  time and memory up to 70,000 clips, one and two processes
# Each creates .venv if it is missing or older than what it is made of.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Where tests look for real speech, too.
DATA ?= ../shared/corpora/cv
LOCALE ?= hsb
# It is quoted below, where no shell expands a ~.
PLACE = $(patsubst ~/%,$(HOME)/%,$(DATA))

CONFIG ?= small
PROFILE ?= local

SECONDS ?= 60

.PHONY: demo test lint tables bench bench-bank bench-growth faults fuzz audit sbom clean

demo: $(READY)
	$(BIN)/python recipes/CommonVoice/make_synthetic_corpus.py --data_folder data/synthetic
	HF_HUB_OFFLINE=1 $(BIN)/python recipes/CommonVoice/train.py hparams/sumra_whisper_base.yaml \
		--locale eo --data_folder data/synthetic --runs_folder runs/demo --test_batch_size 20

# Two processes of one thread each are faster than one of two; a file's tests stay
# together, because they share what was trained for them; the long ones come first.
test: $(READY) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

tables: $(READY)
	$(BIN)/snakemake --snakefile workflow/Snakefile \
		--configfile workflow/config/$(CONFIG).yaml --profile workflow/profiles/$(PROFILE) \
		$(if $(DRY),--dry-run --quiet rules) $(if $(UNLOCK),--unlock) $(ARGS) \
		$(if $(filter command environment,$(origin DATA)),--config data_folder='$(PLACE)')

bench: $(READY)
	$(BIN)/python benchmarks/bench.py --data_folder '$(PLACE)' --locale $(LOCALE) $(if $(SHORT),--short)

bench-bank: $(READY)
	$(BIN)/python benchmarks/bench_bank.py --data_folder '$(PLACE)' --locale $(LOCALE) $(if $(ADAPTER),--adapter '$(ADAPTER)')

bench-growth: $(READY)
	$(BIN)/python benchmarks/growth.py

faults: $(READY)
	$(BIN)/python tests/faults/reliability.py

fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ".[fuzz]"
	cd tests/fuzz && for what in tables adapters; do \
		../../$(BIN)/python fuzz_$$what.py corpus/$$what -max_total_time=$(SECONDS) \
			-max_len=4096 -print_final_stats=1 || exit 1; done

# What the tools need stays out of .venv: they look at it from outside.
AUDIT := .venv-audit/bin
$(AUDIT)/.ready: constraints.txt
	$(PYTHON) -m venv .venv-audit
	$(AUDIT)/python -m pip install --quiet --constraint constraints.txt pip-audit cyclonedx-bom
	touch $@

audit: $(READY) $(AUDIT)/.ready
	$(BIN)/python -m pip freeze --exclude-editable > .venv-audit/installed.txt
	$(AUDIT)/pip-audit --requirement .venv-audit/installed.txt --no-deps --disable-pip --strict

sbom: $(READY) $(AUDIT)/.ready
	$(AUDIT)/cyclonedx-py environment --output-file sbom.json $(BIN)/python

clean:
	rm -rf $(VENV) .venv-audit runs/demo data/synthetic sbom.json

$(READY): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
