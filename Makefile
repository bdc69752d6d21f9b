# The commands for people and CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
LOCKS := docker/requirements
# Spark binds to loopback, and workers use the environment's interpreter; packages are found from any folder.
export SPARK_LOCAL_IP ?= 127.0.0.1
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python
export PYTHONPATH := $(CURDIR)

.PHONY: help setup demo test test-slow test-gpu bench bench-gpu check nightly night-by-dag backfill airflow query docs \
	zip locks clean faults soak evaluate test-jobs test-ingest test-others test-processes test-dags

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

# GPU=1 installs vLLM's CUDA build, GPU=0 its CPU build (the default on a fresh checkout). Without GPU= the
# installed kind stays: every target depends on setup, and none should switch the environment as a side effect.
GPU ?= $(if $(wildcard .venv/.jobs-gpu),1,0)
$(if $(filter-out 0 1,$(GPU))$(filter-out 1,$(words $(GPU))),$(error GPU is 0 or 1, as in: make setup GPU=1))
JOBS := $(if $(filter 1,$(GPU)),jobs-gpu,jobs)

setup: .venv/.$(JOBS) .venv/.jars .venv/.archive .venv-airflow/.airflow ## install both environments from their locks (a repeat takes under a second): [GPU=1]

# One stamp for each kind; installing one kind removes the stamp of the other.
.venv/.jobs .venv/.jobs-gpu: .venv/.%: $(LOCKS)/%.lock $(LOCKS)/bootstrap.lock
	@docker/setup.sh java
	@docker/setup.sh $*
	@touch $@

.venv/.jars: .venv/.$(JOBS) $(LOCKS)/jars.sha256
	@docker/setup.sh jars
	@touch $@

.venv/.archive: .venv/.jars
	@docker/setup.sh archive
	@touch $@

.venv-airflow/.airflow: $(LOCKS)/airflow.lock $(LOCKS)/bootstrap.lock
	@docker/setup.sh airflow
	@touch $@

# What the demo writes: its logs and its warehouse, made anew each time.
DEMO := demo
DATA ?=
# The demo on real purchases: eleven days at once, the last of them closed, then a night.
RETAIL := --start 2010-12-01 --end 2010-12-11
MAPPING ?= canonical
LOGS ?=
WAREHOUSE ?=
CONFIG ?=
BENCH ?=
SEEDS ?=
MODEL ?=
POOLING ?=
# Recipes read them from the environment: a value is never a piece of a command.
export DATA LOGS WAREHOUSE MAPPING CONFIG DATE START END SQL WITH BENCH SEEDS MODEL POOLING

demo: setup ## four weeks of generated logs, from nothing to profiles (DATA=folder of Online Retail: on real purchases)
	@rm -rf $(DEMO)
ifeq ($(DATA),)
	@$(PYTHON) -m jobs.make_demo_logs --logs $(DEMO)/logs --start 2025-03-05 --days 28
	@$(PYTHON) -m jobs.backfill_profiles --logs $(DEMO)/logs --warehouse $(DEMO)/warehouse --start 2025-03-05 --end 2025-03-31
	@$(PYTHON) -m jobs.train_ranker --warehouse $(DEMO)/warehouse --start 2025-03-18 --end 2025-03-31
	@echo 'recommend: {nightly: true}' >$(DEMO)/settings.yaml
	@LOGS=$(DEMO)/logs WAREHOUSE=$(DEMO)/warehouse CONFIG=$(DEMO)/settings.yaml docker/night_by_dag.sh 2025-04-01
else
	@$(PYTHON) -m jobs.import_dataset --mapping online_retail --source $(DATA) --logs $(DEMO)/logs
	@$(PYTHON) -m jobs.backfill_profiles --logs $(DEMO)/logs --warehouse $(DEMO)/warehouse --mapping online_retail $(RETAIL)
	@LOGS=$(DEMO)/logs WAREHOUSE=$(DEMO)/warehouse MAPPING=online_retail docker/night_by_dag.sh 2010-12-12
