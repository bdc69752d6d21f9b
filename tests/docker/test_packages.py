"""The zip for --py-files and the images contain all of jobs, schemas and udfs, with their data files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.docker.test_dockerfiles import FILES, ROOT, copied, steps

PACKAGES = ("jobs", "schemas", "udfs")
SOURCES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
)
# Imports every module of the three packages, and reads every data file through its package.
IMPORT_ALL = """
import importlib, importlib.resources, json, sys
for name in json.loads(sys.argv[1]):
    module = importlib.import_module(name)
    assert ".zip" in module.__file__, module.__file__
for folder, name in json.loads(sys.argv[2]):
    package, *inner = folder.split("/")
    assert importlib.resources.files(package).joinpath(*inner, name).read_text(encoding="utf-8")
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("zip") / "nightfold.zip")


def written(path: Path) -> Path:
    subprocess.run([sys.executable, ROOT / "docker/zip_jobs.py", path], check=True, capture_output=True)
    return path


def test_the_zip_has_every_file_unchanged(archive):
    with ZipFile(archive) as content:
        assert content.testzip() is None
        assert content.namelist() == [str(path.relative_to(ROOT)) for path in SOURCES]
        assert all(content.read(str(path.relative_to(ROOT))) == path.read_bytes() for path in SOURCES)


def test_every_package_in_the_zip_has_its_empty_init_file(archive):
    with ZipFile(archive) as content:
        sizes = {entry.filename: entry.file_size for entry in content.infolist()}
    folders = {str(path.parent.relative_to(ROOT)) for path in SOURCES if path.suffix == ".py"}
    assert {"jobs/io", "jobs/ingest", "jobs/embed", "jobs/fold", "jobs/night"} <= folders
    assert {"udfs/engines", "udfs/fold"} <= folders
    assert {folder: sizes.get(f"{folder}/__init__.py") for folder in folders} == dict.fromkeys(folders, 0)


def test_the_same_files_give_the_same_zip(archive, tmp_path):
    assert archive.read_bytes() == written(tmp_path / "again.zip").read_bytes()


def test_modules_and_data_files_are_usable_from_the_zip(archive, tmp_path):
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if path.suffix == ".py"
    ]
    data = [
        (str(path.parent.relative_to(ROOT)), path.name) for path in SOURCES if path.suffix not in (".py", "")
    ]
    assert ("schemas/log_mappings", "canonical.yaml") in data and ("jobs/io", "log4j2.properties") in data
    names = [name.removesuffix(".__init__") for name in modules]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, json.dumps(names), json.dumps(data)],
        env=os.environ | {"PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_compiled_files_are_left_out_of_a_copied_folder(path):
    lines = path.with_name(f"{path.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    left_out = [line for line in lines if line and not line.startswith(("#", "!"))]
    assert left_out == ["*", "**/__pycache__"]


def test_the_jobs_image_gets_each_package_as_a_folder():
    path = ROOT / "docker/jobs.Dockerfile"
    assert set(PACKAGES) <= set(copied(path))
    final = [
        step.rest for step in steps(path) if step.word == "COPY" and step.rest.startswith("--from=build")
    ]
    assert {f"--from=build /opt/nightfold/{package} {package}" for package in PACKAGES} <= set(final)
