# The commands of a person and of CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
LOCKS := docker/requirements
# Spark binds to loopback; workers use the environment's own interpreter; a run outside the repository root still finds the rooms.
export SPARK_LOCAL_IP ?= 127.0.0.1
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python
export PYTHONPATH := $(CURDIR)

.PHONY: help setup demo test test-slow check nightly backfill docs locks clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: .venv/.jobs .venv/.jars .venv-airflow/.airflow ## install both environments from their locks (nothing to do: under a second)

.venv/.jobs: $(LOCKS)/jobs.lock $(LOCKS)/bootstrap.lock
	@docker/setup.sh java
	@docker/setup.sh jobs
	@touch $@

.venv/.jars: .venv/.jobs $(LOCKS)/jars.sha256
	@docker/setup.sh jars
	@touch $@

.venv-airflow/.airflow: $(LOCKS)/airflow.lock $(LOCKS)/bootstrap.lock
	@docker/setup.sh airflow
	@touch $@
