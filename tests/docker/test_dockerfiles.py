"""The Dockerfiles without an engine: hadolint, and the rules it does not know."""

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
    """One instruction, its lines joined."""

    word: str
    rest: str


def steps(path: Path) -> Iterator[Step]:
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, rest = line.split(None, 1)
        yield Step(word, " ".join(rest.split()))


def test_there_are_two():
    assert [path.name for path in FILES] == ["airflow.Dockerfile", "jobs.Dockerfile"]


@every_file
def test_hadolint_finds_nothing(path):
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    assert hadolint, "hadolint is in jobs.lock: make setup"
    run = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")


@every_file
def test_every_base_is_one_exact_version(path):
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


def test_both_stand_on_the_same_python():
    found = {
        image
        for path in FILES
        for image in re.findall(r"^FROM (docker\.io/\S+)", path.read_text(encoding="utf-8"), re.M)
    }
    assert len(found) == 1


@every_file
def test_the_last_user_is_not_root(path):
    *_, user = (step.rest for step in steps(path) if step.word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@every_file
def test_nothing_is_fetched_but_by_the_locks(path):
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
    """What the file copies out of the repository."""
    return [
        source
        for step in steps(path)
        if step.word == "COPY" and not step.rest.startswith("--from")
        for source in step.rest.split()[:-1]
    ]


@every_file
def test_what_is_copied_exists_and_enters_the_build(path):
    ignore = path.with_name(f"{path.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    assert "*" in ignore, "everything stays out but what is named"
    assert all((ROOT / name).exists() for name in kept)
    for source in copied(path):
        assert (ROOT / source).exists()
        assert any(source == name or source.startswith(f"{name}/") for name in kept), source


@every_file
def test_a_stage_that_is_copied_from_is_there(path):
    stages = {step.rest.partition(" AS ")[2] for step in steps(path) if step.word == "FROM"}
    for step in steps(path):
        if step.word == "COPY" and step.rest.startswith("--from="):
            assert step.rest.split()[0].removeprefix("--from=") in stages


def test_the_jobs_image_has_the_rooms_and_no_other_code():
    assert {name for name in copied(ROOT / "docker/jobs.Dockerfile") if (ROOT / name).is_dir()} == {
        "schemas",
        "udfs",
        "jobs",
    }


def test_set_up_knows_what_the_images_ask_of_it():
    known = set(re.findall(r"^  ([\w-]+)\)", (ROOT / "docker/setup.sh").read_text(encoding="utf-8"), re.M))
    run = [step.rest for path in FILES for step in steps(path) if step.word == "RUN"]
    asked = {word for command in run for word in re.findall(r"docker/setup\.sh ([\w-]+)", command)}
    assert asked == {"jobs", "jars", "s3-jars", "airflow"} and asked <= known


def test_what_the_image_leaves_out_is_in_the_lock():
    (removed,) = re.findall(
        r"uv pip uninstall .*?python (?!\.)(.*)",
        (ROOT / "docker/jobs.Dockerfile").read_text(encoding="utf-8"),
    )
    lock = (ROOT / "docker/requirements/jobs.lock").read_text(encoding="utf-8")
    names = removed.removeprefix(".venv/bin/python ").split()
    assert names and [name for name in names if f"\n{name}==" not in f"\n{lock}"] == []
