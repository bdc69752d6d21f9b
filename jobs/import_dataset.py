"""Splits the raw rows of a flat data set into day folders, by the mapping's time and by nothing else.

The rows stay as they are, in their own format: what is filtered, mapped or quarantined is the ingest's to decide. Every day of
the span gets its folder and _SUCCESS, so that days without rows leave no hole; rows without a readable time go to the first
day, where the ingest sets them aside. The logs appear at once, when all is written.

    python -m jobs.import_dataset --mapping FILE --source DIR --logs DIR
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io import logs
from jobs.io.session import fit_to_size
from jobs.io.shell import JobError, Parser, existing_folder, folder_uri, one_sentence, run_main, say
from schemas.mapping import LogMapping, Source

JOB = "import_dataset"


def arg_parser() -> Parser:
    parser = Parser(prog=JOB, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--mapping", required=True, type=logs.mapping_file, metavar="FILE", help="log mapping: a file, or the name of a shipped one"
    )
    parser.add_argument("--source", required=True, type=existing_folder, metavar="DIR", help="folder with the data set's files")
    parser.add_argument("--logs", required=True, type=folder_uri, metavar="DIR", help="folder to write, not there yet or empty")
    return parser


def place_rows(rows: DataFrame, mapping: LogMapping) -> DataFrame:
    """The rows with a column `dt`, the UTC date of the mapping's time; null where there is none."""
    names = mapping.source.columns
    typed = rows.select(F.struct("*").alias("raw row"), *[F.col(f"`{name}`").cast(ddl).alias(name) for name, ddl in names.items()])
    time = F.expr(mapping.fields["event_ts"]).cast("timestamp")
    if mapping.zone is not None:
        time = F.to_utc_timestamp(time, mapping.zone)
    return typed.select("raw row.*", F.to_date(time).alias("dt"))


def split_rows(spark: SparkSession, mapping: LogMapping, source: str, target: str) -> int:
    """Writes the day folders under target, closed; returns the number of rows."""
    files = source_files(spark, mapping.source, source)
    fit_to_size(spark, files)
    rows = logs.read_files(spark, mapping.source, files)
    if logs.UNREADABLE in rows.columns:
        broken = rows.cache().where(F.col(f"`{logs.UNREADABLE}`").isNotNull()).count()
        if broken:
            raise JobError(
                f"{broken} records in {source} can't be parsed as {mapping.source.format}; correct the file or the mapping's options"
            )
        rows = rows.drop(logs.UNREADABLE)
    try:
        placed = place_rows(rows, mapping)
    except AnalysisException as error:
        raise JobError(f"the mapping does not fit {files[0]}: {one_sentence(error)}") from error
    total, first, last = placed.select(F.count("*"), F.min("dt"), F.max("dt")).first() or (0, None, None)
    if first is None or last is None:
        raise JobError(f"no row of {source} has a time that the mapping can read")
    say(f"{JOB}: {total:,} rows of {first}..{last}")
    # One file a day: rows of a day that were in one file stay in one.
    split = placed.withColumn("dt", F.coalesce("dt", F.lit(first))).repartition("dt")
    options = {"header": "true", "escape": '"'} if mapping.source.format == "csv" else {}
    split.write.partitionBy("dt").format(mapping.source.format).options(**options).save(target)
    if mapping.items is not None:
        logs.copy_files(spark, source_files(spark, mapping.items.source, source), logs.items_folder(target, first))
    for day in logs.days_between(first, last):
        logs.touch(spark, f"{logs.day_folder(target, day)}/{logs.CLOSED_MARK}")
    return int(total)


def source_files(spark: SparkSession, source: Source, folder: str) -> list[str]:
    files = logs.matching_files(spark, folder, source.files)
    if not files:
        raise JobError(f"there is no {source.files} in {folder}")
    return files


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    if logs.folder_content(spark, args.logs):
        raise JobError(f"{args.logs} is not empty; give a new folder, so that no day is imported twice")
    # Beside the logs, so that moving it into place is one rename; what a killed import left is begun again.
    staging = f"{args.logs}.importing"
    logs.remove_folder(spark, staging)
    try:
        split_rows(spark, args.mapping, args.source, staging)
    except BaseException:
        logs.remove_folder(spark, staging)
        raise
    logs.remove_folder(spark, args.logs)
    logs.move(spark, staging, args.logs)
    say(f"{JOB}: {args.logs} is ready")


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
