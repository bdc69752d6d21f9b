"""The files of a log as Spark's readers give them: one frame for each set of columns, nothing passed over."""

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.columns import NESTED, as_read_from_json, quoted
from jobs.io.messages import JobError
from jobs.io.parquet import NANOSECONDS, UUID, ParquetColumns, ParquetTypes
from jobs.io.storage import PLAIN_LOCAL, has_colon, without_scheme
from jobs.io.times import micros_of_nanos
from schemas.mapping import Source

# Reading footers and headers mostly waits for the disk or the network.
THREADS = 4
# Longest list of names in a message, characters.
SHOWN = 300
# The column of records that can't be parsed; the blank keeps it apart from any source's names.
UNREADABLE = "unreadable record"
# Half of a character outside the Basic Multilingual Plane, escaped in JSON without its other half.
LONE_SURROGATE: Final = (
    r"(?i)\\u(d[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2}\\u)d[c-f][0-9a-f]{2})"
)
# Longest line that the pattern of plain lines is tried on, bytes: Java matches groups by recursion.
PLAIN_LINE: Final = 8_000


def parts(
    spark: SparkSession,
    source: Source,
    listed: Mapping[str, Sequence[str]],
    keeps_unmapped: bool = False,
    **more: str,
) -> list[DataFrame]:
    """Files or folders with their own columns, one frame for each schema.

    Unparsable records are in UNREADABLE. A JSON value that may be of any type is a variant, or a text where
    its type makes no difference.

    listed: the data files of each path. keeps_unmapped: whether columns that the mapping does not name are
    read, too, as far as Spark can read them; columns of equal names then have equal types. more: further
    options of the reader.
    """
    files = [file for path in listed for file in listed[path]]
    if has_colon(files):
        more = more | PLAIN_LOCAL
    if not listed:
        return []
    if source.format == "parquet":
        return _parquet_parts(spark, source, files, keeps_unmapped, more)
    if source.format == "csv":
        return _csv_parts(spark, source, listed, more)
    plain = [] if keeps_unmapped else _plain_paths(spark, source, listed, more)
    mixed = [path for path in listed if path not in plain]
    read_plain = [_json_records(spark, source, plain, _plain_types(source), more)] if plain else []
    return read_plain + (_mixed_json(spark, source, mixed, more) if mixed else [])


def declared_types(source: Source) -> T.StructType:
    """The declared columns with their types."""
    ddl = ", ".join(f"{quoted(name)} {ddl}" for name, ddl in source.columns.items())
    return cast(T.StructType, T.StructType.fromDDL(ddl))


def literal(path: str) -> str:
    """A path for Spark's readers, with glob characters escaped."""
    return re.sub(r"([][{}*?\\])", r"\\\1", path)


# ---- JSON


def _plain_paths(
    spark: SparkSession, source: Source, listed: Mapping[str, Sequence[str]], more: Mapping[str, str]
) -> list[str]:
    """The paths all of whose lines are plain (is_plain_json): their scalar values can be read as texts.

    To look at the lines costs less than the variants do, which keep the type of every value.
    """
    # Other options make other JSON.
    if source.options.keys() - {"encoding"}:
        return []
    paths = [literal(path) for path in listed]
    lines = spark.read.options(**_json_options(source), **more).text(paths)
    is_plain = is_plain_json(F.col("value"), declared_types(source))
    found = lines.where(~is_plain).select(F.input_file_name().alias("file")).distinct().collect()
    mixed = {without_scheme(unquote(row["file"])) for row in found}
    return [path for path, files in listed.items() if mixed.isdisjoint(map(without_scheme, files))]


def is_plain_json(line: Column, declared: T.StructType) -> Column:
    """Whether the scalar values of a line, read as texts, are what their variants would give.

    Such a line is blank or one object with strings and whole numbers. Columns that are not declared as texts
    may also be what no text is mistaken for: decimal numbers, booleans, flat objects and arrays. Columns
    declared as variants must be strings, since a variant tells of any other value that it is no string. Half
    a character is not plain.
    """
    # With a mark in place of what is escaped, a string is what lies between two quotes.
    marked = F.regexp_replace(line, r"\\.", "\0")
    marked = F.when(F.contains(line, F.lit("\\")) & ~line.rlike(r"(?i)\\ud"), marked).otherwise(line)
    return (F.octet_length(line) <= PLAIN_LINE) & marked.rlike(_plain_json(declared))