endif
	@$(PYTHON) -m jobs.show_demo --logs $(DEMO)/logs --warehouse $(DEMO)/warehouse

# In parts, three at a time, since one keeps only one of two cores busy: whole jobs and nights in one session;
# the ingest; what starts processes of its own, Airflow among them; DAGs; and everything else.
JOBS_TESTED = tests/e2e tests/jobs/commands
PROCESSES_TESTED = tests/faults $(addprefix tests/e2e/test_,nightly_dag.py private_files.py secrets.py submitted.py)
FAST = $(PYTHON) -m coverage run -p -m pytest -q -m "not slow and not gpu and not faults"
PARTS = processes jobs ingest others dags

test: setup ## the whole suite but for what is marked slow, in parts side by side
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory -k -j3 $(PARTS:%=test-%)
	@$(PYTHON) -m coverage combine -q
	@$(PYTHON) -m coverage report --skip-covered --sort=cover

test-jobs: setup
	@$(FAST) $(JOBS_TESTED) $(PROCESSES_TESTED:%=--ignore=%)

test-ingest: setup
	@$(FAST) tests/jobs/ingest

test-others: setup
	@$(FAST) tests $(addprefix --ignore=,$(JOBS_TESTED) tests/jobs/ingest tests/faults)

test-processes: setup
	@$(FAST) $(PROCESSES_TESTED)

test-dags: setup
	@.venv-airflow/bin/python -m pytest -q tests/dags

test-slow: setup ## the tests left out of `make test`
	@$(PYTHON) -m pytest -m "slow and not gpu and not faults"

faults: setup ## every row of the table of faults: kills, lost answers, full disks, damage, copies (docs/reliability.md)
	@$(PYTHON) -m pytest -q tests/faults/test_rows.py tests/faults/test_crowds.py

soak: setup ## kills drawn by seeds, resumable: SEEDS=1-300; results in build/faults/soak.jsonl
	@: $(call need,SEEDS,soak SEEDS=1-300)
	@$(PYTHON) -m tests.faults.soak "$$SEEDS"

bench: setup ## speed, as ratios measured in one run, as JSON; fails below a recorded bound: [BENCH=name ...]
	@$(PYTHON) -m tests.perf $$BENCH

test-gpu: setup ## the tests that need a GPU, after make setup GPU=1 (docs/gpu.md)
	@$(PYTHON) -m pytest -m gpu tests/gpu

bench-gpu: setup ## GPU throughput, the share of its peak, and Spark against the bare engine: [MODEL=folder] [POOLING=LAST]
	@$(PYTHON) -m tests.gpu.throughput $${MODEL:+"$$MODEL"} $${POOLING:+"$$POOLING"}

check: setup ## ruff (rules and layout), mypy, the import rules, the sizes of functions, the links of the docs
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@$(PYTHON) -m pytest -q tests/test_rooms.py tests/test_sizes.py tests/docs/test_links.py

need = $(if $($(1)),,$(error give $(1)=, as in: make $(2)))
common = --logs "$$LOGS" --warehouse "$$WAREHOUSE" --mapping "$$MAPPING" $(if $(CONFIG),--config "$$CONFIG")

nightly: setup ## one night: DATE= LOGS= WAREHOUSE= [MAPPING=] [CONFIG=]
	@: $(foreach name,DATE LOGS WAREHOUSE,$(call need,$(name),nightly DATE=2025-04-01 LOGS=logs WAREHOUSE=warehouse))
	@$(PYTHON) -m jobs.run_night --date "$$DATE" $(common)

night-by-dag: setup ## the same through the DAG, with Airflow: DATE= LOGS= WAREHOUSE= [MAPPING=] [CONFIG=]
	@: $(foreach name,DATE LOGS WAREHOUSE,$(call need,$(name),night-by-dag DATE=2025-04-01 LOGS=logs WAREHOUSE=warehouse))
	@docker/night_by_dag.sh "$$DATE"

