"""Reading the day folders of a log: which are there and closed, and their rows as the mapping's source declares them."""

import argparse
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import reduce
from pathlib import Path
from typing import cast

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.cli import Parser, existing_folder
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.storage import data_files, first_line, folder_content, open_parquet, path_exists
from schemas.mapping import LogMapping, MappingError, Source, parse_mapping, shipped_mapping, shipped_names

CLOSED_MARK = "_SUCCESS"
# How the names of these types of Spark begin.
NESTED, NUMBERS = (
    ("array", "map", "struct"),
    ("tinyint", "smallint", "int", "bigint", "decimal", "float", "double"),
)
# Looking into files is waiting for the disk or the network as much as for the processor.
THREADS = 4
# Columns that a read adds beside the source's own; the blank keeps them apart from any source's names.
ADDED = LOG_DATE, SOURCE_FILE, UNREADABLE, WRONG_TYPE = (
    "log date",
    "source file",
    "unreadable record",
    "column of wrong type",
)


def add_logs(parser: Parser) -> None:
    """The arguments of a job that reads logs."""
    parser.add_argument(
        "--logs", required=True, type=existing_folder, metavar="DIR", help="folder with dt=YYYY-MM-DD folders"
    )
    parser.add_argument(
        "--mapping",
        type=mapping_file,
        default="canonical",
        metavar="FILE",
        help="log mapping: a file, or the name of a shipped one",
    )


def mapping_file(text: str) -> LogMapping:
    """An argument's mapping: a YAML file, or the name of a shipped one."""
    shipped = shipped_mapping(text)
    try:
        return parse_mapping(shipped if shipped is not None else Path(text).read_text(encoding="utf-8"), text)
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(
            f"no such file: {text} (shipped mappings are {', '.join(shipped_names())})"
        ) from None
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
            raise JobError(
                f"there is no folder {folder}; a day without events is an empty folder with {CLOSED_MARK}"
            )
        if not path_exists(spark, f"{folder}/{CLOSED_MARK}"):
            raise JobError(f"{folder} is not complete: it has no {CLOSED_MARK}")


def is_empty_closed_day(spark: SparkSession, logs: str, day: date) -> bool:
    folder = day_folder(logs, day)
    return path_exists(spark, f"{folder}/{CLOSED_MARK}") and not data_files(spark, folder)


def read_days(spark: SparkSession, source: Source, folders: Sequence[str], root: str) -> DataFrame:
    """The rows of all data files in the folders and below: the declared columns, and those that a read adds (ADDED)."""
    filled = [folder for folder in folders if data_files(spark, folder)]
    # Folders and not files: a list of thousands would be looked up one by one.
    read = _parts(spark, source, filled, recursiveFileLookup="true")
    if lacking := [
        name for name in source.columns if read and not any(name in part.columns for part in read)
    ]:
        say(
            f"no file in {', '.join(filled)[:300]} has the column {' or '.join(lacking)[:300]}: taken for empty"
        )
    parts = [_as_declared(part, source, filled, root) for part in read]
    if not parts:
        empty = spark.createDataFrame([], _ddl(source))
        return empty.select(
            "*", F.lit(None).cast("date").alias(LOG_DATE), *[F.lit("").alias(name) for name in ADDED[1:]]
        )
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
    # Not by _metadata.file_path: Spark makes a structure of it for every row.
    named = read.withColumn(SOURCE_FILE, below_root(F.input_file_name(), root))
    return named.select(
        *[column.alias(name) for name, column in typed.items()],
        _day_of(folders).alias(LOG_DATE),
        SOURCE_FILE,
        # As read, and that may be no text at all.
        (F.make_valid_utf8(quoted(UNREADABLE)) if UNREADABLE in kinds else F.lit(None).cast("string")).alias(
            UNREADABLE
        ),
        _first_of_wrong_type(read, source, columns, typed).alias(WRONG_TYPE),
    )


def _text_of_bytes(column: Column, kind: str) -> Column:
    """Parquet's texts are bytes that nobody has looked at, and may be called so; those of the other formats were decoded."""
    return F.make_valid_utf8(column.cast("string")) if kind in ("string", "binary") else column


