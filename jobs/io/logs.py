"""Reading the day folders of a log: which are there and closed, and their rows as the mapping's source declares them."""

import argparse
from collections.abc import Sequence
from datetime import date, timedelta
from fnmatch import fnmatch
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io.session import located
from jobs.io.shell import JobError, Parser, existing_folder
from schemas.mapping import LogMapping, MappingError, Source, parse_mapping, shipped_mapping, shipped_names

CLOSED_MARK = "_SUCCESS"
# Columns that a read adds beside the source's own; the blank keeps them apart from any source's names.
LOG_DATE, SOURCE_FILE, UNREADABLE = "log date", "source file", "unreadable record"


def add_logs(parser: Parser) -> None:
    """The arguments of a job that reads logs."""
    parser.add_argument("--logs", required=True, type=existing_folder, metavar="DIR", help="folder with dt=YYYY-MM-DD folders")
    parser.add_argument(
        "--mapping", type=mapping_file, default="canonical", metavar="FILE", help="log mapping: a file, or the name of a shipped one"
    )


def mapping_file(text: str) -> LogMapping:
    """An argument's mapping: a YAML file, or the name of a shipped one."""
    shipped = shipped_mapping(text)
    try:
        return parse_mapping(shipped if shipped is not None else Path(text).read_text(encoding="utf-8"), text)
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(f"no such file: {text} (shipped mappings are {', '.join(shipped_names())})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text} can't be read: {type(error).__name__}") from None
    except MappingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def day_folder(logs: str, day: date) -> str:
    return f"{logs}/dt={day}"


def items_folder(logs: str, day: date) -> str:
    return f"{logs}/items/dt={day}"


def require_closed(spark: SparkSession, logs: str, days: Sequence[date]) -> None:
    """Stops, with the day's name, where a day's folder is missing or is not marked complete."""
    for day in days:
        folder = day_folder(logs, day)
        if not path_exists(spark, folder):
            raise JobError(f"there is no folder {folder}; a day without events is an empty folder with {CLOSED_MARK}")
        if not path_exists(spark, f"{folder}/{CLOSED_MARK}"):
            raise JobError(f"{folder} is not complete: it has no {CLOSED_MARK}")


def is_empty_closed_day(spark: SparkSession, logs: str, day: date) -> bool:
    folder = day_folder(logs, day)
    return path_exists(spark, f"{folder}/{CLOSED_MARK}") and not data_files(spark, folder)


def read_days(spark: SparkSession, source: Source, folders: Sequence[str], root: str) -> DataFrame:
    """The rows of all data files in the folders: the declared columns, LOG_DATE, SOURCE_FILE (below root), UNREADABLE."""
    files = [file for folder in folders for file in data_files(spark, folder)]
    wanted = [F.col(_quoted(name)).cast(ddl).alias(name) for name, ddl in source.columns.items()]
    if not files:
        empty = spark.createDataFrame([], _ddl(source))
        return empty.select("*", F.lit(None).cast("date").alias(LOG_DATE), *[F.lit("").alias(n) for n in (SOURCE_FILE, UNREADABLE)])
    read = read_files(spark, source, files)
    present = set(read.columns)
    missing = [F.lit(None).cast(ddl).alias(name) for name, ddl in source.columns.items() if name not in present]
    # Both spellings of one place: Spark gives file:///a/b, the argument was /a/b.
    path = F.regexp_replace(F.url_decode(F.replace(F.col("_metadata.file_path"), F.lit("+"), F.lit("%2B"))), "^file:/+", "/")
    below = F.substring(path, F.lit(len(_plain(root)) + 2), F.lit(100_000))
    return read.select(
        *[column for name, column in zip(source.columns, wanted, strict=True) if name in present],
        *missing,
        F.to_date(F.regexp_extract(path, r"/dt=(\d{4}-\d{2}-\d{2})/[^/]*$", 1)).alias(LOG_DATE),
        below.alias(SOURCE_FILE),
        (F.col(_quoted(UNREADABLE)) if UNREADABLE in present else F.lit(None).cast("string")).alias(UNREADABLE),
    )


def read_files(spark: SparkSession, source: Source, files: Sequence[str]) -> DataFrame:
    """The files with their own columns, those of text formats as the source declares them; what can't be parsed stands in UNREADABLE."""
    if source.format == "parquet":
        return spark.read.options(**source.options).parquet(*files)
    reader = spark.read.options(mode="PERMISSIVE", columnNameOfCorruptRecord=UNREADABLE).options(**source.options)
    if source.format == "json":
        return reader.schema(f"{_ddl(source)}, {_quoted(UNREADABLE)} STRING").json(list(files))
    # Columns go by the header's names, whatever their order; a file of the day with another header is an error.
    options = {"header": "true", "escape": '"', "enforceSchema": "false"} | source.options
    header = spark.read.options(**options).csv(list(files)).columns
    schema = ", ".join(f"{_quoted(name)} STRING" for name in [*header, UNREADABLE])
    return reader.options(**options).schema(schema).csv(list(files))


def data_files(spark: SparkSession, folder: str) -> list[str]:
    """The folder's files but for those that begin with _ or a dot, which are marks; sorted."""
    path, fs = located(spark, folder)
    if not fs.exists(path):
        return []
    found = [status.getPath() for status in fs.listStatus(path) if status.isFile()]
    return sorted(p.toString() for p in found if not p.getName().startswith(("_", ".")))


def matching_files(spark: SparkSession, folder: str, pattern: str) -> list[str]:
    """The files of a folder whose name fits the pattern; sorted."""
    return [file for file in data_files(spark, folder) if fnmatch(file.rsplit("/", 1)[-1], pattern)]


def folder_content(spark: SparkSession, folder: str) -> list[str]:
    """Names of all that lies in a folder; empty where it is not there."""
    path, fs = located(spark, folder)
    return [str(status.getPath().getName()) for status in fs.listStatus(path)] if fs.exists(path) else []


def copy_files(spark: SparkSession, files: Sequence[str], folder: str) -> None:
    target, target_fs = located(spark, folder)
    target_fs.mkdirs(target)
    for file in files:
        path, fs = located(spark, file)
        spark._jvm.org.apache.hadoop.fs.FileUtil.copy(fs, path, target_fs, target, False, spark.sparkContext._jsc.hadoopConfiguration())  # type: ignore[union-attr]


def day_folders(spark: SparkSession, folder: str) -> list[date]:
    """The days of the dt folders in a folder, in order."""
    return sorted(date.fromisoformat(n[3:]) for n in folder_content(spark, folder) if n.startswith("dt=") and _is_day(n[3:]))


def path_exists(spark: SparkSession, path: str) -> bool:
    hadoop_path, fs = located(spark, path)
    return bool(fs.exists(hadoop_path))


def touch(spark: SparkSession, path: str) -> None:
    """An empty file, with its folder."""
    hadoop_path, fs = located(spark, path)
    fs.create(hadoop_path, True).close()


def move(spark: SparkSession, source: str, target: str) -> None:
    source_path, fs = located(spark, source)
    target_path, _ = located(spark, target)
    if not fs.rename(source_path, target_path):
        raise JobError(f"{source} could not be moved to {target}")


def remove_folder(spark: SparkSession, path: str) -> None:
    hadoop_path, fs = located(spark, path)
    fs.delete(hadoop_path, True)


def _ddl(source: Source) -> str:
    return ", ".join(f"{_quoted(name)} {ddl}" for name, ddl in source.columns.items())


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _plain(root: str) -> str:
    return root.removeprefix("file://")


def _is_day(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False
