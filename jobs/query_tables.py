"""Answers one SQL query over the published tables in the terminal, without Spark: what an analyst sees.

Each table has its own name, at the version that the last publication names; with --newest its current
version, which may be half of a night, or a day that was refused. SHOW TABLES and DESCRIBE say what there is.

    python -m jobs.query_tables --warehouse DIR "SELECT count(*) FROM behavior_events"
"""

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from deltalake import QueryBuilder

from jobs.io.cli import Parser, exit_code, warehouse_parser
from jobs.io.failures import RESTORE
from jobs.io.messages import JobError, say
from jobs.io.reading import has_table, newest_versions, one_line, open_table, published_versions
from jobs.query.cells import ROWS_SHOWN, WIDTH, escaped, json_lines, sheet
from jobs.query.local_files import LocalFile, local_file, read_file, registered
from jobs.query.statements import bare, described_table, is_show_tables, reading_query
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES

JOB = "query_tables"
# What the query engine says of a file that is gone, cut off or has flipped bits.
_BROKEN = re.compile(r"Parquet error|Object Store error|Object at location .* not found")
RUNS = pipeline_runs.TABLE.name
# NULLs last in both directions: a largest drift is not that of a first state, which has none.
ENGINE = {"datafusion.sql_parser.default_null_ordering": "nulls_last"}
Files = Sequence[tuple[LocalFile, pa.Table]]


def arg_parser() -> Parser:
    parser = warehouse_parser(JOB, __doc__)
    parser.add_argument("--newest", action="store_true", help="the tables as they are now, published or not")
    parser.add_argument(
        "--with",
        dest="files",
        action="append",
        default=[],
        type=local_file,
        metavar="NAME=FILE",
        help="a CSV, Parquet or JSON lines file (.jsonl, .ndjson) as one more table; may be repeated",
    )
    parser.add_argument(
        "--jsonl", action="store_true", help="every row as a line of JSON, with nothing cut or rounded"
    )
    parser.add_argument("sql", help="the query; tables stand under their names")
    return parser


def readable_versions(warehouse: str, newest: bool) -> dict[str, int | None]:
    """The version of each table that queries read; pipeline_runs has none, it is read as it is."""
    versions = (newest_versions if newest else published_versions)(warehouse)
    if not versions:
        told = (
            "there are no tables" if newest else "nothing is published (--newest shows tables that are not)"
        )
        raise JobError(f"{told} in {warehouse}")
    return versions | ({RUNS: None} if has_table(warehouse, RUNS) else {})


def table_list(tables: QueryBuilder, versions: dict[str, int], files: Files) -> pa.Table:
    """The answer to SHOW TABLES. Rows are counted from the tables' logs."""
    rows: list[tuple[str, int | None, int, str]] = []
    for table in ALL_TABLES:
        if table.name in versions:
            counted = tables.execute(f"SELECT count(*) AS n FROM {table.name}")  # noqa: S608 - a declared name
            count = pa.RecordBatchReader.from_stream(counted).read_all()["n"][0].as_py()
            rows.append((table.name, versions[table.name], count, table.comment))
    rows += [(file.name, None, found.num_rows, f"the file {file.path}") for file, found in files]
    types = (pa.string(), pa.int64(), pa.int64(), pa.string())
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)],
        names=["table", "version", "rows", "meaning"],
    )


def column_list(name: str, files: Files) -> pa.Table:
    """The answer to DESCRIBE: a table's columns as they are declared, or as they were found in a file."""
    declared = {table.name: table for table in ALL_TABLES}
    found = {file.name: rows for file, rows in files}
    if name in declared:
        columns = declared[name].columns
        rows = [(c.name, c.type.simpleString(), "yes" if c.nullable else "", c.comment) for c in columns]
    elif name in found:
        rows = [(field.name, str(field.type), "yes", "") for field in found[name].schema]
    else:
        raise JobError(f"there is no table {name}; there are {', '.join([*declared, *found])}")
    head = ["column", "type", "null", "meaning"]
    return pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], names=head)


def print_answer(answer: pa.RecordBatchReader, as_json: bool, width: int | None) -> None:
    if as_json:
        for line in json_lines(answer):
            print(line)
        return
    found = sheet(answer, width)
    say("\n".join(found.lines))
    if found.row_count > ROWS_SHOWN:
        say(f"... and {found.row_count - ROWS_SHOWN:,} rows more")
    if found.is_cut:
        say(f"(cells with … are cut: python -m jobs.{JOB} --jsonl prints everything)")


def query_problem(error: Exception, there: Sequence[str]) -> str:
    """What went wrong in the engine, in one sentence."""
    told = one_line(error)
    if missing := re.search(r"table '(?:datafusion\.public\.)?(\w+)' not found", told):
        told = f"there is no table {missing[1]} here, or nothing in it yet; there are {', '.join(there)}"
    elif _BROKEN.search(told):
        told = f"a file of a table is damaged or missing: {RESTORE} ({told})"
    return escaped(told)


def run(args: argparse.Namespace, files: Files) -> None:
    statement = bare(args.sql)
    shows_tables, described = is_show_tables(statement), described_table(statement)
    if described:
        print_answer(column_list(described, files).to_reader(), args.jsonl, None)
        return
    query = "" if shows_tables else reading_query(statement)
    versions = readable_versions(args.warehouse, args.newest)
    opened = {name: open_table(args.warehouse, name, version) for name, version in versions.items()}
    tables = QueryBuilder(ENGINE)
    for name, table in opened.items():
        tables.register(name, table)
    try:
        with registered(tables, files):
            if shows_tables:
                current = {name: table.version() for name, table in opened.items()}
                print_answer(table_list(tables, current, files).to_reader(), args.jsonl, None)
            else:
                answer = pa.RecordBatchReader.from_stream(tables.execute(query))
                print_answer(answer, args.jsonl, WIDTH)
            sys.stdout.flush()
    except (JobError, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the query engine raises plain Exceptions of many kinds
        raise JobError(query_problem(error, [*versions, *(file.name for file, _ in files)])) from None


def main(argv: Sequence[str] | None = None) -> int:
    parser = arg_parser()
    args = parser.parse_args(argv)
    if repeated := [name for name, times in Counter(f.name for f in args.files).items() if times > 1]:
        parser.error(f"two files are given as {repeated[0]}")
    try:
        files = [(file, read_file(file)) for file in args.files]
    except JobError as error:
        parser.error(escaped(str(error)))
    try:
        return exit_code(JOB, lambda: run(args, files))
    except BrokenPipeError:
        # The reader, such as head, has seen enough; Python would complain again when it closes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
