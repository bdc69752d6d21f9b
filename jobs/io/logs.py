"""The day folders of a log.

Which exist and are closed, and their records as the mapping's source declares them.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.cli import Parser
from jobs.io.columns import as_type, quoted, typed_columns
from jobs.io.days import Days
from jobs.io.formats import SHOWN, UNREADABLE, declared_types, parts
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.paths import existing_folder, small_text
from jobs.io.session import in_zone
from jobs.io.storage import data_files, folder_content, is_local, path_exists, without_scheme
from schemas.mapping import (
    THE_DAY,
    LogMapping,
    MappingError,
    Source,
    parse_mapping,
    shipped_mapping,
    shipped_names,
)

CLOSED_MARK = "_SUCCESS"
FLOATS = {"float", "double"}
# Hive's name of a folder for NULL.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# Columns that a read adds to the source's own; the blank keeps them apart from any source's names.
LOG_DATE, SOURCE_FILE, WRONG_TYPE = "log date", "source file", "column of wrong type"
ADDED = LOG_DATE, SOURCE_FILE, UNREADABLE, WRONG_TYPE


@dataclass(frozen=True)
class Logs:
    """A folder of logs and the mapping that reads it."""

    root: str
    mapping: LogMapping

    def folders(self, days: Days, source: str = THE_DAY) -> list[str]:
        """The day folders of the days, or those of one source below them."""
        return [source_folder(self.root, day, source) for day in days]


# ---- arguments


def add_logs(parser: Parser, required: bool = True) -> None:
    """The arguments of a job that reads logs."""
    folders = "folder with dt=YYYY-MM-DD folders"
    parser.add_argument("--logs", required=required, type=existing_folder, metavar="DIR", help=folders)
    mapping = "log mapping: a file, or the name of a shipped one"
    parser.add_argument("--mapping", type=mapping_file, default="canonical", metavar="FILE", help=mapping)


def mapping_file(text: str) -> LogMapping:
    """An argument's mapping: a YAML file, or the name of a shipped one."""
    shipped = shipped_mapping(text)
    try:
        return parse_mapping(shipped if shipped is not None else small_text(text), text)
    except FileNotFoundError:
        names = ", ".join(shipped_names())
        raise argparse.ArgumentTypeError(f"no such file: {text} (shipped mappings are {names})") from None
    except MappingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# ---- folders


def day_folder(logs: str, day: date) -> str:
    """Where a day's events lie."""
    return f"{logs}/dt={day}"


def source_folder(logs: str, day: date, source: str) -> str:
    """Where a day's files of one source lie."""
    return day_folder(logs, day) if source == THE_DAY else f"{day_folder(logs, day)}/{source}"


def items_folder(logs: str, day: date) -> str:
    """Where a day's catalogue lies."""
    return f"{logs}/items/dt={day}"


def require_closed(spark: SparkSession, logs: str, days: Days) -> None:
    """Raises JobError, naming the day, where a day's folder is missing or is not marked complete."""
    for day in days:
        folder = day_folder(logs, day)
        if not path_exists(spark, folder):
            raise JobError(
                f"there is no folder {folder}; a day without events is an empty folder with {CLOSED_MARK}"
            )
        if not path_exists(spark, f"{folder}/{CLOSED_MARK}"):
            raise JobError(f"{folder} is not complete: it has no {CLOSED_MARK}")


def is_empty_closed_day(spark: SparkSession, logs: str, day: date) -> bool:
    """Whether a day is marked complete and has no data file."""
    folder = day_folder(logs, day)
    return path_exists(spark, f"{folder}/{CLOSED_MARK}") and not data_files(spark, folder)


def day_folders(spark: SparkSession, folder: str) -> list[date]:
    """The days that have a dt folder in a folder, in order."""
    names = [name[3:] for name in folder_content(spark, folder) if name.startswith("dt=")]
    return sorted(date.fromisoformat(name) for name in names if _is_day(name))


