"""Fixtures that several rooms share.

pyspark is imported only inside the fixtures that need it, so that tests without Spark stay quick.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.io.days import Days
    from jobs.io.runs import Run
    from jobs.io.warehouse import Warehouse

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:
    """The one Spark session of a test run: starting one takes longer than most tests."""
    from jobs.io.session import open_session
    from schemas.settings import SparkSettings

    # A new session is fitted to small inputs: on a handful of rows, compiling plans would dominate.
    with open_session("tests", SparkSettings(driver_memory="3g")) as session:
        yield session


@pytest.fixture(scope="module", autouse=True)
def forget_tables() -> Iterator[None]:
    """Lets Java forget the tables of a module: a run makes thousands, and Delta keeps the state of each."""
    yield
    if "pyspark" not in sys.modules:
        return
    from pyspark.sql import SparkSession

    if session := SparkSession._instantiatedSession:
        session._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.fixture
def warehouse(tmp_path: Path) -> str:
    """The folder of the test's own warehouse, without tables."""
    return str(tmp_path / "warehouse")


@pytest.fixture(scope="session")
def warehouse_at(spark: "SparkSession") -> Callable[[object], "Warehouse"]:
    """Opens the warehouse in a folder."""
    from jobs.io.warehouse import Warehouse

    return lambda folder: Warehouse(spark, str(folder))


@pytest.fixture(scope="session")
def run_on(
    warehouse_at: Callable[[object], "Warehouse"],
) -> Callable[..., AbstractContextManager["Run"]]:
    """An unrecorded run of a job on the warehouse in a folder, with its writer, while the context lasts.

    For tests of a job's work without its command.
    """
    from jobs.io.days import Days
    from jobs.io.runs import Run, RunLog, RunSpec
    from jobs.io.warehouse import open_writer

    @contextmanager
    def open_run(folder: object, job: str = "test", days: "Days | None" = None) -> Iterator["Run"]:
        opened = warehouse_at(folder)
        spec = RunSpec(job, "r", days or Days.only(date(2025, 3, 3)), "c")
        with open_writer(opened, "a test") as writer:
            yield Run(RunLog(opened), writer, spec)

    return open_run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets, which are not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data sets are not beside this checkout")
    return folder
