"""Keeps a warehouse small and quick: thins out old profile_states, packs small files together, removes files nobody needs.

What is promised: tables say after it what they said before, but for states older than the window and `maintenance.thin_after_days`;
of these each user and facet keeps its first, and the last of every calendar month, and so always the last one before the daily
ones, which a repair inside the window may restart from. The versions named by the newest `maintenance.keep_publications` publications stay
readable whole, for as long as tables remember their history (schemas/table.py, HISTORY_DAYS). Files are removed only when they
have been out of every table for `maintenance.vacuum_after_days`. Run again with the same date it makes no commit of its own.

    python -m jobs.maintain_tables --date D --warehouse URI [--dry-run]
"""

import argparse
import math
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.io import delta, lease
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.history import PUBLISHER, first_hole
from jobs.io.messages import JobError, say
from jobs.io.runs import new_run_id, publications, recorded, records, runs_table
from jobs.io.session import configured
from jobs.night.guards import MAINTENANCE as JOB
from jobs.night.guards import ingested_ends, refuse_first, runnable_from, thin_before
from schemas import profile_states
from schemas.all_tables import ALL_TABLES
from schemas.settings import MaintenanceSettings, Settings
from schemas.table import HISTORY_DAYS, Table

KEY = list(profile_states.TABLE.key)
MIB = 1 << 20
# Small files are packed up to this many times their size: what is packed once is not small again.
PACKED = 4
# A file leaves its table by the clock of the machine that wrote, and when its commit began.
CLOCKS = timedelta(days=1)


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument(
        "--date",
        required=True,
        type=iso_day,
        metavar="D",
        help="a published day; states are thinned out as of it",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser


def superfluous(states: DataFrame, cutoff: date) -> DataFrame:
    """The keys of the states before the cutoff that are neither their user's and facet's last one before it in a calendar month nor its
    first of all: that nothing came before a day of a facet, its first state alone can say.
    """
    latest_first = Window.partitionBy("user_id", "facet", F.trunc("as_of_date", "month")).orderBy(
        F.desc("as_of_date")
    )
    nth = F.row_number().over(latest_first)
    early = states.where(F.col("as_of_date") < F.lit(cutoff)).select(
        *KEY, "previous_as_of_date", nth.alias("nth")
    )
    return early.where("nth > 1 AND previous_as_of_date IS NOT NULL").select(*KEY)


def crowded(files: DataFrame, table: Table, settings: MaintenanceSettings) -> DataFrame:
    """The values of the partition column (NULL: the whole table) with many small files, and how many those are."""
    part = (
        F.col("partitionValues")[table.partition_by[0]] if table.partition_by else F.lit(None).cast("string")
    )
    small = (
        files.where(F.col("size") < settings.small_file_mb * MIB)
        .groupBy(part.alias("part"))
        .agg(F.count("*").alias("files"))
    )
    return small.where(F.col("files") >= settings.small_files)


def removable_before(now: datetime, oldest_kept: datetime | None, settings: MaintenanceSettings) -> datetime:
    """Files that left their table before this moment may go.

    What a publication names was current when it was made, so its files left later; no table remembers more than HISTORY_DAYS.
    """
    limit = now - timedelta(days=settings.vacuum_after_days)
    if oldest_kept is not None:
        limit = min(limit, oldest_kept - CLOCKS)
    return max(limit, now - timedelta(days=HISTORY_DAYS) + CLOCKS)


# ---- the edges


def thin(spark: SparkSession, warehouse: str, cutoff: date, dry_run: bool) -> int:
    """Takes superfluous states out in one commit, and says how many; a dry run leaves them."""
    states = delta.read_table(spark, warehouse, profile_states.TABLE)
    gone = superfluous(states, cutoff).persist()
    days = {row["as_of_date"]: row["count"] for row in gone.groupBy("as_of_date").count().collect()}
    if days and not dry_run:
        literals = ", ".join(f"DATE'{day}'" for day in sorted(days))
        predicate = f"as_of_date IN ({literals})"
        kept = states.where(predicate).join(gone, KEY, "left_anti")
        with delta.keeping_meaning(spark, warehouse, profile_states.TABLE):
            delta.overwrite_where(spark, warehouse, profile_states.TABLE, kept, predicate)
    gone.unpersist()
    return sum(days.values())


def pack(
    spark: SparkSession, warehouse: str, table: Table, settings: MaintenanceSettings, dry_run: bool
) -> int:
    """Packs small files where there are many, and says how many those are."""
    found = crowded(
        DataFrame(delta.snapshot(spark, warehouse, table).allFiles().toDF(), spark), table, settings
    ).collect()
    if found and not dry_run:
        packing = DeltaTable.forPath(spark, delta.table_path(warehouse, table)).optimize()
        if table.partition_by:
            parts = ", ".join(
                "'" + row["part"].replace("\\", "\\\\").replace("'", "\\'") + "'" for row in found
            )
            packing = packing.where(f"{table.partition_by[0]} IN ({parts})")
        small = settings.small_file_mb * MIB
        sizes = {"minFileSize": small, "maxFileSize": PACKED * small}
        with (
            configured(
                spark, {f"spark.databricks.delta.optimize.{name}": str(size) for name, size in sizes.items()}
            ),
            delta.keeping_meaning(spark, warehouse, table),
        ):
            packing.executeCompaction()
    return sum(row["files"] for row in found)


def vacuum(
    spark: SparkSession, warehouse: str, table: Table, before: datetime, dry_run: bool
) -> tuple[int, int]:
    """Removes the files that left the table before the moment; how many, and their bytes (a dry run does not know those)."""
    # Delta rounds to whole hours, below half of one to none.
    hours = math.ceil((datetime.now(UTC) - before) / timedelta(hours=1))
    conf = {
        # Our limit lies within what the table remembers, and is never below a week (settings). By default Delta passes over any
        # limit but 0, and takes the table's delta.deletedFileRetentionDuration.
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.databricks.delta.vacuum.retentionWindowIgnore.enabled": "false",
        # Two commits for each table that say nothing of its rows.
        "spark.databricks.delta.vacuum.logging.enabled": "false",
        "spark.databricks.delta.vacuum.parallelDelete.enabled": "true",
        # Folders are listed in 10,000 tasks by default: a minute for a table of ten files.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(
            4 * spark.sparkContext.defaultParallelism
        ),
    }
    with configured(spark, conf):
        if dry_run:
            path = delta.table_path(warehouse, table).replace("`", "``")
            return spark.sql(f"VACUUM delta.`{path}` RETAIN {hours} HOURS DRY RUN").count(), 0
        files, size = content(spark, warehouse, table)
        lease.confirm(warehouse)
        DeltaTable.forPath(spark, delta.table_path(warehouse, table)).vacuum(hours)
        files_left, size_left = content(spark, warehouse, table)
    return files - files_left, size - size_left


