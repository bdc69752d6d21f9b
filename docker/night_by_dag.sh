#!/usr/bin/env bash
# Runs one night through the nightly DAG: every task, by Airflow's own machinery, but without a scheduler.
# Prints the jobs' messages; the full log is build/airflow/night-DATE.log. Tasks are not retried.
# usage: LOGS=... WAREHOUSE=... [MAPPING=...] [CONFIG=...] docker/night_by_dag.sh DATE
set -euo pipefail
die() { printf 'night_by_dag: %s\n' "$*" >&2; exit 2; }

umask 077
day=${1:-}
[[ $day =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] && next=$(date -u -d "$day + 1 day" +%F 2>/dev/null) ||
  die "'$day' is no date; write YYYY-MM-DD"
logs=$(cd "$(dirname "$0")/.." && pwd)/build/airflow
mkdir -p "$logs"
AIRFLOW_HOME=$(mktemp -d "$logs/night-$day.XXXXXX")
trap 'rm -rf "$AIRFLOW_HOME"' EXIT
source "$(dirname "$0")/airflow_env.sh"
[ -e "$AIRFLOW_VAR_NIGHTFOLD_LOGS/dt=$day/_SUCCESS" ] ||
  die "$AIRFLOW_VAR_NIGHTFOLD_LOGS/dt=$day does not exist, or has no _SUCCESS"

log=$logs/night-$day.log
mkdir "$AIRFLOW_HOME/config"
printf 'def task_policy(task):\n    task.retries = 0\n' >"$AIRFLOW_HOME/config/airflow_local_settings.py"
cp "$root/.venv-airflow/empty.db" "$AIRFLOW_HOME/airflow.db" || die "Airflow is not set up; run make setup"
: >"$log"
# A run started by hand takes the last day that ended before its logical date.
airflow dags test profiles_nightly "${next}T12:00:00+00:00" 2>&1 | tee -a "$log" |
  sed -unE 's/^[^[]*\[info +\] ([a-z]+_[a-z]+( [0-9.-]+)?: .*) \[airflow\..*SparkSubmitHook\].*$/\1/p' && exit 0
task=$(sed -nE 's/.*\[DAG TEST\] running task .*profiles_nightly\.([a-z_]+) .*/\1/p' "$log" | tail -n 1)
printf 'night_by_dag: %s failed; its last messages:\n' "${task:-the DAG}" >&2
sed -nE '/^Last spark-submit output:/,/^[0-9]{4}-[0-9]{2}-[0-9]{2}T/ { /^(Last|[0-9]{4}-)/d; /./p }' "$log" |
  grep . | tail -n 3 | cut -c1-300 >&2 ||
  tail -n 3 "$log" | cut -c1-300 >&2
printf 'night_by_dag: the full log is %s\n' "$log" >&2
exit 1
