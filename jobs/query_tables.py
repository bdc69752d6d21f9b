"""Answers one SQL query over the published tables in the terminal, without Spark: what an analyst sees.

Each table has its own name, at the version that the last publication names; with --newest its current
version, which may be half of a night, or a day that was refused.

    python -m jobs.query_tables --warehouse DIR "SELECT count(*) FROM behavior_events"
"""

import re
import sys
from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from jobs.io.cli import EXIT_FAILED, Parser, folder_uri
from jobs.io.reading import newest_versions, published_versions, table_uri
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES

JOB = "query_tables"
ROWS_SHOWN = 100


def arg_parser() -> Parser:
    parser = Parser(prog=JOB, description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--warehouse", required=True, type=folder_uri, help="folder or address of the Delta tables"
    )
    parser.add_argument("--newest", action="store_true", help="the tables as they are now, published or not")
    parser.add_argument("sql", help="the query; tables stand under their names")
    return parser


def answer(warehouse: str, versions: dict[str, int], sql: str) -> pa.Table:
    tables = QueryBuilder().register(
        pipeline_runs.TABLE.name, DeltaTable(table_uri(warehouse, pipeline_runs.TABLE.name))
    )
    for table in ALL_TABLES:
        if table.name in versions:
            tables = tables.register(
                table.name, DeltaTable(table_uri(warehouse, table.name), version=versions[table.name])
            )
    return pa.table(tables.execute(sql))


def main(argv: Sequence[str] | None = None) -> int:
    args = arg_parser().parse_args(argv)
    versions = (newest_versions if args.newest else published_versions)(args.warehouse)
    if not versions:
        told = (
            "there are no tables"
            if args.newest
            else "nothing is published (--newest shows tables that are not)"
        )
        print(f"{JOB}: {told} in {args.warehouse}", file=sys.stderr)
        return EXIT_FAILED
    try:
        result = answer(args.warehouse, versions, args.sql)
    except Exception as error:  # noqa: BLE001 - the query engine raises plain Exceptions of many kinds
        told = " ".join(str(error).split())
        if missing := re.search(r"table '(?:datafusion\.public\.)?(\w+)' not found", told):
            there = ", ".join([*versions, pipeline_runs.TABLE.name])
            told = f"there is no table {missing[1]} here, or nothing in it yet; there are {there}"
        print(f"{JOB}: {told}", file=sys.stderr)
        return EXIT_FAILED
    print(result.slice(0, ROWS_SHOWN).to_pandas().to_string(index=False))
    if result.num_rows > ROWS_SHOWN:
        print(f"... and {result.num_rows - ROWS_SHOWN:,} rows more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
