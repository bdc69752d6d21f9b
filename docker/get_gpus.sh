#!/usr/bin/env bash
# Spark's GPU discovery script: prints the GPUs of this machine in the JSON form that Spark expects.
# spark.worker.resource.gpu.discoveryScript or spark.executor.resource.gpu.discoveryScript names it.
set -euo pipefail
die() { printf 'get_gpus: %s\n' "$*" >&2; exit 1; }

command -v nvidia-smi >/dev/null || die "there is no nvidia-smi on PATH; install the NVIDIA driver"
found=$(nvidia-smi --query-gpu=index --format=csv,noheader) || die "nvidia-smi failed: ${found:-it gave no reason}"
addresses=()
while read -r index; do
  # nvidia-smi reports some failures as text with exit status 0, and Spark would take the text for a GPU.
  [[ $index =~ ^[0-9]+$ ]] || die "nvidia-smi lists no GPU: ${index:-its list is empty}"
  addresses+=("\"$index\"")
done <<<"$found"
printf '{"name": "gpu", "addresses": [%s]}\n' "$(IFS=,; printf '%s' "${addresses[*]}")"
