#!/usr/bin/env bash
# Sets up one environment from its committed lock. `make setup` calls it for each one whose lock changed.
# usage: docker/setup.sh java | jobs | jobs-gpu | airflow | jars | archive | s3-jars | locks [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
locks=docker/requirements

say() { printf '%s\n' "$*"; }
die() { printf 'set-up: %s\n' "$*" >&2; exit 1; }

find_python() {
  for candidate in python3.11 python3.12 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  die "install Python 3.11 or 3.12 with its venv module (on Debian 12: apt-get install python3 python3-venv)."
}

java_major() { java -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -n 1; }

environment() { # FOLDER LOCK
  local folder=$1 lock=$2 python
  [ -x .uv/bin/uv ] || {
    python=$(find_python)
    "$python" -m venv .uv
    .uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $locks/bootstrap.lock
  }
  [ -x "$folder/bin/python" ] || { python=$(find_python); .uv/bin/uv venv --quiet --python "$python" "$folder"; }
  say "set-up: installing $(grep -c '==' "$lock") locked packages into $folder (takes minutes the first time)"
  # Compile here, once: in a read-only environment each process would compile its imports, 10 s for vLLM.
  UV_COMPILE_BYTECODE=1 .uv/bin/uv pip sync --quiet --python "$folder/bin/python" --require-hashes "$lock"
}

# The job environment of one kind. Without a stamp of either kind, an interrupted installation is repeated.
job_environment() { # KIND, the name of its lock
  rm -f .venv/.jobs .venv/.jobs-gpu
  environment .venv "$locks/$1.lock"
}

# On a GPU vLLM runs Triton kernels, and Triton compiles a small C module when the engine starts.
check_compiler() {
  local headers
  headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
  { [ -n "${CC:-}" ] || command -v gcc || command -v clang; } >/dev/null && [ -f "$headers/Python.h" ] ||
    say "set-up: the engine needs a C compiler and Python's headers (on Debian: apt-get install gcc python3-dev)"
}

# Fetches the listed jars into Spark's own folder, by Spark's resolver; sessions need not resolve them.
jars() { # LIST PACKAGE
  local list=$1 package=$2 folder name found
  folder=$(.venv/bin/python -c 'import pyspark, pathlib; print(pathlib.Path(pyspark.__file__).parent / "jars")')
  if ! (cd "$folder" && sha256sum --check --status) <"$list" 2>/dev/null; then
    say "set-up: fetching $package"
    cache=$(mktemp -d)
    trap 'rm -rf "$cache"' EXIT
    SPARK_LOCAL_IP=127.0.0.1 PYSPARK_PYTHON=$PWD/.venv/bin/python .venv/bin/spark-submit --packages "$package" \
      --conf spark.jars.ivy="$cache" --class none no.jar >"$cache/log" 2>&1 || true
    while read -r _ name; do
      found=$(find "$cache/jars" -name "*_$name" 2>/dev/null | head -n 1)
      [ -n "$found" ] || { tail -n 5 "$cache/log" >&2; die "$name could not be fetched from the Maven repository."; }
      cp "$found" "$folder/$name"
    done <"$list"
    (cd "$folder" && sha256sum --check --quiet) <"$list" || die "a fetched jar's checksum differs from $list."
  fi
}

case "${1:-}" in
  java)
    major=$(java_major || true)
    if [ -z "$major" ]; then
      if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "set-up: installing a Java runtime"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless >/dev/null ||
          die "Java could not be installed; install Java 17 or 21 and rerun."
      else
        die "Spark needs Java 17 or 21; install it (on Debian: sudo apt-get install openjdk-17-jre-headless) and rerun."
      fi
    elif [ "$major" -lt 17 ]; then
      die "Spark needs Java 17 or 21, and 'java' here is version $major."
    fi ;;
  jobs) job_environment jobs ;;
  jobs-gpu)
    job_environment jobs-gpu
    check_compiler ;;
  airflow)
    environment .venv-airflow $locks/airflow.lock
    # Create Airflow's empty tables once: each night through the DAG starts from a copy.
    home=$(mktemp -d)
    trap 'rm -rf "$home"' EXIT
    rm -f .venv-airflow/empty.db
    AIRFLOW_HOME=$home AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:///$home/airflow.db \
      .venv-airflow/bin/airflow db migrate >"$home/log" 2>&1 ||
      { tail -n 3 "$home/log" >&2; die "Airflow's database could not be created."; }
    cp "$home/airflow.db" .venv-airflow/empty.db ;;
  # Delta's other dependencies ship with Spark, some in newer versions, and must not be duplicated.
  jars) jars $locks/jars.sha256 io.delta:delta-spark_4.2_2.13:4.4.0 ;;
  # The s3a:// file system; the Hadoop version is that of Spark's own jars.
  s3-jars) jars $locks/s3-jars.sha256 org.apache.hadoop:hadoop-aws:3.5.0 ;;
  archive)
    # Class data sharing: Java maps the classes that a small night loads, which saves 5 s in each later start.
    say "set-up: archiving Spark's classes, so that sessions start sooner"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    rm -f .venv/spark.jsa
    printf 'engine: {kind: hash}\n' >"$work/hash.yaml"
    export PYTHONPATH=$PWD SPARK_LOCAL_IP=127.0.0.1
    .venv/bin/python -m jobs.make_demo_logs --logs "$work/logs" --days 2 --users 4 --start 2025-03-03 >"$work/log" 2>&1 &&
      PYSPARK_PYTHON=$PWD/.venv/bin/python .venv/bin/spark-submit --master "local[2]" --conf spark.ui.enabled=false \
        --driver-java-options "-XX:+UseParallelGC -XX:ArchiveClassesAtExit=$PWD/.venv/spark.jsa" jobs/run_night.py \
        --logs "$work/logs" --warehouse "$work/warehouse" --config "$work/hash.yaml" --date 2025-03-03 --bootstrap \
        >>"$work/log" 2>&1 ||
      { tail -n 3 "$work/log" >&2; rm -f .venv/spark.jsa; say "set-up: the archive failed; sessions start 5 s later."; } ;;
  locks)
    # A lock that exists keeps its versions; only what the .in file no longer allows is resolved anew.
    folder=${2:-$locks}
    for name in jobs jobs-gpu airflow bootstrap; do
      overrides=()
      [ "$name" != jobs ] || overrides=(--override "$folder/overrides.txt")
      .uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-annotate --no-header "${overrides[@]}" -o "$folder/$name.lock" "$folder/$name.in"
    done ;;
  *) die "usage: docker/setup.sh java | jobs | jobs-gpu | airflow | jars | archive | s3-jars | locks [FOLDER]" ;;
esac
