"""Splits the raw rows of a flat data set into day folders, by the mapping's time and by nothing else.

The rows stay as they are, in their own format: what is filtered, mapped or quarantined is the ingest's to decide, and it decides as
it would of the source's own files. Every day of the span gets its folder and _SUCCESS, so that days without rows leave no hole; rows
without a readable time go to the first day, where the ingest sets them aside. The logs appear at once, when all is written.

    python -m jobs.import_dataset --mapping FILE --source DIR --logs DIR
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Final

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.ingest import damage
from jobs.ingest.times import times_of
from jobs.io import logs
from jobs.io.cli import Parser, existing_folder, folder_uri, run_main
from jobs.io.days import Days
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.session import fit_to_size
from jobs.io.storage import copy_files, folder_content, matching_files, move, remove_folder, touch
from schemas.mapping import LogMapping, Source

JOB = "import_dataset"
# Beside the source's own columns, among which there may be a `dt`; the folders get their names when they are in place.
DAY, FILE = "day_of_import", "file_of_import"
# Ten years without a row are no pause of a data set, but a wrong year or unit of time: each of their days would be a folder.
LONGEST_PAUSE: Final = 3660


def arg_parser() -> Parser:
    parser = Parser(prog=JOB, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--mapping",
        required=True,
        type=logs.mapping_file,
        metavar="FILE",
        help="log mapping: a file, or the name of a shipped one",
    )
    parser.add_argument(
        "--source",
        required=True,
        type=existing_folder,
        metavar="DIR",
        help="folder with the data set's files",
    )
    parser.add_argument(
        "--logs",
        required=True,
        type=folder_uri,
        metavar="DIR",
        help="folder to write, not there yet or empty",
    )
    return parser


def place_rows(rows: DataFrame, mapping: LogMapping) -> DataFrame:
    """The rows with DAY, the UTC date of the mapping's time; null where there is none, or none of a calendar's years.

    A declared column that is not there is null, as for the ingest.
    """
    there = set(rows.columns)
    typed = {
        name: F.col(logs.quoted(name)) if name in there else F.lit(None) for name in mapping.source.columns
    }
    casts = [column.cast(mapping.source.columns[name]).alias(name) for name, column in typed.items()]
    typed_rows = rows.select(F.struct("*").alias("raw row"), *casts)
    day = F.to_date(times_of(typed_rows, mapping)["event_ts"])
    return typed_rows.select("`raw row`.*", F.when(F.year(day).between(1, 9999), day).alias(DAY))


def span(rows_by_day: Mapping[date, int], source: str) -> tuple[date, date]:
    """The first and the last day; stops where rows lie so far from most that some time must be wrong."""
    days = sorted(rows_by_day)
    groups = [days[:1]]
    for before, day in pairwise(days):
        if (day - before).days > LONGEST_PAUSE:
            groups.append([])
        groups[-1].append(day)
    most = max(groups, key=lambda group: sum(rows_by_day[day] for day in group))
    if strays := [day for day in days if not most[0] <= day <= most[-1]]:
        raise JobError(
            f"{sum(rows_by_day[day] for day in strays):,} rows of {source} are dated {strays[0]}..{strays[-1]}, more than ten years from "
            f"the others ({most[0]}..{most[-1]}); correct them, or let the mapping's event_ts be NULL there, so that they are set aside"
        )
    return days[0], days[-1]


def write_options(source: Source) -> dict[str, str]:
    """What makes Spark's writer write what its reader reads back the same, under the mapping's own options."""
    given = source.options
    if source.format == "csv":
        # In quotes a value keeps its blanks, whatever the reader trims. But a null would come back as the mapping's emptyValue.
        quotes_all = given.get("quote") != "" and "emptyValue" not in given
        blanks = dict.fromkeys(["ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace"], "false")
        # Where the mapping names no comment sign, `#` at the start of a row would be one to the writer alone.
        own = {"header": "true", "escape": '"', "comment": "\0"}
        return own | given | blanks | {"quoteAll": str(quotes_all).lower()}
    if source.format == "json":
        # Left alone, the writer cuts times to milliseconds; and an escaped character may be none of the encoding's.
        exact = {
            "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
            "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
        }
        return exact | given | {"writeNonAsciiCharacterAsCodePoint": "true"}
    return given


def write_rows(placed: DataFrame, source: Source, folder: str) -> None:
    """One file for each day and file of the source: equal records are told apart by their number in a file, and files by their order."""
    options = write_options(source)
    by_file = placed.repartition(DAY, FILE)
    if source.format == "json" and ("multiline", "true") in {
        (name.lower(), value.lower()) for name, value in source.options.items()
    }:
        # Of a file that is one JSON value, the reader takes the records of an array.
        records = F.collect_list(
            F.struct(*[logs.quoted(name) for name in placed.columns if name not in (DAY, FILE)])
        )
        # The text writer writes a string's bytes as they are.
        array = (
            F.encode(F.to_json(records, options), options.get("encoding", "UTF-8"))
            .cast("string")
            .alias("value")
        )
        arrays = by_file.groupBy(F.col(DAY), F.col(FILE)).agg(array)
        arrays.write.partitionBy(DAY, FILE).text(folder)
    else:
        by_file.write.partitionBy(DAY, FILE).format(source.format).options(**options).save(folder)


def split_rows(spark: SparkSession, mapping: LogMapping, source: str, target: str) -> None:
    """Writes the day folders under target, closed."""
    files = source_files(spark, mapping.source, source)
    fit_to_size(spark, files)
    # An option's value that Spark does not know is no AnalysisException.
    try:
        placed = place_rows(with_file(logs.read_files(spark, mapping.source, files), files, source), mapping)
    except PySparkException as error:
        raise JobError(f"the mapping does not fit {files[0]}: {one_sentence(error)}") from error
    # Held, since whether a record can be parsed is known only where all of it is.
    placed.persist()
    try:
        first, last = look(placed, mapping.source, source)
        dated = placed.drop(logs.UNREADABLE).withColumn(DAY, F.coalesce(DAY, F.lit(first)))
        write_rows(dated, mapping.source, f"{target}/_split")
    finally:
        placed.unpersist()
    if mapping.items is not None:
        # A folder each, since two of them may have one name.
        for n, file in enumerate(source_files(spark, mapping.items.source, source)):
            copy_files(spark, [file], f"{logs.items_folder(target, first)}/{n:06d}")
    filled = folder_content(spark, f"{target}/_split")
    for day in Days(first, last):
        if (folder := f"{DAY}={day}") in filled:
            move(spark, f"{target}/_split/{folder}", logs.day_folder(target, day))
        touch(spark, f"{logs.day_folder(target, day)}/{logs.CLOSED_MARK}")
    remove_folder(spark, f"{target}/_split")


def with_file(rows: DataFrame, files: Sequence[str], source: str) -> DataFrame:
    """The rows with FILE, the number of their file: numbers sort as the files do, and are names that any file system takes."""
    numbers = [(logs.below(file, source), f"{n:06d}") for n, file in enumerate(files)]
    told = rows.sparkSession.createDataFrame(numbers, f"`path of file` string, `{FILE}` string")
    named = rows.withColumn("path of file", logs.below_root(F.input_file_name(), source))
    return named.join(F.broadcast(told), "path of file").drop("path of file")


def look(placed: DataFrame, source: Source, folder: str) -> tuple[date, date]:
    """The first and the last day; stops where a record can't be parsed, or the days make no sense."""
    broken = F.count(logs.quoted(logs.UNREADABLE)) if logs.UNREADABLE in placed.columns else F.lit(0)
    found = placed.groupBy(DAY).agg(F.count("*").alias("rows"), broken.alias("broken")).collect()
    if unparsed := sum(row["broken"] for row in found):
        raise JobError(
            f"{unparsed} records in {folder} can't be parsed as {source.format}; correct the file or the mapping's options"
        )
    rows_by_day = {row[DAY]: row["rows"] for row in found if row[DAY] is not None}
    if not rows_by_day:
        raise JobError(f"no row of {folder} has a time that the mapping can read")
    first, last = span(rows_by_day, folder)
    say(f"{JOB}: {sum(row['rows'] for row in found):,} rows of {first}..{last}")
    return first, last


def source_files(spark: SparkSession, source: Source, folder: str) -> list[str]:
    files = matching_files(spark, folder, source.files)
    if not files:
        raise JobError(f"there is no {source.files} in {folder}")
    return files


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    if folder_content(spark, args.logs):
        raise JobError(f"{args.logs} is not empty; give a new folder, so that no day is imported twice")
    # Beside the logs, so that moving it into place is one rename; what a killed import left is begun again.
    staging = f"{args.logs}.importing"
    remove_folder(spark, staging)
    try:
        with damage.readable():
            split_rows(spark, args.mapping, args.source, staging)
    except BaseException:
        remove_folder(spark, staging)
        raise
    remove_folder(spark, args.logs)
    move(spark, staging, args.logs)
    say(f"{JOB}: {args.logs} is ready")


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
