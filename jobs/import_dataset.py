"""Splits the raw rows of a flat data set into day folders, by the time that a mapping gives them.

The rows keep their content and format. Filtering, mapping and quarantine are left to the ingest, which
treats the rows like those of the source's own files. Every day of the span gets a folder with _SUCCESS, so
that no days are missing. Rows without a readable time go to the first day, where the ingest quarantines them.
The logs folder appears only when it is complete.

    python -m jobs.import_dataset --mapping FILE --source DIR --logs DIR
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Final

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.ingest import damage
from jobs.ingest.times import times_of, with_time
from jobs.ingest.torn import unchanged
from jobs.io import logs
from jobs.io.cli import Parser, run_main
from jobs.io.columns import quoted, typed_columns
from jobs.io.days import Days
from jobs.io.formats import UNREADABLE, declared_types
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.paths import existing_folder, folder_uri
from jobs.io.plans import require_plain
from jobs.io.session import fit_to_size, in_zone, moved
from jobs.io.storage import (
    Marks,
    copy_files,
    file_marks,
    folder_content,
    is_named,
    matching_files,
    move,
    remove_folder,
    touch,
)
from schemas.mapping import EventSource, LogMapping, Source

JOB = "import_dataset"
# Not `dt`, which the source may have as a column; the folders are renamed when they are moved into place.
DAY, FILE = "day_of_import", "file_of_import"
# A longer gap means a wrong year or unit of time, not a pause; each of its days would become a folder.
LONGEST_GAP_DAYS: Final = 3660


def arg_parser() -> Parser:
    parser = Parser(prog=JOB, description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    mapping_help = "log mapping: a file, or the name of a shipped one"
    add("--mapping", required=True, type=logs.mapping_file, metavar="FILE", help=mapping_help)
    source_help = "folder with the files of the data set"
    add("--source", required=True, type=existing_folder, metavar="DIR", help=source_help)
    add("--logs", required=True, type=folder_uri, metavar="DIR", help="folder to write; must be new or empty")
    return parser


def place_rows(rows: DataFrame, mapping: EventSource) -> DataFrame:
    """The rows with DAY, the UTC date of the mapping's time; null without a time or outside years 1 to 9999.

    The time is read as the ingest will read it. A declared column that the rows lack is null, as there.
    """
    raw = in_zone(rows.select(F.struct("*").alias("raw row"), "*"), mapping.zone)
    kinds = {field.name: field.dataType for field in rows.schema}
    typed, _ = typed_columns(kinds, declared_types(mapping.source), mapping.source.format == "parquet")
    typed_rows = raw.select("raw row", *[column.alias(name) for name, column in typed.items()])
    require_plain(typed_rows, {"the mapping's event_ts": mapping.fields["event_ts"]})
    given = with_time(typed_rows, mapping)
    timed = given.select("raw row", times_of(given, mapping)["event_ts"].alias("time"))
    day = F.to_date("time")
    dated = moved(timed, rows.sparkSession).select("`raw row`.*", day.alias(DAY))
    return dated.withColumn(DAY, F.when(F.year(DAY).between(1, 9999), F.col(DAY)))


def span(rows_by_day: Mapping[date, int], source: str) -> tuple[date, date]:
    """The first and the last day. Raises JobError if some rows are too far from most others."""
    days = sorted(rows_by_day)
    groups = [days[:1]]
    for previous, day in pairwise(days):
        if (day - previous).days > LONGEST_GAP_DAYS:
            groups.append([])
        groups[-1].append(day)
    most = max(groups, key=lambda group: sum(rows_by_day[day] for day in group))
    if strays := [day for day in days if not most[0] <= day <= most[-1]]:
        rows = sum(rows_by_day[day] for day in strays)
        raise JobError(
            f"{rows:,} rows of {source} are dated {strays[0]}..{strays[-1]}, more than ten years away from "
            f"the other rows ({most[0]}..{most[-1]}); correct these dates, or let the mapping's event_ts be "
            "NULL for them, so that the rows are quarantined"
        )
    return days[0], days[-1]


def write_options(source: Source) -> dict[str, str]:
    """Writer options: Spark's reader, given the mapping's options, gets the same rows back."""
    given = source.options
    if source.format == "csv":
        # A quoted value keeps its blanks even if the reader trims. But under emptyValue a quoted null would
        # be read as that value.
        quotes_all = given.get("quote") != "" and "emptyValue" not in given
        blanks = dict.fromkeys(["ignoreLeadingWhiteSpace", "ignoreTrailingWhiteSpace"], "false")
        # Without one, only the writer would take a leading `#` for the sign of a comment.
        own = {"header": "true", "escape": '"', "comment": "\0"}
        return own | given | blanks | {"quoteAll": str(quotes_all).lower()}
    if source.format == "json":
        # By default the writer truncates times to milliseconds, and writes characters unescaped that the
        # encoding may lack.
        exact = {
            "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
            "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
        }
        return exact | given | {"writeNonAsciiCharacterAsCodePoint": "true"}
    return given


def write_rows(placed: DataFrame, source: Source, folder: str) -> None:
    """Writes one file per day and source file.

    Equal records are distinguished by their position in a file, and files by their order; both must be kept.
    """
    options = write_options(source)
    by_file = placed.repartition(DAY, FILE)
    if source.format == "json" and ("encoding" in options or source.is_multiline):
        write_json_texts(by_file, source, folder)
    else:
        by_file.write.partitionBy(DAY, FILE).format(source.format).options(**options).save(folder)


def write_json_texts(by_file: DataFrame, source: Source, folder: str) -> None:
    """As the JSON writer does, but in ASCII with escapes, which every encoding has.

    The reader parses each file of several lines as one JSON value; the records of an array become rows.
    """
    options, encoding = write_options(source), source.options.get("encoding", "UTF-8")
    names = [name for name in by_file.columns if name not in (DAY, FILE)]
    records = F.struct(*[quoted(name) for name in names])
    line_end = source.options.get("lineSep", "\n").encode(encoding).decode("latin-1")
    if source.is_multiline:
        by_file = by_file.groupBy(F.col(DAY), F.col(FILE)).agg(F.collect_list(records).alias("value"))
        records, line_end = F.col("value"), "\n"  # after the only value, where it means nothing
    escaped = in_ascii(F.to_json(records, options))
    # The text writer writes a string's bytes unchanged, whatever the encoding.
    texts = by_file.select(DAY, FILE, F.encode(escaped, encoding).cast("string").alias("value"))
    texts.write.partitionBy(DAY, FILE).text(folder, lineSep=line_end)


def in_ascii(json_text: Column) -> Column:
    """JSON with an escape for every other character, in UTF-16 as JSON has them."""
    runs = F.regexp_extract_all(json_text, F.lit(r"(?s)[\x00-\x7f]+|[^\x00-\x7f]+"), 0)

    def escaped(run: Column) -> Column:
        units = F.regexp_replace(F.hex(F.encode(run, "UTF-16BE")), "(.{4})", r"\\u$1")
        return F.when(F.octet_length(run) == F.char_length(run), run).otherwise(units)

    return F.array_join(F.transform(runs, escaped), "")


def split_rows(spark: SparkSession, mapping: LogMapping, source: str, target: str) -> None:
    """Writes complete day folders below target."""
    files = files_by_source(spark, mapping, source)
    fit_to_size(spark, [file for of_one in files.values() for file in of_one])
    placed = {name: placed_rows(spark, one, files[name], source) for name, one in mapping.sources.items()}
    # Cached with all columns: Spark would parse only those that a query needs, and miss corrupt records.
    for rows in placed.values():
        rows.persist()
    try:
        rows_by_day: Counter[date | None] = Counter()
        for name, one in mapping.sources.items():
            rows_by_day += count_rows(placed[name], files[name], one.source)
        first, last = check_days(rows_by_day, source)
        for name, rows in placed.items():
            dated = rows.drop(UNREADABLE).withColumn(DAY, F.coalesce(DAY, F.lit(first)))
            write_rows(dated, mapping.sources[name].source, f"{target}/_split/{name}".removesuffix("/"))
    finally:
        for rows in placed.values():
            rows.unpersist()
    if mapping.items is not None:
        if "valid_from" not in mapping.items.fields:
            say(
                f"{JOB}: the catalogue is delivered on {first}: its titles count from then on, later ones too"
            )
        # One folder each, because two files may have the same name.
        for n, file in enumerate(source_files(spark, mapping.items.source, source)):
            copy_files(spark, [file], f"{logs.items_folder(target, first)}/{n:06d}")
    for name in mapping.sources:
        place_days(spark, f"{target}/_split/{name}".removesuffix("/"), target, name)
    for day in Days(first, last):
        touch(spark, f"{logs.day_folder(target, day)}/{logs.CLOSED_MARK}")
    remove_folder(spark, f"{target}/_split")


def placed_rows(spark: SparkSession, mapping: EventSource, files: Sequence[str], source: str) -> DataFrame:
    """The rows of a source's files with FILE and DAY."""
    # Not only AnalysisException: Spark reports an unknown value of an option with other classes.
    try:
        return place_rows(with_file(logs.read_files(spark, mapping.source, files), files, source), mapping)
    except PySparkException as error:
        raise JobError(f"the mapping does not fit {files[0]}: {one_sentence(error)}") from error


