# Airflow on top of the job environment. With LocalExecutor a task runs in the scheduler's container, and each
# task is one spark-submit, so that container needs both environments. The base is the jobs image, not
# Airflow's own: the packages come from the committed lock, driver and executors have the same files, and
# there is one base to update. Build it after the jobs image:
#   docker build -f docker/airflow.Dockerfile -t nightfold-airflow:0.1.0 .
ARG JOBS=nightfold-jobs:0.1.0

FROM docker.io/library/python:3.11.16-slim-bookworm@sha256:fe556eaffd0d96abd8685b83bb8a69addd0dc730fa193669a7df0d49ddcfac02 AS build
WORKDIR /opt/nightfold
COPY docker/setup.sh docker/
COPY docker/requirements/bootstrap.lock docker/requirements/airflow.lock docker/requirements/
RUN docker/setup.sh airflow

FROM ${JOBS}
USER 0:0
WORKDIR /opt/nightfold
RUN install -d -o nightfold -g nightfold /opt/airflow /var/log/airflow
COPY --from=build /opt/nightfold/.venv-airflow .venv-airflow
COPY dags dags
# With the root off PYTHONPATH no DAG can import a job; tasks pass the root to spark-submit themselves.
ENV PATH=/opt/nightfold/.venv-airflow/bin:$PATH \
    PYTHONPATH= \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/nightfold/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=/var/log/airflow
USER 10001:10001
CMD ["airflow", "version"]
