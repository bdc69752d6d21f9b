"""The Spark session every job works in: Delta, UTC, loopback, and settings fit for the machine, each with its reason."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyspark import SparkConf
from pyspark.sql import SparkSession

from schemas.settings import SparkSettings

# What the results rest on: set in every session, submitted or not.
_ALWAYS: Final = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # A value that can't be read becomes NULL, and so a quarantined row with a reason; with ANSI on it would end the job.
    "spark.sql.ansi.enabled": "false",
    # A plain Python UDF over a Delta scan hangs for ever with the default (SPARK-58241).
    "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
}

# What a cluster may know better: set only where spark-submit has not.
_DEFAULTS: Final = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Vectors make wide rows: a batch of 384 floats is then 30 MB at most.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
    # Delta keeps its snapshots in 50 partitions by default, which costs seconds on every small table.
    "spark.databricks.delta.snapshotPartitions": "2",
}

# Only where the job starts its own session on one machine.
_LOCAL: Final = {
    "spark.master": "local[*]",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.log.level": "ERROR",
}


@contextmanager
def open_session(name: str, settings: SparkSettings) -> Iterator[SparkSession]:
    """A session for one job, closed at its end; under spark-submit what was submitted wins over the defaults."""
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    given = SparkConf()
    wanted = dict(_DEFAULTS)
    if not submitted:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        wanted |= _LOCAL | {"spark.driver.memory": settings.driver_memory}
    conf = {key: value for key, value in wanted.items() if not given.contains(key)} | _ALWAYS
    builder = SparkSession.builder.appName(f"nightfold {name}")
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    if not given.contains("spark.sql.shuffle.partitions"):
        partitions = settings.shuffle_partitions or spark.sparkContext.defaultParallelism
        spark.conf.set("spark.sql.shuffle.partitions", str(partitions))
    try:
        yield spark
    finally:
        spark.stop()
