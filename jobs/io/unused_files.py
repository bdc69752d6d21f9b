"""Data files that no version within reach needs any more: VACUUM, with a limit of our own."""

import math
from datetime import UTC, datetime, timedelta

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from jobs.io.session import configured
from jobs.io.storage import folder_totals
from jobs.io.warehouse import Warehouse, Writer
from schemas.table import Table


def count_unused(warehouse: Warehouse, table: Table, before: datetime) -> int:
    """How many files left the table before the moment."""
    with configured(warehouse.spark, _conf(warehouse.spark)):
        statement = f"VACUUM {warehouse.sql_name(table)} RETAIN {_hours_since(before)} HOURS DRY RUN"
        return int(warehouse.spark.sql(statement).count())


def remove_unused(writer: Writer, table: Table, before: datetime | None) -> tuple[int, int]:
    """Removes the files that left the table before the moment; returns their number and bytes.

    None: all that the current version does not need, whenever they left.
    """
    warehouse = writer.warehouse
    files, size = data_totals(warehouse, table)
    writer.confirm()
    with configured(warehouse.spark, _conf(warehouse.spark)):
        DeltaTable.forPath(warehouse.spark, warehouse.path(table)).vacuum(
            0 if before is None else _hours_since(before)
        )
    files_left, size_left = data_totals(warehouse, table)
    return files - files_left, size - size_left


def data_totals(warehouse: Warehouse, table: Table) -> tuple[int, int]:
    """Number and bytes of the table's data files, without its log."""
    files, size = folder_totals(warehouse.spark, warehouse.path(table))
    log_files, log_size = folder_totals(warehouse.spark, f"{warehouse.path(table)}/_delta_log")
    return files - log_files, size - log_size


def _hours_since(before: datetime) -> int:
    """Delta rounds down to whole hours."""
    return math.ceil((datetime.now(UTC) - before) / timedelta(hours=1))


def _conf(spark: SparkSession) -> dict[str, str]:
    return {
        # The caller answers for the limit: publications that must stay readable, or an erasure. By default
        # Delta ignores every limit but 0, and uses the table's delta.deletedFileRetentionDuration.
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
        # Two commits for each table that say nothing about its rows.
        "spark.databricks.delta.vacuum.logging.enabled": "false",
        "spark.databricks.delta.vacuum.parallelDelete.enabled": "true",
        # By default folders are listed in 10,000 tasks: a minute for a table of ten files.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(
            4 * spark.sparkContext.defaultParallelism
        ),
    }