def _plain_json(declared: T.StructType) -> str:
    """The pattern of is_plain_json; strings in it have no escapes, and names of fields no mark."""
    variants = _names(declared, T.VariantType)
    string, key = r'"[^"\\]*+"', r'"[^"\\\x00]*+"\s*+:\s*+'
    key_of_number, other_key = (
        f"(?!{any_of}){key}" if (any_of := "|".join(names)) else key
        for names in (variants, variants + _names(declared, T.StringType))
    )
    # As many digits as a variant's whole numbers and decimals have for certain.
    whole = "(?:0|-?[1-9][0-9]{0,16})"
    # Not minus zero, which a variant does not know.
    decimal = r"(?:-(?=[0.]*[1-9]))?(?:0|[1-9][0-9]{0,16})(?:[.][0-9]{1,17})?"
    inside = rf"""(?:{string}|[^\[\]"'{{}}\\]++)*+"""
    other = rf"(?:{decimal}|true|false|\{{{inside}\}}|\[{inside}\])"
    fields = [f"{key_of_number}(?:{string}|{whole}|null)", f"{other_key}{other}"]
    fields += [rf"(?:{'|'.join(variants)})\s*+:\s*+{string}"] * bool(variants)
    field_ = rf"(?:{'|'.join(fields)})\s*+(?=[,}}])"
    return rf"^\s*+(?:\{{(?:\s*+{field_},?+)*+\s*+\}}\s*+)?+\z"


def _names(declared: T.StructType, kind: type[T.DataType]) -> list[str]:
    """Patterns of the names of one type's columns, in quotes."""
    return [f'"{re.escape(field.name)}"' for field in declared if isinstance(field.dataType, kind)]


def _plain_types(source: Source) -> T.StructType:
    """Scalar values as texts."""
    return T.StructType(
        [
            T.StructField(
                field.name,
                as_read_from_json(field.dataType) if isinstance(field.dataType, NESTED) else T.StringType(),
            )
            for field in declared_types(source)
        ]
    )


def _json_records(
    spark: SparkSession, source: Source, paths: Sequence[str], types: T.StructType, more: Mapping[str, str]
) -> DataFrame:
    reader = spark.read.options(mode="PERMISSIVE", columnNameOfCorruptRecord=UNREADABLE, **more)
    schema = T.StructType([*types, T.StructField(UNREADABLE, T.StringType())])
    return reader.options(**_json_options(source)).schema(schema).json([literal(path) for path in paths])


def _mixed_json(
    spark: SparkSession, source: Source, paths: Sequence[str], more: Mapping[str, str]
) -> list[DataFrame]:
    """Values as variants, and what the reader passes over."""
    types = cast(T.StructType, as_read_from_json(declared_types(source)))
    records = _json_records(spark, source, paths, types, more)
    # With another column in it, since Spark refuses a query of unparsable records alone, as a count would be.
    other = F.when(F.col(quoted(types[0].name)).isNull(), "").otherwise(" ")
    unreadable = F.concat(quoted(UNREADABLE), other)
    # Those come again, mended, with what was passed over.
    sound = records.where(F.coalesce(~unreadable.rlike(LONE_SURROGATE), F.lit(True)))
    return [sound, _passed_over(spark, source, [literal(path) for path in paths], more, records.schema)]


def _json_options(source: Source) -> dict[str, str]:
    # Where the text is not UTF-8, Spark must be told the line separator.
    return {"lineSep": "\n"} | source.options if "encoding" in source.options else source.options


def _passed_over(
    spark: SparkSession,
    source: Source,
    paths: Sequence[str],
    more: Mapping[str, str],
    schema: T.StructType,
) -> DataFrame:
    """What Spark's JSON reader silently drops, in UNREADABLE, and the records with half a character.

    It drops the rest of a line after its first value, and `[]`. Half a character, as in a text that was cut
    within an emoji, is no reason to lose a record: it becomes the replacement character.
    """
    options = _json_options(source)
    lines = spark.read.options(**options, **more).text([*paths], wholetext=source.is_multiline)
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
    may_be_half = F.contains(line, F.lit("\\ud")) | F.contains(line, F.lit("\\uD"))
    is_refused = F.from_json(line, schema, quiet)[UNREADABLE].isNotNull()
    is_half = F.when(F.when(may_be_half, line.rlike(LONE_SURROGATE)), is_refused)
    is_half = F.coalesce(is_half, F.lit(False))
    mended = F.from_json(F.regexp_replace(line, LONE_SURROGATE, r"\\ufffd"), schema, quiet)
    found = lines.where(is_half | lost).select(F.when(is_half, mended).alias("record"), rest.alias("rest"))
    columns = [F.col("record")[field.name].alias(field.name) for field in schema.fields[:-1]]
    unreadable = F.when(F.col("record").isNull(), F.col("rest")).otherwise(F.col("record")[UNREADABLE])
    return found.select(*columns, unreadable.alias(UNREADABLE))


