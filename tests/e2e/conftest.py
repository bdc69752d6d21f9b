"""A generated log and its nights, made once for all end-to-end tests; a test that writes works on a copy."""

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs import make_demo_logs, run_night
from tests.e2e.tables import call

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
# With this seed a short log has retractions and every kind of planted error.
DRAWN = ["--days", str(len(DAYS)), "--users", "35", "--seed", "9", "--start", str(FIRST)]


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of a generated log."""
    folder = tmp_path_factory.mktemp("demo") / "logs"
    assert make_demo_logs.main(["--logs", str(folder), *DRAWN]) == 0
    return folder


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Settings with the hash engine."""
    file = tmp_path_factory.mktemp("config") / "hash.yaml"
    file.write_text("engine: {kind: hash, tile_texts: 40}\n", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="session")
def after_nights(spark, logs, config, tmp_path_factory) -> Callable[[int], Path]:
    """after_nights(n): the warehouse after the first n nights of the log, to be read or copied."""
    warehouses: list[Path] = []

    def after(count: int) -> Path:
        for day in DAYS[len(warehouses) : count]:
            warehouse = tmp_path_factory.mktemp("nights") / "w"
            if warehouses:
                shutil.copytree(warehouses[-1], warehouse)
            bootstrap = [] if warehouses else ["--bootstrap"]
            call(spark, run_night, warehouse, config, "--logs", logs, "--date", day, *bootstrap)
            warehouses.append(warehouse)
        return warehouses[count - 1]

    return after