def place_days(spark: SparkSession, split: str, target: str, source: str) -> None:
    """Moves the days of one source into their day folders."""
    for name in folder_content(spark, split):
        if name.startswith(f"{DAY}="):
            day = date.fromisoformat(name.removeprefix(f"{DAY}="))
            move(spark, f"{split}/{name}", logs.source_folder(target, day, source))


def with_file(rows: DataFrame, files: Sequence[str], source: str) -> DataFrame:
    """The rows with FILE, the number of their file: it sorts like the files and is a valid folder name."""
    numbers = [(logs.below(file, source), f"{n:06d}") for n, file in enumerate(files)]
    by_path = rows.sparkSession.createDataFrame(numbers, f"`path of file` string, `{FILE}` string")
    named = rows.withColumn("path of file", logs.below_root(F.input_file_name(), source))
    return named.join(F.broadcast(by_path), "path of file").drop("path of file")


def count_rows(placed: DataFrame, files: Sequence[str], source: Source) -> Counter[date | None]:
    """The rows by day; None: without a readable time. Raises JobError if a record can't be parsed."""
    broken = F.count(quoted(UNREADABLE)) if UNREADABLE in placed.columns else F.lit(0)
    found = placed.groupBy(DAY, FILE).agg(F.count("*").alias("rows"), broken.alias("broken")).collect()
    in_files = Counter({row[FILE]: row["broken"] for row in found if row["broken"]})
    if in_files:
        first = min(in_files)
        others = f" and {len(in_files) - 1} other files" if len(in_files) > 1 else ""
        raise JobError(
            f"{in_files.total()} records of {files[int(first)]}{others} can't be parsed as {source.format}; "
            "correct the file or the mapping's options"
        )
    rows_by_day: Counter[date | None] = Counter()
    for row in found:
        rows_by_day[row[DAY]] += row["rows"]
    return rows_by_day