def _of_type(column: Column, kind: str, ddl: str) -> Column:
    """A Parquet column as the declared type, NULL where it can't be."""
    if kind.startswith(NESTED):
        # Written as one text, it has the bytes of all texts in it.
        return F.when(F.is_valid_utf8(column.cast("string")), column.cast(ddl))
    # A number beyond the declared type must not become another one.
    return column.try_cast(ddl) if kind.startswith(NUMBERS) else column.cast(ddl)


def _day_of(folders: Sequence[str]) -> Column:
    """The day of a row's folder. Of a night's one folder it is known: looking for it in every row costs a twentieth of the ingest."""
    if len(folders) == 1:
        return F.lit(date.fromisoformat(folders[0][-10:]))
    return F.to_date(F.substring(SOURCE_FILE, F.instr(SOURCE_FILE, "dt=") + 3, F.lit(10)))


def _first_of_wrong_type(
    read: DataFrame, source: Source, columns: Mapping[str, Column], typed: Mapping[str, Column]
) -> Column:
    """The name of the first column whose value is there and is not of the declared type; NULL where all are.

    JSON's reader converts by itself, and keeps a record that it can't convert where it keeps those that it can't parse.
    """
    kinds, fields = dict(read.dtypes), cast(T.StructType, T.StructType.fromDDL(_ddl(source)))
    declared = {field.name: field.dataType.simpleString() for field in fields}
    looked_at = NESTED if source.format == "parquet" else ()
    wrong = [
        F.when(column.isNotNull() & (F.trim(column.cast("string")) != "") & typed[name].isNull(), F.lit(name))
        for name, column in columns.items()
        if name in kinds and (kinds[name] != declared[name] or kinds[name].startswith(looked_at))
    ]
    return F.coalesce(*wrong, F.lit(None).cast("string"))


def below_root(column: Column, root: str) -> Column:
    """A file's path below the logs folder: Spark gives file:///logs/b%20c for /logs/b c. Of every row, so without search."""
    decoded = F.url_decode(F.replace(column, F.lit("+"), F.lit("%2B")))
    path = F.when(F.contains(column, F.lit("%")), decoded).otherwise(column)
    # Before a local folder stands file:/ or file:///, as Spark likes.
    return F.substring(path, F.instr(path, _plain(root)) + len(_plain(root)) + 1, F.lit(100_000))


def read_files(spark: SparkSession, source: Source, files: Sequence[str]) -> DataFrame:
    """The rows of files with all columns that any of them has; what can't be parsed is in UNREADABLE."""
    parts = _parts(spark, source, files)
    if not parts:
        raise JobError(f"{files[0]} has no columns")
    try:
        return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    except AnalysisException as error:
        raise JobError(
            f"{files[0]} and the files beside it do not go together: {one_sentence(error)}"
        ) from error


def _parts(spark: SparkSession, source: Source, paths: Sequence[str], **more: str) -> list[DataFrame]:
    """Files or folders with their own columns, those of a kind in one part; what can't be parsed is in UNREADABLE."""
    if not paths:
        return []
    if source.format == "parquet":
        return [
            spark.read.options(**source.options, **more).parquet(*map(_literal, kind))
            for kind in _parquet_kinds(spark, paths)
        ]
    reader = spark.read.options(mode="PERMISSIVE", columnNameOfCorruptRecord=UNREADABLE, **more)
    if source.format == "json":
        # Where the text is not UTF-8, Spark wants to be told what ends a line.
        options = {"lineSep": "\n"} | source.options if "encoding" in source.options else source.options
        records = (
            reader.options(**options)
            .schema(f"{_ddl(source)}, {quoted(UNREADABLE)} STRING")
            .json([*map(_literal, paths)])
        )
        return [records, _passed_over(spark, paths, options, more)]
    # Columns go by the header's names, whatever their order; a file of the day with another header is an error. Without a header
    # the declared columns are the file's. A line of no end of columns is a bad line, and not a bad file.
    options = {
        "header": "true",
        "escape": '"',
        "enforceSchema": "false",
        "maxColumns": "1000000",
    } | source.options
    by_names: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        names = (
            _header(spark, source, path, {**options, **more})
            if options["header"] == "true"
            else tuple(source.columns)
        )
        by_names.setdefault(names, []).append(_literal(path))
    # Files without a byte have no names.
    by_names.pop((), None)
    schemas = {
        names: ", ".join(f"{quoted(name)} STRING" for name in [*names, UNREADABLE]) for names in by_names
    }
    return [reader.options(**options).schema(schemas[names]).csv(alike) for names, alike in by_names.items()]


