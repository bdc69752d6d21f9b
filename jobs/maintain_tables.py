"""Maintenance of a warehouse: thins out old profile_states, compacts small files, vacuums files nobody needs.

Afterwards tables say what they said before, except for states older than the window and
`maintenance.thin_after_days`: of these each user and facet keeps the first, and the last of every calendar
month. So the last one before the daily ones always stays, from which a repair inside the window may restart.
The versions named by the newest `maintenance.keep_publications` publications stay readable, for as long as
tables remember their history (schemas/table.py, HISTORY_DAYS). Files are removed only when they have been out
of every table for `maintenance.vacuum_after_days`. Rerun with the same date it commits nothing.

    python -m jobs.maintain_tables --date D --warehouse URI [--dry-run]
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days, is_in
from jobs.io.history import Record, first_hole, standing
from jobs.io.messages import JobError, say
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.session import configured
from jobs.io.unused_files import count_unused, remove_unused
from jobs.io.warehouse import Warehouse, Writer
from jobs.night.guards import MAINTENANCE as JOB
from jobs.night.guards import refuse_maintenance, thin_before
from jobs.night.losses import refuse_losses
from schemas import profile_states
from schemas.all_tables import ALL_TABLES
from schemas.settings import MaintenanceSettings, Settings
from schemas.table import HISTORY_DAYS, Table

KEY = list(profile_states.TABLE.key)
MIB = 1 << 20
# Small files are compacted up to this many times their size: a compacted file is not small again.
COMPACTED = 4
# A file leaves its table by the writing machine's clock, at the start of the commit.
CLOCK_SKEW = timedelta(days=1)


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    day_help = "a published day; states are thinned out as of it"
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help=day_help)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser


# ---- pure


def superfluous(states: DataFrame, cutoff: date) -> DataFrame:
    """Keys of states before the cutoff that are neither a month's last nor their facet's first.

    The first stays because it alone says that nothing came before it.
    """
    month = F.trunc("as_of_date", "month")
    latest_first = Window.partitionBy("user_id", "facet", month).orderBy(F.desc("as_of_date"))
    nth = F.row_number().over(latest_first).alias("nth")
    early = states.where(F.col("as_of_date") < F.lit(cutoff)).select(*KEY, "previous_as_of_date", nth)
    return early.where("nth > 1 AND previous_as_of_date IS NOT NULL").select(*KEY)


def crowded(files: DataFrame, table: Table, settings: MaintenanceSettings) -> DataFrame:
    """(part, files).

    Values of the partition column (NULL: the entire table) with many small files, and their number.
    """
    part = F.lit(None).cast("string")
    if table.partition_by:
        part = F.col("partitionValues")[table.partition_by[0]]
    small = files.where(F.col("size") < settings.small_file_mb * MIB)
    counted = small.groupBy(part.alias("part")).agg(F.count("*").alias("files"))
    return counted.where(F.col("files") >= settings.small_files)


def removable_before(now: datetime, oldest_kept: datetime | None, settings: MaintenanceSettings) -> datetime:
    """Files that left their table before this moment may be removed.

    The versions of a publication were current when it was made, so their files left later; and no table
    remembers more than HISTORY_DAYS.
    """
    limit = now - timedelta(days=settings.vacuum_after_days)
    if oldest_kept is not None:
        limit = min(limit, oldest_kept - CLOCK_SKEW)
    return max(limit, now - timedelta(days=HISTORY_DAYS) + CLOCK_SKEW)


def oldest_kept(ordered: Sequence[Record], keep: int) -> datetime | None:
    """The earliest that any clock said since the oldest of the newest publications was made.

    What it names left its table by the clock of a later job, which may have been behind.
    """
    kept = standing(ordered)[-keep:]
    return min((r.written for r in ordered if r.sequence >= kept[0].sequence), default=None) if kept else None


# ---- the edges; without a writer they count what would be done


def thin(warehouse: Warehouse, writer: Writer | None, cutoff: date) -> int:
    """Removes superfluous states in one commit; returns their number."""
    states = warehouse.read(profile_states.TABLE)
    gone = superfluous(states, cutoff).persist()
    days = {row["as_of_date"]: row["count"] for row in gone.groupBy("as_of_date").count().collect()}
    if days and writer is not None:
        predicate = is_in("as_of_date", days)
        kept = states.where(predicate).join(gone, KEY, "left_anti")
        with writer.keeping_content(profile_states.TABLE):
            writer.replace(profile_states.TABLE, kept, predicate)
    gone.unpersist()
    return sum(days.values())


def compact(warehouse: Warehouse, writer: Writer | None, table: Table, settings: MaintenanceSettings) -> int:
    """Compacts small files where there are many; returns their number."""
    spark = warehouse.spark
    files = DataFrame(warehouse.snapshot(table).allFiles().toDF(), spark)
    found = crowded(files, table, settings).collect()
    if found and writer is not None:
        # As SQL: the method of DeltaTable takes a backtick in the path for the end of a name.
        optimize = f"OPTIMIZE {warehouse.sql_name(table)}"
        if table.partition_by:
            parts = ", ".join(_literal(row["part"]) for row in found)
            optimize += f" WHERE {table.partition_by[0]} IN ({parts})"
        small = settings.small_file_mb * MIB
        conf = {
            "spark.databricks.delta.optimize.minFileSize": str(small),
            "spark.databricks.delta.optimize.maxFileSize": str(COMPACTED * small),
        }
        with configured(spark, conf), writer.keeping_content(table):
            spark.sql(optimize).collect()
    return sum(row["files"] for row in found)


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def vacuum(warehouse: Warehouse, writer: Writer | None, table: Table, before: datetime) -> tuple[int, int]:
    """Removes the files that left the table before the moment; returns their number and bytes.

    Without a writer the bytes are not known, and 0.
    """
    if writer is None:
        return count_unused(warehouse, table, before), 0
    return remove_unused(writer, table, before)


def maintain(log: RunLog, writer: Writer | None, settings: Settings, day: date) -> dict[str, int]:
    """Thins, compacts and vacuums, in this order; returns the counts."""
    warehouse, rules = log.warehouse, settings.maintenance
    tables = [table for table in ALL_TABLES if warehouse.exists(table)]
    counts = {"states_removed": thin(warehouse, writer, thin_before(day, settings))}
    counts["files_compacted"] = sum(compact(warehouse, writer, table, rules) for table in tables)
    before = removable_before(datetime.now(UTC), oldest_kept(log.records(), rules.keep_publications), rules)
    removed = [vacuum(warehouse, writer, table, before) for table in tables]
    files, size = (sum(numbers) for numbers in zip(*removed, strict=True))
    return counts | {"files_removed": files, "bytes_removed": size}


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    log, settings = RunLog(Warehouse(spark, args.warehouse)), args.config
    days = Days.only(args.date)
    refuse_losses(log, JOB, days)
    if first_hole(log.publications(), days) is not None:
        raise JobError(
            f"{args.date} is not published; give a published day, since states are thinned out as of it"
        )
    if args.dry_run:
        counts = maintain(log, None, settings, args.date)
        planned = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())
        say(f"{JOB} {args.date} would do: {planned}")
        return
    with recorded(log, RunSpec.of(args, JOB, days)) as record:
        refuse_maintenance(log.records(), args.date, settings)
        record.counts = maintain(log, record.writer, settings, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
