"""Spark's GPU discovery script, with a fake nvidia-smi."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "docker/get_gpus.sh"


def discover(folder: Path, nvidia_smi: str | None) -> subprocess.CompletedProcess[str]:
    """The script's outcome where nvidia-smi is this shell code; None: where there is no nvidia-smi."""
    for program in ("bash", "env"):
        (folder / program).symlink_to(Path("/usr/bin") / program)
    if nvidia_smi is not None:
        (folder / "nvidia-smi").write_text(f"#!/bin/bash\n{nvidia_smi}\n", encoding="utf-8")
        (folder / "nvidia-smi").chmod(0o755)
    return subprocess.run([SCRIPT], env={"PATH": str(folder)}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("listed", "addresses"),
    [("echo 0", ["0"]), ("printf '0\\n1\\n'", ["0", "1"]), ("printf '3\\n10\\n7\\n'", ["3", "10", "7"])],
)
def test_the_gpus_are_printed_as_spark_reads_them(tmp_path, listed, addresses):
    # Only for the query that lists indices, one a line, without a header.
    query = f'[ "$*" = "--query-gpu=index --format=csv,noheader" ] && {listed}'
    run = discover(tmp_path, query)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("\n") == 1 and json.loads(run.stdout) == {"name": "gpu", "addresses": addresses}


@pytest.mark.parametrize(
    ("nvidia_smi", "sentence"),
    [
        (None, "there is no nvidia-smi on PATH; install the NVIDIA driver"),
        ("echo Failed to initialize NVML; exit 9", "nvidia-smi failed: Failed to initialize NVML"),
        ("exit 1", "nvidia-smi failed: it gave no reason"),
        ("echo No devices were found", "nvidia-smi lists no GPU: No devices were found"),
        ("exit 0", "nvidia-smi lists no GPU: its list is empty"),
        ("""echo '0"], "x": ["'""", "nvidia-smi lists no GPU"),
    ],
)
def test_without_a_gpu_the_script_fails_with_one_sentence(tmp_path, nvidia_smi, sentence):
    run = discover(tmp_path, nvidia_smi)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith(f"get_gpus: {sentence}") and run.stderr.count("\n") == 1
