"""Collects the DAG tests only where Airflow is installed; `make test` runs pytest in both environments.

Airflow reads its settings when it is imported, so they are set here, with a temporary AIRFLOW_HOME.
"""

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
collect_ignore_glob = [] if importlib.util.find_spec("airflow") else ["test_*.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="rewrite the golden commands")


if not collect_ignore_glob:
    # Referenced for the lifetime of this module, so that the folder is removed when pytest ends.
    home = tempfile.TemporaryDirectory(prefix="airflow-tests-")
    settings = subprocess.run(
        ["bash", "-c", 'source "$0" && env -0', str(ROOT / "docker" / "airflow_env.sh")],
        env=os.environ | {"AIRFLOW_HOME": home.name},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    os.environ |= dict(line.split("=", 1) for line in settings.split("\0") if line)


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's database, for the tests that run a DAG."""
    subprocess.run(["airflow", "db", "migrate"], check=True, capture_output=True)
