#!/usr/bin/env bash
# Writes the settings of compose.yaml and newly generated secrets; refuses to overwrite an existing file.
# usage: docker/new_env.sh [FILE]     (default: docker/.env)
set -euo pipefail
file=${1:-$(dirname "$0")/.env}
[ ! -e "$file" ] || { printf '%s exists; move it away first (its passwords may be in use).\n' "$file" >&2; exit 1; }

hex() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }

umask 077
cat >"$file" <<END
# Folder with the day folders dt=YYYY-MM-DD, read by user 10001. Relative paths begin at docker/.
NIGHTFOLD_LOGS=../logs
NIGHTFOLD_MAPPING=canonical

# What each Spark worker offers. The engine needs memory on top of it.
SPARK_CORES=2
SPARK_MEMORY=4g

# Ports on this machine, all bound to loopback.
AIRFLOW_PORT=8080
SPARK_UI_PORT=8081
VLLM_PORT=8000
S3_PORT=8333

# The password of Airflow's user admin.
AIRFLOW_PASSWORD=$(hex 12)

# Secrets. Data stored under POSTGRES_PASSWORD or AIRFLOW_FERNET_KEY becomes unreadable when they change.
POSTGRES_PASSWORD=$(hex 24)
AIRFLOW_FERNET_KEY=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')
AIRFLOW_JWT_SECRET=$(hex 32)
AIRFLOW_SECRET_KEY=$(hex 32)
SPARK_SECRET=$(hex 32)
VLLM_API_KEY=$(hex 24)
S3_ACCESS_KEY=$(hex 10)
S3_SECRET_KEY=$(hex 24)
END
printf 'wrote %s\n' "$file"
