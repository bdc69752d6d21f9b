"""The Spark session every job works in: Delta, UTC, loopback, and settings fit for the machine, each with its reason."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, Final

from pyspark import SparkConf
from pyspark.sql import SparkSession

from jobs.io.storage import located
from schemas.settings import SparkSettings

# What the results rest on: set in every session, submitted or not.
_ALWAYS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # A value that can't be read becomes NULL, and so a quarantined row with a reason; with ANSI on it would end the job.
    "spark.sql.ansi.enabled": "false",
    # A key that comes twice in a map would end the job too.
    "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
    # A plain Python UDF over a Delta scan hangs for ever with the default (SPARK-58241).
    "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
}

# What a cluster may know better: set only where spark-submit has not.
_DEFAULTS: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # No table goes into it, but Spark makes the folder, by default where the job was started.
    "spark.sql.warehouse.dir": f"{tempfile.gettempdir()}/spark-warehouse",
    # Vectors make wide rows: a batch of 384 floats is then 30 MB at most.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
    # What lies together by user is joined by user and facet where it is.
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
    # A vector's numbers do not repeat, and say nothing one by one: looking for that costs a third of writing them, counting them a seventh.
    "spark.hadoop.parquet.enable.dictionary#vector.list.element": "false",
    "spark.hadoop.parquet.column.statistics.enabled#vector.list.element": "false",
    "spark.hadoop.parquet.size.statistics.enabled#vector.list.element": "false",
    # Else each call that makes a column looks up the line it stands on, for messages that people who write queries by hand would read.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    # Java never compiles a method above 8,000 bytes: a wide plan that Spark makes one method of runs at half its speed or less.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # A night makes more plans than the hundred that Spark keeps compiled: the next in the session would begin cold again.
    "spark.sql.codegen.cache.maxEntries": "1000",
    # Rows of a few partitions are written as they come, into a file for each, and not sorted by partition before.
    "spark.sql.maxConcurrentOutputFileWriters": "16",
    # Delta keeps its snapshots in 50 partitions by default, which costs seconds on every small table.
    "spark.databricks.delta.snapshotPartitions": "1",
}

# Only where the job starts its own session on one machine.
_LOCAL: Final = {
    "spark.master": "local[*]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # To open a file costs a machine alone far less than the four megabytes' worth that Spark reckons with: thousands of small files would
    # become a hundred tasks in every stage that follows.
    "spark.sql.files.openCostInBytes": str(64 << 10),
}

# Below this many bytes of input, on one machine, the time goes into compiling plans and not into running them.
_SMALL: Final = 32 << 20
# Plans that are interpreted, and not made anew between stages: the same rows, measured at 15 of a small night's 52 seconds.
_FOR_SMALL: Final = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
}
_FOR_LARGE: Final = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    "spark.sql.adaptive.enabled": "true",
}


@contextmanager
def open_session(name: str, settings: SparkSettings) -> Iterator[SparkSession]:
    """A session for one job, closed at its end; under spark-submit what was submitted wins over the defaults."""
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    given = SparkConf()
    wanted = dict(_DEFAULTS)
    if not submitted:
        # The bridge to Java imports it at its first call, and pandas with it: a second, spent while Java starts.
        Thread(target=import_module, args=("pyspark.testing",), daemon=True).start()
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        wanted |= local_conf(settings)
    conf = {key: value for key, value in wanted.items() if not given.contains(key)} | _ALWAYS
    builder = SparkSession.builder.appName(f"nightfold {name}")
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if not given.contains("spark.sql.shuffle.partitions"):
        partitions = settings.shuffle_partitions or spark.sparkContext.defaultParallelism
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
    fit_to_size(spark, [])
    try:
        yield spark
    finally:
        spark.stop()


def local_conf(settings: SparkSettings) -> dict[str, str]:
    """What a session on this machine alone begins with; a scheduler that submits to it gives the same."""
    return _LOCAL | {
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": java_options(settings.driver_memory),
    }


def java_options(memory: str) -> str:
    """Options of a local session's Java: one quiet log, and the classes that set-up archived, which start 5 s sooner."""
    # The whole memory from the start, half of it for what lives briefly: growing into it costs a small night a second or two.
    heap = [f"-Xms{memory}", "-XX:NewRatio=1", "-XX:+UseParallelGC"]
    options = [*heap, f'"-Dlog4j2.configurationFile={Path(__file__).with_name("log4j2.properties")}"']
    archive = Path(sys.prefix) / "spark.jsa"
    if archive.is_file():
        # An archive of another Java is passed over; without the log option Java would say so on every start.
        options += [f'"-XX:SharedArchiveFile={archive}"', "-Xlog:disable"]
    return " ".join(options)


def fit_to_size(spark: SparkSession, folders: Sequence[str]) -> None:
    """Spends no time on compiling plans where what will be read is small and the session is on one machine.

    What was given at the start of the session stays as given.
    """
    if not (spark.sparkContext.master or "").startswith("local"):
        return
    given = spark.sparkContext.getConf()
    wanted = _FOR_SMALL if sum(_bytes_in(spark, folder) for folder in folders) < _SMALL else _FOR_LARGE
    for key, value in wanted.items():
        if not given.contains(key):
            spark.conf.set(key, value)


@contextmanager
def configured(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """The session with these settings, and as it was afterwards."""
    before = {key: spark.conf.get(key, None) for key in conf}
    for key, value in conf.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key, old in before.items():
            spark.conf.unset(key) if old is None else spark.conf.set(key, old)


@contextmanager
def letting_go(spark: SparkSession) -> Iterator[None]:
    """Drops in the end what localCheckpoint has kept since: left alone, such rows go when Python's and Java's collectors have come by."""
    before = set(_kept_rows(spark))
    yield
    for number, rows in _kept_rows(spark).items():
        if number not in before:
            rows.unpersist(False)


def _kept_rows(spark: SparkSession) -> dict[int, Any]:
    """What localCheckpoint keeps, by its number; what persist keeps, Delta's tables for one, is not among it."""
    return {
        number: rows
        for number, rows in spark.sparkContext._jsc.getPersistentRDDs().items()
        if rows.isCheckpointed()
    }


def _bytes_in(spark: SparkSession, folder: str) -> int:
    path, fs = located(spark, folder)
    return int(fs.getContentSummary(path).getLength()) if fs.exists(path) else 0