def _passed_over(
    spark: SparkSession, paths: Sequence[str], options: Mapping[str, str], more: Mapping[str, str]
) -> DataFrame:
    """What Spark's JSON reader leaves of a line without a word, in UNREADABLE: all after the first value, and arrays of nothing."""
    is_whole_file = {name.lower(): text for name, text in options.items()}.get("multiline", "false")
    lines = spark.read.options(**options, **more).text(
        [*map(_literal, paths)], wholetext=is_whole_file == "true"
    )
    line, quiet = F.col("value"), {**options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": UNREADABLE}
    # Most lines are one flat object: their only brace of this kind is their last byte, and they need not be parsed.
    is_flat = F.octet_length(F.substring_index(line, "}", 1)) == F.octet_length(line) - 1
    # What follows a line's one value is the end that we put there.
    ended = F.from_json(F.concat(F.lit('{"line":'), line, F.lit(',"end":0}')), "end INT", quiet)[
        "end"
    ].isNotNull()
    # A line that is not even begun by a value is in the reader's own UNREADABLE.
    as_object, as_array = (
        F.from_json(line, f"{quoted(UNREADABLE)} STRING", quiet),
        F.from_json(line, "ARRAY<STRING>", quiet),
    )
    has_value = (as_object.isNotNull() & as_object[UNREADABLE].isNull()) | as_array.isNotNull()
    # From the first object's end, so that it is not taken for a record.
    rest = F.substring(line, F.instr(line, "}"), F.octet_length(line))
    # As a condition within a condition: what two parts of it share Spark would compute first, and of every line.
    is_empty_array = F.when(line.rlike(r"^\s*\["), F.size(as_array) == 0)
    lost = F.when(is_flat, F.lit(False)).when(ended, is_empty_array).otherwise(has_value | is_empty_array)
    return lines.where(lost).select(rest.alias(UNREADABLE))


def _parquet_kinds(spark: SparkSession, paths: Sequence[str]) -> list[Sequence[str]]:
    """The files by their schema, since Spark reads all by that of one; the paths as they are where all files have the same."""
    files = [file for path in paths for file in data_files(spark, path)]
    if len(files) == 1:
        return [paths]
    with ThreadPoolExecutor(THREADS) as pool:
        by_schema: dict[str, list[str]] = {}
        for file, schema in zip(
            files, pool.map(lambda file: _parquet_schema(spark, file), files), strict=True
        ):
            by_schema.setdefault(schema, []).append(file)
    return [paths] if len(by_schema) == 1 else [*by_schema.values()]


def _parquet_schema(spark: SparkSession, file: str) -> str:
    try:
        with open_parquet(spark, file) as reader:
            return str(reader.getFileMetaData().getSchema().toString())
    except Py4JJavaError as error:
        raise JobError(f"{file} is no whole Parquet file: {first_line(error)}") from error


def _header(spark: SparkSession, source: Source, path: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The names of a CSV file's columns, or of a folder's; none where there is not a byte."""
    names = tuple(spark.read.options(**options).csv(_literal(path)).columns)
    if names and not set(names) & set(source.columns):
        found, wanted = ", ".join(names), ", ".join(source.columns)
        raise JobError(
            f"{path} has none of the mapping's columns: its header has {found[:300]}, and the mapping wants {wanted[:300]}"
        )
    return names


def _literal(path: str) -> str:
    """A path for Spark's readers, which would take some characters of it for a pattern."""
    return re.sub(r"([][{}*?\\])", r"\\\1", path)


def day_folders(spark: SparkSession, folder: str) -> list[date]:
    """The days of the dt folders in a folder, in order."""
    return sorted(
        date.fromisoformat(n[3:])
        for n in folder_content(spark, folder)
        if n.startswith("dt=") and _is_day(n[3:])
    )


def _ddl(source: Source) -> str:
    return ", ".join(f"{quoted(name)} {ddl}" for name, ddl in source.columns.items())


def quoted(name: str) -> str:
    """A column's name as Spark takes any name, those that a read adds (ADDED) too."""
    return "`" + name.replace("`", "``") + "`"


def below(file: str, root: str) -> str:
    """A file's path below the logs folder, as SOURCE_FILE has it."""
    return re.sub("^file:/+", "/", file)[len(_plain(root)) + 1 :]


def _plain(root: str) -> str:
    return root.removeprefix("file://")


def _is_day(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False
