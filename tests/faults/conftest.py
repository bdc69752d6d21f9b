"""The stage on which the faults of a test run happen: its logs and undisturbed warehouses are made once."""

import pytest

from tests.faults.scenes import Stage


@pytest.fixture(scope="session")
def stage(spark, tmp_path_factory) -> Stage:
    """The logs, settings and undisturbed warehouses of all scenes."""
    return Stage(spark, tmp_path_factory.mktemp("stage"))
