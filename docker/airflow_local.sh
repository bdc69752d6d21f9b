#!/usr/bin/env bash
# A local Airflow to try out the DAGs: no scheduled runs, loopback only, stopped by Ctrl-C.
# (`airflow standalone` would serve its task logs to the entire network.)
# usage: [LOGS=...] [WAREHOUSE=...] [MAPPING=...] [CONFIG=...] docker/airflow_local.sh
set -euo pipefail
source "$(dirname "$0")/airflow_env.sh"
say() { printf '%s\n' "$*"; }
die() { say "airflow: $*" >&2; exit 1; }

mkdir -p "$AIRFLOW_HOME"
chmod 700 "$AIRFLOW_HOME" # an older one may hold a password that others can read
say "Airflow is starting (logs: $AIRFLOW_HOME) ..."
airflow db migrate >"$AIRFLOW_HOME/migrate.log" 2>&1 ||
  die "its database could not be created; see $AIRFLOW_HOME/migrate.log"
airflow dags reserialize >"$AIRFLOW_HOME/reserialize.log" 2>&1 ||
  die "the DAGs could not be read; see $AIRFLOW_HOME/reserialize.log"

set -m # each part leads a process group, so that its children end with it
parts=()
start() { airflow "$@" >"$AIRFLOW_HOME/$1.log" 2>&1 </dev/null & parts+=($!); }
stop() {
  trap '' INT TERM
  for part in "${parts[@]}"; do kill -TERM -- "-$part" 2>/dev/null || true; done
  for _ in {1..100}; do jobs -r | grep -q . || break; sleep 0.1; done
  for part in "${parts[@]}"; do kill -KILL -- "-$part" 2>/dev/null || true; done
}
trap stop EXIT
trap 'exit 0' INT TERM
start api-server
start dag-processor
start scheduler --skip-serve-logs
start triggerer --skip-serve-logs
set +m

alive() { for part in "${parts[@]}"; do kill -0 "$part" 2>/dev/null || return 1; done; }
healthy() {
  "$root/.venv-airflow/bin/python" - "$AIRFLOW__API__BASE_URL/api/v2/monitor/health" 2>/dev/null <<'PYTHON'
import json, sys, urllib.request
parts = json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=5))
names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
sys.exit(any(parts[name]["status"] != "healthy" for name in names))
PYTHON
}
for _ in {1..120}; do
  alive || die "it stopped while starting; see the logs in $AIRFLOW_HOME" \
    "(if port $AIRFLOW_PORT is in use, set AIRFLOW_PORT=8081)"
  ! healthy || break
  sleep 1
done
healthy || die "it did not become healthy; see the logs in $AIRFLOW_HOME"

password=$(sed -nE 's/.*"admin": *"([^"]*)".*/\1/p' "$AIRFLOW_HOME/simple_auth_manager_passwords.json.generated")
say ""
say "  Address    $AIRFLOW__API__BASE_URL"
say "  Login      admin, password $password"
say "  Nights     $AIRFLOW__API__BASE_URL/dags/profiles_nightly  (Trigger; noon of a day runs the day before)"
say "  Logs       $AIRFLOW_VAR_NIGHTFOLD_LOGS"
say "  Warehouse  $AIRFLOW_VAR_NIGHTFOLD_WAREHOUSE"
[ -d "$AIRFLOW_VAR_NIGHTFOLD_LOGS" ] || say "  No logs there yet: run make demo, or give LOGS= and WAREHOUSE=."
say ""
say "Ctrl-C ends it."
while alive; do sleep 1; done
die "one of its processes ended; see the logs in $AIRFLOW_HOME"
