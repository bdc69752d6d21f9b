# Sourced, not run: the settings of a local Airflow, for `make airflow`, `make night-by-dag` and the tests.
# Variables that are already set win: AIRFLOW_HOME, AIRFLOW_PORT, LOGS, WAREHOUSE, MAPPING, CONFIG,
# NIGHTFOLD_SPARK_CONF.
umask 077 # the generated password, the database and the logs are for this user alone
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
absolute() { case $1 in '' | *://*) printf '%s' "$1" ;; *) realpath -ms -- "$1" ;; esac; }

unset PYTHONPATH PYSPARK_PYTHON # they belong to the job environment; each task sets its own
export PATH=$root/.venv-airflow/bin:$PATH
export AIRFLOW_HOME=${AIRFLOW_HOME:-$root/build/airflow}
export AIRFLOW_PORT=${AIRFLOW_PORT:-8080}
export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:///$AIRFLOW_HOME/airflow.db
export AIRFLOW__CORE__DAGS_FOLDER=$root/dags
export AIRFLOW__CORE__LOAD_EXAMPLES=False
export AIRFLOW__CORE__EXECUTOR=LocalExecutor
export AIRFLOW__CORE__PARALLELISM=2
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL=http://127.0.0.1:$AIRFLOW_PORT/execution/
export AIRFLOW__API__HOST=127.0.0.1
export AIRFLOW__API__PORT=$AIRFLOW_PORT
export AIRFLOW__API__BASE_URL=http://127.0.0.1:$AIRFLOW_PORT
export AIRFLOW__API__WORKERS=1
export AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False
export AIRFLOW__LOGGING__COLORED_CONSOLE_LOG=False
# Airflow sets these modes itself.
export AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS=0o700
export AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS=0o600
# No run is scheduled here: the logs are of past days, and a night waiting for yesterday would block others.
# So the DAGs need not be paused, and a night triggered from its page starts at once.
export AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE=False
export AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=False

export AIRFLOW_CONN_SPARK_DEFAULT='{"conn_type": "spark", "host": "local[*]"}'
export AIRFLOW_CONN_FS_DEFAULT='{"conn_type": "fs"}'
export AIRFLOW_VAR_NIGHTFOLD_ROOT=$root
AIRFLOW_VAR_NIGHTFOLD_LOGS=$(absolute "${LOGS:-$root/demo/logs}")
AIRFLOW_VAR_NIGHTFOLD_WAREHOUSE=$(absolute "${WAREHOUSE:-$root/demo/warehouse}")
AIRFLOW_VAR_NIGHTFOLD_CONFIG=$(absolute "${CONFIG:-}")
export AIRFLOW_VAR_NIGHTFOLD_LOGS AIRFLOW_VAR_NIGHTFOLD_WAREHOUSE AIRFLOW_VAR_NIGHTFOLD_CONFIG
export AIRFLOW_VAR_NIGHTFOLD_MAPPING=${MAPPING:-canonical}
export SPARK_LOCAL_IP=127.0.0.1
# The settings of a job that starts its own session, except one.
spark_conf() {
  PYTHONPATH=$root "$root/.venv/bin/python" - "$AIRFLOW_VAR_NIGHTFOLD_CONFIG" <<'END'
import argparse, json, sys
from jobs.io.session import local_conf
from jobs.io.cli import settings_file
from schemas.settings import Settings

try:
    settings = settings_file(sys.argv[1]) if sys.argv[1] else Settings()
except argparse.ArgumentTypeError:
    settings = Settings()  # the job reports the error in the file
conf = {key: value for key, value in local_conf(settings.spark).items() if key != "spark.master"}
# A night is five short Java processes here; the C1 compiler alone saves 18 of 129 seconds.
conf["spark.driver.extraJavaOptions"] += " -XX:TieredStopAtLevel=1"
print(json.dumps(conf))
END
}
AIRFLOW_VAR_NIGHTFOLD_SPARK_CONF=${NIGHTFOLD_SPARK_CONF:-$(spark_conf)}
export AIRFLOW_VAR_NIGHTFOLD_SPARK_CONF