# ---- CSV


def _csv_parts(
    spark: SparkSession, source: Source, listed: Mapping[str, Sequence[str]], more: Mapping[str, str]
) -> list[DataFrame]:
    """Columns go by the names in a file's header, in any order.

    Without a header they are the declared ones.
    """
    # maxColumns: a line with too many columns is then a bad line, not an error for the file.
    defaults = {"header": "true", "escape": '"', "enforceSchema": "false", "maxColumns": "1000000"}
    options = defaults | source.options
    by_names: dict[tuple[str, ...], list[str]] = {}
    for path in listed:
        with_header = options["header"] == "true"
        names = _header(spark, source, path, {**options, **more}) if with_header else tuple(source.columns)
        by_names.setdefault(names, []).append(literal(path))
    by_names.pop((), None)  # files of zero bytes
    reader = spark.read.options(mode="PERMISSIVE", columnNameOfCorruptRecord=UNREADABLE, **more)
    found = []
    for names, alike in by_names.items():
        schema = ", ".join(f"{quoted(name)} STRING" for name in [*names, UNREADABLE])
        read = reader.options(**options).schema(schema).csv(alike)
        found.append(read.toDF(*[name.strip() for name in names], UNREADABLE))
    return found


def _header(spark: SparkSession, source: Source, path: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The column names of a CSV file or folder; empty where there are no bytes."""
    names = tuple(spark.read.options(**options).csv(literal(path)).columns)
    shown = [name.strip() for name in names]
    # Spark adds its place to a name that occurs twice.
    if any(name.endswith(str(place)) for place, name in enumerate(names)):
        first = spark.read.options(**{**options, "header": "false"}).csv(literal(path)).first()
        shown = [(name or "").strip() for name in first or ()]
    twice = sorted({name for name in shown if name and shown.count(name) > 1})
    if twice:
        raise JobError(
            f"{path} has the column {twice[0]} twice in its header; which one is meant can't be told"
        )
    if names and not set(shown) & set(source.columns):
        found, wanted = ", ".join(names)[:SHOWN], ", ".join(source.columns)[:SHOWN]
        raise JobError(
            f"{path} has none of the mapping's columns: its header has {found}, "
            f"and the mapping wants {wanted}"
        )
    return names


# ---- Parquet


def _parquet_parts(
    spark: SparkSession,
    source: Source,
    files: Sequence[str],
    keeps_unmapped: bool,
    more: Mapping[str, str],
) -> list[DataFrame]:
    """The files grouped by the columns they have, since Spark reads all with the schema of one."""
    columns = ParquetTypes(spark, declared_types(source), keeps_unmapped)
    by_columns: dict[ParquetColumns, list[str]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for file, found in zip(files, pool.map(columns.of_file, files), strict=True):
            by_columns.setdefault(found, []).append(file)
    read = []
    for found, alike in by_columns.items():
        if not found:
            wanted = ", ".join(source.columns)[:SHOWN]
            raise JobError(f"{alike[0]} has none of the mapping's columns, which are {wanted}")
        fields = [
            T.StructField(name, T.StructType.fromJson(json.loads(kind))[0].dataType)
            for name, kind, _ in found
        ]
        reader = spark.read.options(**source.options, **more).schema(T.StructType(fields))
        rows = reader.parquet(*map(literal, alike))
        converted = {n: _converted(F.col(quoted(n)), note) for n, _, note in found if note}
        read.append(rows.withColumns(converted) if converted else rows)
    return read


def _converted(column: Column, annotation: str) -> Column:
    if annotation == UUID:
        digits = F.lower(F.hex(column))
        cuts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)]
        return F.concat_ws("-", *[F.when(column.isNotNull(), F.substring(digits, *cut)) for cut in cuts])
    return F.timestamp_micros(micros_of_nanos(column)).cast(NANOSECONDS[annotation])