def check_days(rows_by_day: Counter[date | None], folder: str) -> tuple[date, date]:
    """The first and the last day. Raises JobError if there is none or the days are implausible."""
    dated = {day: rows for day, rows in rows_by_day.items() if day is not None}
    if not dated:
        raise JobError(f"no row of {folder} has a time that the mapping can read; correct its event_ts")
    first, last = span(dated, folder)
    say(f"{JOB}: {rows_by_day.total():,} rows of {first}..{last}")
    return first, last


def files_by_source(spark: SparkSession, mapping: LogMapping, folder: str) -> dict[str, list[str]]:
    """The data set's files of each source. Raises JobError where one has none, or two have the same."""
    found = {name: source_files(spark, one.source, folder) for name, one in mapping.sources.items()}
    owners: dict[str, str] = {}
    for name, files in found.items():
        for file in files:
            if owners.setdefault(file, name) != name:
                raise JobError(
                    f"{file} matches the files of both sources {owners[file]} and {name}; correct the mapping"
                )
    return found


def source_files(spark: SparkSession, source: Source, folder: str) -> list[str]:
    """The data set's files of a source.

    Raises JobError where there is none, one is of another format, or folders hold a column of the mapping.
    """
    files = matching_files(spark, folder, source.files)
    if not files:
        raise JobError(f"no file in {folder} matches {source.files}; correct --source or the mapping's files")
    if in_paths := sorted(logs.folder_columns(source, files, folder)):
        raise JobError(
            f"the mapping's column {in_paths[0]} has its values in names of folders below {folder}, which an "
            "import does not keep; write it into the files, or lay out the day folders by hand"
        )
    if source.format != "parquet":
        damage.require_texts(spark, source.format, files)
    return files


def marks_of(spark: SparkSession, mapping: LogMapping, folder: str) -> Marks:
    """The data set's files that the mapping reads, as they are now."""
    read = [one.source for one in mapping.sources.values()]
    patterns = [source.files for source in [*read, *([mapping.items.source] if mapping.items else [])]]
    found = file_marks(spark, folder).items()
    return {file: mark for file, mark in found if any(is_named(file, pattern) for pattern in patterns)}


def require_apart(source: str, logs_root: str) -> None:
    """Raises JobError where one of the two folders lies in the other."""
    if f"{logs_root}/".startswith(f"{source}/") or f"{source}/".startswith(f"{logs_root}/"):
        raise JobError(
            f"the logs {logs_root} and the source {source} lie in each other, so that written files would be "
            "read; give --logs a folder outside the source"
        )


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    # Next to the logs, so that moving it into place is one rename. What a killed import left is removed.
    staging = f"{args.logs}.importing"
    for written in (args.logs, staging):
        require_apart(args.source, written)
    if folder_content(spark, args.logs):
        raise JobError(f"{args.logs} is not empty; give a new folder, so that no day is imported twice")
    remove_folder(spark, staging)
    try:
        with unchanged(lambda: marks_of(spark, args.mapping, args.source)), damage.readable():
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
