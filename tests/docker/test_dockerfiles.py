"""The Dockerfiles, checked without Docker: by hadolint, and by rules that hadolint does not have."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PINNED = re.compile(r"docker\.io/[\w./-]+:\d+(\.\d+)+[\w.-]*@sha256:[0-9a-f]{64}")

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


class Step(NamedTuple):
    """One instruction, with its lines joined."""

    word: str
    rest: str


def steps(path: Path) -> Iterator[Step]:
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, rest = line.split(None, 1)
        yield Step(word, " ".join(rest.split()))


def test_there_are_two_dockerfiles():
    assert [path.name for path in FILES] == ["airflow.Dockerfile", "jobs.Dockerfile"]


@every_file
def test_hadolint_finds_nothing(path):
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    assert hadolint, "hadolint is part of jobs.lock; run make setup"
    run = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


@every_file
def test_every_base_is_pinned(path):
    arguments, stages = {}, set()
    for step in steps(path):
        if step.word == "ARG" and "=" in step.rest:
            name, value = step.rest.split("=", 1)
            arguments[f"${{{name}}}"] = value
        elif step.word == "FROM":
            image, _, stage = step.rest.partition(" AS ")
            image = arguments.get(image, image)
            assert image in stages or image == "nightfold-jobs:0.1.0" or PINNED.fullmatch(image), image
            stages.add(stage)


def test_both_have_the_same_python():
    found = {
        image
        for path in FILES
        for image in re.findall(r"^FROM (docker\.io/\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(found) == 1


@every_file
def test_the_last_user_is_not_root(path):
    *_, user = (step.rest for step in steps(path) if step.word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@every_file
def test_packages_come_only_from_the_locks_and_apt(path):
    for step in steps(path):
        assert step.word != "ADD"
        assert not re.search(r"\b(curl|wget|git clone|pip install|npm)\b", step.rest), step.rest
        if "apt-get" in step.rest:
            assert "apt-get update &&" in step.rest and "rm -rf /var/lib/apt/lists/*" in step.rest
            assert re.search(r"apt-get install -y --no-install-recommends ", step.rest)


@every_file
def test_no_secret_is_built_in(path):
    for step in steps(path):
        if step.word in ("ARG", "ENV"):
            assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", step.rest), step.rest


def copied(path: Path) -> list[str]:
    """The files and folders that a Dockerfile copies from the repository."""
    return [
        source
        for step in steps(path)
        if step.word == "COPY" and not step.rest.startswith("--from")
        for source in step.rest.split()[:-1]
    ]


@every_file
def test_copied_files_exist_and_enter_the_build(path):
    ignore = path.with_name(f"{path.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore, "only named files may enter the build"
    assert all((ROOT / name).exists() for name in kept)
    for source in copied(path):
        assert (ROOT / source).exists()
        assert any(source == name or source.startswith(f"{name}/") for name in kept), source


@every_file
def test_a_stage_that_is_copied_from_exists(path):
    stages = {step.rest.partition(" AS ")[2] for step in steps(path) if step.word == "FROM"}
    for step in steps(path):
        if step.word == "COPY" and step.rest.startswith("--from="):
            assert step.rest.split()[0].removeprefix("--from=") in stages


def test_the_jobs_image_has_our_three_packages_and_no_other_folder():
    assert {name for name in copied(ROOT / "docker/jobs.Dockerfile") if (ROOT / name).is_dir()} == {
        "schemas",
        "udfs",
        "jobs",
    }


def test_set_up_has_the_commands_that_the_images_use():
    known = set(
        re.findall(r"^  ([\w-]+)\)", (ROOT / "docker/setup.sh").read_text(encoding="utf-8"), re.MULTILINE)
    )
    run = [step.rest for path in FILES for step in steps(path) if step.word == "RUN"]
    used = {word for command in run for word in re.findall(r"docker/setup\.sh ([\w-]+)", command)}
    assert used == {"jobs", "jobs-gpu", "jars", "s3-jars", "airflow"} and used <= known


def test_the_gpu_switch_selects_the_lock_and_a_compiler():
    found = list(steps(ROOT / "docker/jobs.Dockerfile"))
    switched = [step.rest for step in found if step.word == "RUN" and '"$GPU"' in step.rest]
    assert len(switched) == 2
    assert (
        'if [ "$GPU" = 1 ]; then apt-get install -y --no-install-recommends gcc libc6-dev; fi' in switched[0]
    )
    assert switched[1] == 'if [ "$GPU" = 1 ]; then docker/setup.sh jobs-gpu; else docker/setup.sh jobs; fi'
    # An ARG ends with its stage: each stage that uses one declares it, and the CPU is the default.
    stages = "\n".join(f"{step.word} {step.rest}" for step in found).split("FROM ")[1:]
    assert ["ARG GPU=0" in stage for stage in stages] == ['"$GPU"' in stage for stage in stages]
    assert [found.count(Step("COPY", step.rest)) for step in found if "jobs-gpu.lock" in step.rest] == [1]


@pytest.mark.parametrize("lock", ["jobs.lock", "jobs-gpu.lock"])
def test_packages_that_the_image_removes_are_in_the_lock(lock):
    (removed,) = re.findall(
        r"uv pip uninstall .*?python (?!\.)(.*)",
        (ROOT / "docker/jobs.Dockerfile").read_text(encoding="utf-8"),
    )
    text = (ROOT / "docker/requirements" / lock).read_text(encoding="utf-8")
    names = removed.removeprefix(".venv/bin/python ").split()
    assert names and [name for name in names if f"\n{name}==" not in f"\n{text}"] == []
