"""What tests of several rooms share; pyspark is imported only where a test asks for Spark, so that the others stay quick."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    """The one Spark session of a test run: starting one takes longer than most tests."""
    from jobs.io.session import open_session
    from schemas.settings import SparkSettings

    with open_session("tests", SparkSettings(driver_memory="3g")) as session:
        # On a handful of rows the time goes into compiling plans, not into running them.
        session.conf.set("spark.sql.codegen.wholeStage", "false")
        yield session


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    """A warehouse of the test's own, without tables."""
    return str(tmp_path / "warehouse")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets, which are not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not beside this checkout")
    return folder