def content(spark: SparkSession, warehouse: str, table: Table) -> tuple[int, int]:
    """Number and bytes of the table's data files; its log grows beside them."""
    path = spark._jvm.org.apache.hadoop.fs.Path  # type: ignore[union-attr]
    folder = path(delta.table_path(warehouse, table))
    files = folder.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
    whole, log = files.getContentSummary(folder), files.getContentSummary(path(folder, "_delta_log"))
    return whole.getFileCount() - log.getFileCount(), whole.getLength() - log.getLength()


def oldest_kept(spark: SparkSession, warehouse: str, keep: int) -> datetime | None:
    """When the oldest of the newest publications was made."""
    kept = [published.run_id for published in publications(spark, warehouse)[-keep:]]
    rows = runs_table(spark, warehouse).where(
        (F.col("job") == PUBLISHER) & (F.col("status") == "published") & F.col("run_id").isin(kept)
    )
    seconds = rows.agg(F.min("started").cast("double")).collect()[0][0]
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    settings, warehouse, dry_run = args.config, args.warehouse, args.dry_run
    if first_hole(publications(spark, warehouse), args.date, args.date) is not None:
        raise JobError(
            f"{args.date} is not published; give a published day, since states are thinned out as of it"
        )
    run_id = args.run_id or new_run_id(JOB, args.date)
    if dry_run:
        counts = maintain(spark, warehouse, settings, args.date, dry_run=True)
        say(
            f"{JOB} {args.date} would do: "
            + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())
        )
        return
    with recorded(spark, warehouse, settings, JOB, run_id, args.date, args.date) as record:
        # What was begun could not be finished without the states.
        ordered = records(spark, warehouse)
        refuse_first(ordered, ingested_ends(ordered, runnable_from(args.date, settings)))
        record.counts = maintain(spark, warehouse, settings, args.date, dry_run=False)


def maintain(
    spark: SparkSession, warehouse: str, settings: Settings, day: date, dry_run: bool
) -> dict[str, int]:
    """Thins, packs and vacuums, in this order; returns what became of how many."""
    tables = [table for table in ALL_TABLES if delta.table_exists(spark, warehouse, table)]
    counts = {"states_removed": thin(spark, warehouse, thin_before(day, settings), dry_run)}
    counts["files_compacted"] = sum(
        pack(spark, warehouse, table, settings.maintenance, dry_run) for table in tables
    )
    kept = oldest_kept(spark, warehouse, settings.maintenance.keep_publications)
    before = removable_before(datetime.now(UTC), kept, settings.maintenance)
    removed = [vacuum(spark, warehouse, table, before, dry_run) for table in tables]
    return counts | {
        "files_removed": sum(files for files, _ in removed),
        "bytes_removed": sum(size for _, size in removed),
    }


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
