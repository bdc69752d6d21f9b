"""Files of the analyst's own that a query may join: CSV, Parquet and JSON lines, as tables by name."""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq
from deltalake import QueryBuilder

from jobs.io.messages import JobError
from jobs.io.paths import local_path
from jobs.io.reading import one_line
from jobs.io.scratch import scratch_folders
from schemas.all_tables import ALL_TABLES

KINDS: Final = (".csv", ".parquet", ".jsonl", ".ndjson")
# Digits that a number would lose: leading zeros, a plus sign before several, more than a double can hold.
_ID = r"^([+-]?0[0-9]|\+[0-9]{2}|-?[0-9]{16})"


@dataclass(frozen=True)
class LocalFile:
    """A file, and the name of the table it becomes."""

    name: str
    path: Path


def local_file(text: str) -> LocalFile:
    """An argument's file, as name=path."""
    name, equals, path_text = text.partition("=")
    name = name.lower()
    if not equals or not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no table; write name=file, as in company=companies.csv"
        )
    if name in (table.name for table in ALL_TABLES):
        raise argparse.ArgumentTypeError(f"{name} is a table of the warehouse; give the file another name")
    path = local_path(path_text)
    if path.suffix.lower() not in KINDS:
        raise argparse.ArgumentTypeError(f"{path_text} is none of {', '.join(KINDS)}")
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"no such file: {path_text}")
    return LocalFile(name, path)


def read_file(file: LocalFile) -> pa.Table:
    """The rows of a file. Raises JobError where it can't be read."""
    kind = file.path.suffix.lower()
    read = {".csv": _read_csv, ".parquet": pq.read_table}.get(kind, pajson.read_json)
    try:
        table = read(str(file.path))
    except (pa.ArrowException, OSError, UnicodeError, ValueError) as error:
        raise JobError(f"{file.path} can't be read: {one_line(error)}") from None
    if repeated := [name for name in table.column_names if table.column_names.count(name) > 1]:
        raise JobError(f"{file.path} has two columns named {repeated[0]}")
    # The engine knows no column without a type, which is one without a value.
    types = [pa.string() if pa.types.is_null(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(list(zip(table.column_names, types, strict=True))))


def _read_csv(path: str) -> pa.Table:
    """The rows in inferred types, but for numbers that are ids: those stay texts, whole."""

    def read(columns: list[str] | None = None) -> pa.Table:
        texts = dict.fromkeys(columns or [], pa.string())
        # A text such as NA may mean something: only an empty cell is NULL.
        options = pacsv.ConvertOptions(
            column_types=texts, include_columns=columns, null_values=[""], strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )  # fmt: skip
        return pacsv.read_csv(path, convert_options=options)

    table = read()
    if len(set(table.column_names)) < table.num_columns:
        return table
    numbers = [f.name for f in table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    texts = read(numbers) if numbers else table
    for name in numbers:
        if pc.any(pc.match_substring_regex(texts[name], _ID)).as_py():
            table = table.set_column(table.column_names.index(name), name, texts[name])
    return table


@contextmanager
def registered(tables: QueryBuilder, files: Sequence[tuple[LocalFile, pa.Table]]) -> Iterator[QueryBuilder]:
    """The builder with the files' rows as tables too, while the context is open.

    It takes Delta tables only; the engine itself also reads Parquet files, here those of a folder of our own.
    """
    with TemporaryDirectory(dir=scratch_folders()[0]) as folder:
        for number, (file, rows) in enumerate(files):
            path = f"{folder}/{number}.parquet"
            pq.write_table(rows, path)
            location = path.replace("'", "''")
            created = tables.execute(
                f"CREATE EXTERNAL TABLE \"{file.name}\" STORED AS PARQUET LOCATION '{location}'"
            )
            pa.RecordBatchReader.from_stream(created).read_all()
        yield tables