airflow: setup ## Airflow on this machine alone, with the DAGs; Ctrl-C ends it: [LOGS=] [WAREHOUSE=] [MAPPING=] [CONFIG=] [AIRFLOW_PORT=]
	@docker/airflow_local.sh

backfill: setup ## a range of days: START= END= LOGS= WAREHOUSE= [MAPPING=] [CONFIG=]
	@: $(foreach name,START END LOGS WAREHOUSE,$(call need,$(name),backfill START=2025-03-03 END=2025-03-31 LOGS=logs WAREHOUSE=warehouse))
	@$(PYTHON) -m jobs.backfill_profiles --start "$$START" --end "$$END" $(common)

# What is known of each data set: its mapping, its days, and the first day of the test (the last 60 days with
# purchases; the last fifth of the time). MovieLens is told by its ratings.csv.
JUDGED := build/evaluate
ifneq ($(wildcard $(DATA)/ratings.csv),)
JUDGED_AS := movielens
# Nothing arrives late in 22 years; a long window reads more days at once.
JUDGED_SETTINGS := fold: {window_days: 60}
JUDGED_DAYS := --start 1996-03-29 --end 2018-09-24
JUDGED_TEST := --start 2014-03-27 --end 2018-09-24
else
JUDGED_AS := online_retail
JUDGED_SETTINGS := {}
JUDGED_DAYS := --start 2010-12-01 --end 2011-12-09
JUDGED_TEST := --start 2011-10-02 --end 2011-12-09
endif

JUDGED_IN = $(JUDGED)/$(JUDGED_AS)

evaluate: setup ## judge profiles and baselines on a data set, from its files: DATA=folder of Online Retail or MovieLens
	@: $(call need,DATA,evaluate DATA=path/to/online-retail)
	@rm -rf $(JUDGED_IN)
	@$(PYTHON) -m jobs.import_dataset --mapping $(JUDGED_AS) --source "$$DATA" --logs $(JUDGED_IN)/logs
	@echo '$(JUDGED_SETTINGS)' >$(JUDGED_IN)/settings.yaml
	@$(PYTHON) -m jobs.backfill_profiles --logs $(JUDGED_IN)/logs --warehouse $(JUDGED_IN)/warehouse \
		--mapping $(JUDGED_AS) --config $(JUDGED_IN)/settings.yaml $(JUDGED_DAYS)
	@$(PYTHON) -m jobs.evaluate_profiles --warehouse $(JUDGED_IN)/warehouse --config $(JUDGED_IN)/settings.yaml \
		$(JUDGED_TEST) --every 7 --out $(JUDGED_IN)/result

query: setup ## one SQL query over the published tables, without Spark: WAREHOUSE= SQL= [WITH=name=file]
	@: $(foreach name,WAREHOUSE SQL,$(call need,$(name),query WAREHOUSE=warehouse SQL="SELECT ..."))
	@$(PYTHON) -m jobs.query_tables --warehouse "$$WAREHOUSE" $(if $(WITH),--with "$$WITH") "$$SQL"

docs: setup ## write the generated pages of docs/ anew
	@$(PYTHON) -c 'from schemas.all_tables import tables_markdown as page; print(page(), end="")' >docs/tables.md
	@$(PYTHON) -c 'from schemas.settings import default_yaml as page; print(page(), end="")' >docs/settings.yaml

zip: setup ## the zip for spark-submit --py-files: build/nightfold.zip
	@$(PYTHON) docker/zip_jobs.py build/nightfold.zip

locks: setup ## resolve the locks of all environments
	@docker/setup.sh locks

clean: ## remove the demo and all caches; the environments stay
	@rm -rf $(DEMO) .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse metastore_db
	@find . -name __pycache__ -not -path './.venv*' -not -path './.uv*' -prune -exec rm -rf {} +
