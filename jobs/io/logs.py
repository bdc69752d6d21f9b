"""The day folders of a log.

Which exist and are closed, and their records as the mapping's source declares them.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path
from typing import cast

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.cli import Parser, existing_folder
from jobs.io.days import Days
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.storage import data_files, first_line, folder_content, open_parquet, path_exists
from schemas.mapping import LogMapping, MappingError, Source, parse_mapping, shipped_mapping, shipped_names

CLOSED_MARK = "_SUCCESS"
# Prefixes of Spark's names for these kinds of types.
NESTED = ("array", "map", "struct")
NUMBERS = ("tinyint", "smallint", "int", "bigint", "decimal", "float", "double")
# Reading footers and headers mostly waits for the disk or the network.
THREADS = 4
# Longest list of names in a message, characters.
SHOWN = 300
# Columns that a read adds to the source's own; the blank keeps them apart from any source's names.
ADDED = LOG_DATE, SOURCE_FILE, UNREADABLE, WRONG_TYPE = (
    "log date",
    "source file",
    "unreadable record",
    "column of wrong type",
)


@dataclass(frozen=True)
class Logs:
    """A folder of logs and the mapping that reads it."""

    root: str
    mapping: LogMapping

    def folders(self, days: Days) -> list[str]:
        """The day folders of the days."""
        return [day_folder(self.root, day) for day in days]


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
        return parse_mapping(shipped if shipped is not None else Path(text).read_text(encoding="utf-8"), text)
    except FileNotFoundError:
        names = ", ".join(shipped_names())
        raise argparse.ArgumentTypeError(f"no such file: {text} (shipped mappings are {names})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text} can't be read: {type(error).__name__}") from None
    except MappingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# ---- folders


def day_folder(logs: str, day: date) -> str:
    """Where a day's events lie."""
    return f"{logs}/dt={day}"


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


def read_days(spark: SparkSession, source: Source, folders: Sequence[str], root: str) -> DataFrame:
    """The records of all data files in the folders and below: the declared columns, and those in ADDED."""
    filled = [folder for folder in folders if data_files(spark, folder)]
    # Folders, not files: Spark would look up thousands of files one by one.
    read = _parts(spark, source, filled, recursiveFileLookup="true")
    missing = [name for name in source.columns if read and not any(name in part.columns for part in read)]
    if missing:
        where, names = ", ".join(filled)[:SHOWN], " or ".join(missing)[:SHOWN]
        say(f"no file in {where} has the column {names}: read as empty")
    parts = [_as_declared(part, source, filled, root) for part in read]
    if not parts:
        empty = spark.createDataFrame([], _ddl(source))
        added = [F.lit("").alias(name) for name in ADDED[1:]]
        return empty.select("*", F.lit(None).cast("date").alias(LOG_DATE), *added)
    return reduce(DataFrame.unionAll, parts)


def _as_declared(read: DataFrame, source: Source, folders: Sequence[str], root: str) -> DataFrame:
    kinds = dict(read.dtypes)
    columns = {name: F.col(quoted(name)) if name in kinds else F.lit(None) for name in source.columns}
    typed = {name: columns[name].cast(ddl) for name, ddl in source.columns.items()}
    if source.format == "parquet":
        columns = {name: _text_of_bytes(column, kinds.get(name, "")) for name, column in columns.items()}
        typed = {
            name: _of_type(columns[name], kinds.get(name, ""), ddl) for name, ddl in source.columns.items()
        }
    # Not from _metadata.file_path: Spark would build a struct for every row.
    named = read.withColumn(SOURCE_FILE, below_root(F.input_file_name(), root))
    unreadable = F.make_valid_utf8(quoted(UNREADABLE)) if UNREADABLE in kinds else F.lit(None).cast("string")
    return named.select(
        *[column.alias(name) for name, column in typed.items()],
        _day_of(folders).alias(LOG_DATE),
        SOURCE_FILE,
        unreadable.alias(UNREADABLE),
        _first_of_wrong_type(read, source, columns, typed).alias(WRONG_TYPE),
    )


def _text_of_bytes(column: Column, kind: str) -> Column:
    """A Parquet text as valid UTF-8: no reader has checked its bytes, unlike those of the other formats."""
    return F.make_valid_utf8(column.cast("string")) if kind in ("string", "binary") else column


