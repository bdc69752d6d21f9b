"""The demo log that these tests share, and its usable events."""

from pathlib import Path
from typing import Any

import pytest

from tests.jobs.demo.reading import good_events, make


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "logs")


@pytest.fixture(scope="session")
def events(logs: Path) -> list[dict[str, Any]]:
    return good_events(logs)
