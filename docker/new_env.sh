#!/usr/bin/env bash
# Writes the settings and secrets that compose.yaml asks for, each secret made anew; an existing file is left alone.
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

# What the Spark worker offers; the engine takes memory of its own beside it.
SPARK_CORES=2
SPARK_MEMORY=4g

# Where this machine opens what; always on loopback.
AIRFLOW_PORT=8080
SPARK_UI_PORT=8081
VLLM_PORT=8000
S3_PORT=8333

# Log in to Airflow as admin with this password.
AIRFLOW_PASSWORD=$(hex 12)

# Secrets. Changing POSTGRES_PASSWORD or AIRFLOW_FERNET_KEY later loses what was stored with them.
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