def _of_type(column: Column, kind: str, ddl: str) -> Column:
    """A Parquet column as the declared type, NULL where the value does not fit."""
    if kind.startswith(NESTED):
        # As one string it contains the bytes of all strings inside.
        return F.when(F.is_valid_utf8(column.cast("string")), column.cast(ddl))
    # A plain cast would wrap a number beyond the declared type into another one.
    return column.try_cast(ddl) if kind.startswith(NUMBERS) else column.cast(ddl)


def _day_of(folders: Sequence[str]) -> Column:
    """The day of a record's folder.

    A literal where there is one folder, since parsing costs 5% of the ingest.
    """
    if len(folders) == 1:
        return F.lit(date.fromisoformat(folders[0][-10:]))
    return F.to_date(F.substring(SOURCE_FILE, F.instr(SOURCE_FILE, "dt=") + 3, F.lit(10)))


def _first_of_wrong_type(
    read: DataFrame, source: Source, columns: Mapping[str, Column], typed: Mapping[str, Column]
) -> Column:
    """The name of the first column whose value is present and not of the declared type; NULL where all fit.

    JSON's reader converts by itself, and reports a record that it can't convert as unreadable.
    """
    kinds, fields = dict(read.dtypes), cast(T.StructType, T.StructType.fromDDL(_ddl(source)))
    declared = {field.name: field.dataType.simpleString() for field in fields}
    checked = NESTED if source.format == "parquet" else ()
    wrong = [
        F.when(column.isNotNull() & (F.trim(column.cast("string")) != "") & typed[name].isNull(), F.lit(name))
        for name, column in columns.items()
        if name in kinds and (kinds[name] != declared[name] or kinds[name].startswith(checked))
    ]
    return F.coalesce(*wrong, F.lit(None).cast("string"))


def below_root(column: Column, root: str) -> Column:
    """A file's path relative to the logs folder: Spark gives file:///logs/b%20c for /logs/b c."""
    decoded = F.url_decode(F.replace(column, F.lit("+"), F.lit("%2B")))
    path = F.when(F.contains(column, F.lit("%")), decoded).otherwise(column)
    # A local path begins with file:/ or file:///, at Spark's choice; no regular expression, as it runs on
    # every row.
    return F.substring(path, F.instr(path, _plain(root)) + len(_plain(root)) + 1, F.lit(100_000))


def below(file: str, root: str) -> str:
    """A file's path relative to the logs folder, as in SOURCE_FILE."""
    return re.sub("^file:/+", "/", file)[len(_plain(root)) + 1 :]


def _plain(root: str) -> str:
    return root.removeprefix("file://")


def read_files(spark: SparkSession, source: Source, files: Sequence[str]) -> DataFrame:
    """The records of files with all columns that any file has; unparsable ones are in UNREADABLE."""
    parts = _parts(spark, source, files)
    if not parts:
        raise JobError(f"{files[0]} has no columns")
    try:
        return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    except AnalysisException as error:
        raise JobError(
            f"{files[0]} and the other files have columns of different types: {one_sentence(error)}"
        ) from error


# ---- formats


def _parts(spark: SparkSession, source: Source, paths: Sequence[str], **more: str) -> list[DataFrame]:
    """Files or folders with their own columns, one frame for each schema.

    Unparsable records are in UNREADABLE.
    """
    if not paths:
        return []
    if source.format == "parquet":
        read = spark.read.options(**source.options, **more)
        return [read.parquet(*map(_literal, alike)) for alike in _by_parquet_schema(spark, paths)]
    return (_json_parts if source.format == "json" else _csv_parts)(spark, source, paths, more)


def _json_parts(
    spark: SparkSession, source: Source, paths: Sequence[str], more: Mapping[str, str]
) -> list[DataFrame]:
    # Where the text is not UTF-8, Spark must be told the line separator.
    options = {"lineSep": "\n"} | source.options if "encoding" in source.options else source.options
    reader = spark.read.options(mode="PERMISSIVE", columnNameOfCorruptRecord=UNREADABLE, **more)
    schema = f"{_ddl(source)}, {quoted(UNREADABLE)} STRING"
    records = reader.options(**options).schema(schema).json([*map(_literal, paths)])
    return [records, _passed_over(spark, paths, options, more)]