def _is_day(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


# ---- records


def read_days(
    spark: SparkSession, source: Source, folders: Sequence[str], root: str, zone: str | None = None
) -> DataFrame:
    """The records of all data files in the folders and below: the declared columns, and those in ADDED.

    zone: of times without an offset. The rows come in a session of this zone (jobs/io/session.py in_zone).
    """
    listed = {folder: files for folder in folders if (files := data_files(spark, folder))}
    # Folders, not files: Spark would look up thousands of files one by one.
    read = parts(spark, source, listed, recursiveFileLookup="true")
    if is_local(root):
        _require_all_read(read, [file for files in listed.values() for file in files])
    in_paths = folder_columns(source, [file for files in listed.values() for file in files], root)
    missing = {*source.columns} - in_paths - {name for part in read for name in part.columns}
    if read and missing:
        where, names = ", ".join(listed)[:SHOWN], " or ".join(sorted(missing))[:SHOWN]
        say(f"no file in {where} has the column {names}: read as empty")
    if source.format == "parquet":
        _tell_types(read, source)
    if not read:
        empty = spark.createDataFrame([], declared_types(source))
        added = [F.lit("").alias(name) for name in ADDED[1:]]
        return in_zone(empty.select("*", F.lit(None).cast("date").alias(LOG_DATE), *added), zone)
    placed = [_placed(part, [*listed], root) for part in read]
    return reduce(
        DataFrame.unionAll, [_as_declared(in_zone(part, zone), source, in_paths) for part in placed]
    )


def _require_all_read(read: Sequence[DataFrame], files: Sequence[str]) -> None:
    """Raises JobError where Spark's own listing lacks a file: under a locale that can't decode its name."""
    found = {without_scheme(unquote(file)) for part in read for file in part.inputFiles()}
    # Spark leaves out files of zero bytes.
    if lost := sorted(file for file in {*files} - found if Path(file).stat().st_size):
        raise JobError(
            f"{ascii(lost[0])[1:-1]} is not found by Java, whose locale can't decode its name: start the job "
            "with LC_ALL=C.UTF-8; nothing of its day was stored"
        )


def _tell_types(read: Sequence[DataFrame], source: Source) -> None:
    """Says which columns are of several types, or floating point numbers where the mapping has none."""
    for field in declared_types(source):
        files: Counter[str] = Counter()
        for part in read:
            if field.name in part.columns:
                files[part.schema[field.name].dataType.simpleString()] += len(part.inputFiles())
        declared = field.dataType.simpleString()
        if len(files) > 1 or (set(files) & FLOATS and declared not in FLOATS):
            found = " and ".join(f"{kind} in {n:,} files" for kind, n in sorted(files.items()))
            say(f"the column {field.name}, declared {declared}, is {found}: equal numbers are equal values")


def folder_columns(source: Source, files: Sequence[str], root: str) -> set[str]:
    """The declared columns that have their values in names of folders, as in dt=2025-04-01/country=DE."""
    paths = {below(file, root).rpartition("/")[0] for file in files}
    names = {part.split("=")[0] for path in paths for part in path.split("/") if "=" in part}
    return names & {*source.columns}


def _placed(read: DataFrame, folders: Sequence[str], root: str) -> DataFrame:
    """Adds LOG_DATE and SOURCE_FILE."""
    # Not from _metadata.file_path: Spark would build a struct for every row.
    named = read.withColumn(SOURCE_FILE, below_root(F.input_file_name(), root))
    return named.withColumn(LOG_DATE, _day_of(folders))


def _as_declared(placed: DataFrame, source: Source, in_paths: Set[str]) -> DataFrame:
    kinds = {field.name: field.dataType for field in placed.schema}
    declared, from_bytes = declared_types(source), source.format == "parquet"
    typed, wrong = typed_columns(kinds, declared, from_bytes)
    for name in in_paths:
        value = _of_path(name)
        of_path = as_type(value, T.StringType(), declared[name].dataType)
        wrong.append(F.when(value.isNotNull() & of_path.isNull(), F.lit(name)))
        typed[name] = F.coalesce(typed[name], of_path)
    unreadable = F.make_valid_utf8(quoted(UNREADABLE)) if UNREADABLE in kinds else F.lit(None).cast("string")
    return placed.select(
        *[typed[name].alias(name) for name in source.columns],
        quoted(LOG_DATE),
        quoted(SOURCE_FILE),
        unreadable.alias(UNREADABLE),
        F.coalesce(*wrong, F.lit(None).cast("string")).alias(WRONG_TYPE),
    )


def _of_path(name: str) -> Column:
    """The value of a folder NAME=VALUE in a file's path, escaped as Hive does; NULL without one.

    A value that Hive would have escaped, as the per cent sign of 50%, is taken as it stands.
    """
    found = F.regexp_extract(quoted(SOURCE_FILE), f"(?:^|/){re.escape(name)}=([^/]*)/", 1)
    value = F.coalesce(F.try_url_decode(F.replace(found, F.lit("+"), F.lit("%2B"))), found)
    return F.when(~value.isin("", NO_VALUE), value)


def _day_of(folders: Sequence[str]) -> Column:
    """The day of a record's folder.

    A literal where there is one folder, since parsing costs 5% of the ingest.
    """
    if len(folders) == 1:
        return F.lit(date.fromisoformat(folders[0].rpartition("dt=")[2][:10]))
    day = F.substring(quoted(SOURCE_FILE), F.instr(quoted(SOURCE_FILE), "dt=") + 3, F.lit(10))
    return F.to_date(day)


def below_root(column: Column, root: str) -> Column:
    """A file's path relative to the logs folder: Spark gives file:///logs/b%20c for /logs/b c."""
    decoded = F.url_decode(F.replace(column, F.lit("+"), F.lit("%2B")))
    path = F.when(F.contains(column, F.lit("%")), decoded).otherwise(column)
    # A local path begins with file:/ or file:///, at Spark's choice; no regular expression, as it runs on
    # every row.
    return F.substring(path, F.instr(path, _plain(root)) + len(_plain(root)) + 1, F.lit(100_000))


def below(file: str, root: str) -> str:
    """A file's path relative to the logs folder, as in SOURCE_FILE."""
    return without_scheme(file)[len(_plain(root)) + 1 :]


def _plain(root: str) -> str:
    return root.removeprefix("file://")


def read_files(spark: SparkSession, source: Source, files: Sequence[str]) -> DataFrame:
    """The records of files with all columns that any file has; unparsable ones are in UNREADABLE."""
    read = parts(spark, source, {file: [file] for file in files}, keeps_unmapped=True)
    if not read:
        raise JobError(f"{files[0]} has no columns")
    try:
        return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), read)
    except AnalysisException as error:
        raise JobError(
            f"{files[0]} and the other files have columns of different types: {one_sentence(error)}"
        ) from error