def _csv_parts(
    spark: SparkSession, source: Source, paths: Sequence[str], more: Mapping[str, str]
) -> list[DataFrame]:
    """Columns go by the names in a file's header, in any order.

    Without a header they are the declared ones.
    """
    # maxColumns: a line with too many columns is then a bad line, not an error for the file.
    defaults = {"header": "true", "escape": '"', "enforceSchema": "false", "maxColumns": "1000000"}
    options = defaults | source.options
    by_names: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        with_header = options["header"] == "true"
        names = _header(spark, source, path, {**options, **more}) if with_header else tuple(source.columns)
        by_names.setdefault(names, []).append(_literal(path))
    by_names.pop((), None)  # files of zero bytes
    reader = spark.read.options(mode="PERMISSIVE", columnNameOfCorruptRecord=UNREADABLE, **more)
    schemas = {n: ", ".join(f"{quoted(name)} STRING" for name in [*n, UNREADABLE]) for n in by_names}
    return [reader.options(**options).schema(schemas[n]).csv(alike) for n, alike in by_names.items()]


def _passed_over(
    spark: SparkSession, paths: Sequence[str], options: Mapping[str, str], more: Mapping[str, str]
) -> DataFrame:
    """What Spark's JSON reader silently drops, in UNREADABLE.

    The rest of a line after its first value, and `[]`.
    """
    is_whole_file = {name.lower(): text for name, text in options.items()}.get("multiline", "false")
    text = spark.read.options(**options, **more)
    lines = text.text([*map(_literal, paths)], wholetext=is_whole_file == "true")
    line, quiet = F.col("value"), {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": UNREADABLE}
    # Most lines are one flat object, whose only closing brace is the last byte: those need no parsing.
    is_flat = F.octet_length(F.substring_index(line, "}", 1)) == F.octet_length(line) - 1
    # Parses only if nothing but our own ending follows the line's first value.
    wrapped = F.concat(F.lit('{"line":'), line, F.lit(',"end":0}'))
    is_single = F.from_json(wrapped, "end INT", quiet)["end"].isNotNull()
    # A line that does not start with a value is in the reader's own UNREADABLE.
    as_object = F.from_json(line, f"{quoted(UNREADABLE)} STRING", quiet)
    as_array = F.from_json(line, "ARRAY<STRING>", quiet)
    has_value = (as_object.isNotNull() & as_object[UNREADABLE].isNull()) | as_array.isNotNull()
    # From the first object's end on, so that the rest does not look like a record.
    rest = F.substring(line, F.instr(line, "}"), F.octet_length(line))
    # Nested conditions: Spark would compute their common subexpressions first, and for every line.
    is_empty_array = F.when(line.rlike(r"^\s*\["), F.size(as_array) == 0)
    lost = F.when(is_flat, F.lit(False)).when(is_single, is_empty_array).otherwise(has_value | is_empty_array)
    return lines.where(lost).select(rest.alias(UNREADABLE))


def _by_parquet_schema(spark: SparkSession, paths: Sequence[str]) -> list[Sequence[str]]:
    """The files grouped by schema, since Spark reads all with the schema of one.

    The paths where all agree.
    """
    files = [file for path in paths for file in data_files(spark, path)]
    if len(files) == 1:
        return [paths]
    with ThreadPoolExecutor(THREADS) as pool:
        by_schema: dict[str, list[str]] = {}
        schemas = pool.map(lambda file: _parquet_schema(spark, file), files)
        for file, schema in zip(files, schemas, strict=True):
            by_schema.setdefault(schema, []).append(file)
    return [paths] if len(by_schema) == 1 else [*by_schema.values()]


def _parquet_schema(spark: SparkSession, file: str) -> str:
    try:
        with open_parquet(spark, file) as reader:
            return str(reader.getFileMetaData().getSchema().toString())
    except Py4JJavaError as error:
        raise JobError(f"{file} is not a complete Parquet file: {first_line(error)}") from error


def _header(spark: SparkSession, source: Source, path: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The column names of a CSV file or folder; empty where there are no bytes."""
    names = tuple(spark.read.options(**options).csv(_literal(path)).columns)
    if names and not set(names) & set(source.columns):
        found, wanted = ", ".join(names)[:SHOWN], ", ".join(source.columns)[:SHOWN]
        raise JobError(
            f"{path} has none of the mapping's columns: its header has {found}, "
            f"and the mapping wants {wanted}"
        )
    return names


def _literal(path: str) -> str:
    """A path for Spark's readers, with glob characters escaped."""
    return re.sub(r"([][{}*?\\])", r"\\\1", path)


def _ddl(source: Source) -> str:
    return ", ".join(f"{quoted(name)} {ddl}" for name, ddl in source.columns.items())


def quoted(name: str) -> str:
    """A column's name in backticks: Spark then takes any name, those in ADDED too."""
    return "`" + name.replace("`", "``") + "`"
