"""Brings the tables of a warehouse to what schemas/ declares, after the code was updated; rows stay as they are.

It adds columns that may be empty, in their declared places, and sets comments, checks, properties and the schema version: one
commit for each table that differs, none where nothing does; one more where a table is partitioned in another way now, since its
rows then move to other files. All tables are looked at before the first is changed, and what can't
be done without writing rows anew is refused. Versions that were published before stay readable, as they were.

    python -m jobs.upgrade_tables --warehouse URI [--dry-run]
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io import delta, lease
from jobs.io.cli import Parser, job_parser, run_main
from jobs.io.messages import JobError, say
from jobs.io.runs import new_run_id, newer_schema, publications, recorded
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.table import SCHEMA_VERSION, Check, Table

JOB = "upgrade_tables"
STATISTICS = "delta.dataSkippingStatsColumns"
CHECK = "delta.constraints."


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    return parser


# ---- pure


@dataclass(frozen=True)
class Stored:
    """A table's declaration as the log has it."""

    schema: T.StructType
    comment: str | None
    partition_by: tuple[str, ...]
    properties: Mapping[str, str]


def refuse_rewrite(table: Table, stored: Stored) -> None:
    """Stops, with table and column, where the rows themselves would have to change."""
    if (found := int(stored.properties.get(SCHEMA_VERSION, 0))) > table.schema_version:
        raise JobError(newer_schema(table, found))
    fields = {field.name: field for field in stored.schema}
    for name in fields.keys() - set(table.names):
        raise JobError(
            f"{table.name}.{name} is no longer declared, and a column can't be taken out without writing the table anew"
        )
    for column in table.columns:
        field = fields.get(column.name)
        if field is None and not column.nullable:
            raise JobError(
                f"{table.name}.{column.name} is new and never empty, but the rows that are there have no value for it"
            )
        if field is not None and field.dataType.simpleString() != column.type.simpleString():
            types = f"{field.dataType.simpleString()} and declared {column.type.simpleString()}"
            raise JobError(
                f"{table.name}.{column.name} is {types}: a type can't change without writing the table anew"
            )
        if field is not None and field.nullable and not column.nullable:
            raise JobError(
                f"{table.name}.{column.name} may be empty and is declared never empty: the rows that are there may break that"
            )


def wanted_properties(table: Table, stored: Stored) -> dict[str, str]:
    """The declared properties, and others somebody has set; a check that is no longer declared goes."""
    others = {
        k: v for k, v in stored.properties.items() if not k.startswith(CHECK) and k != "delta.appendOnly"
    }
    return others | table.properties()


def changes(table: Table, stored: Stored) -> Iterator[str]:
    """What an upgrade would change, in words; nothing where the table is as declared."""
    fields = {field.name: field for field in stored.schema}
    yield from (f"adds {name}" for name in table.names if name not in fields)
    for column in table.columns:
        if (field := fields.get(column.name)) and field.metadata.get("comment") != column.comment:
            yield f"comment of {column.name}"
        if field and column.nullable and not field.nullable:
            yield f"{column.name} may be empty"
    if [field.name for field in stored.schema] != [name for name in table.names if name in fields]:
        yield "order of columns"
    if stored.partition_by != table.partition_by:
        yield f"partitioned by {', '.join(table.partition_by) or 'nothing'}"
    if stored.comment != table.comment:
        yield "comment"
    wanted = wanted_properties(table, stored)
    for key in sorted(wanted.keys() | stored.properties.keys()):
        if wanted.get(key) != stored.properties.get(key):
            yield f"sets {key}" if key in wanted else f"drops {key}"


def new_checks(table: Table, stored: Stored) -> list[Check]:
    return [check for check in table.checks if stored.properties.get(CHECK + check.name) != check.sql]


# ---- the edges


def stored_declaration(spark: SparkSession, warehouse: str, table: Table) -> Stored:
    found = delta.snapshot(spark, warehouse, table).metadata()
    schema = T.StructType.fromJson(json.loads(found.schemaString()))
    partition_by = tuple(found.partitionColumns().mkString(" ").split())
    return Stored(schema, found.description(), partition_by, delta.properties(spark, warehouse, table))


def refuse_broken_rows(spark: SparkSession, warehouse: str, table: Table, checks: Sequence[Check]) -> None:
    """Stops where rows that are there break a new check: no write of these rows would ever be let through again."""
    rows = delta.read_table(spark, warehouse, table)
    rows = rows.withColumns(
        {c.name: F.lit(None).cast(c.type) for c in table.columns if c.name not in rows.columns}
    )
    for check in checks:
        if broken := rows.where(~F.coalesce(F.expr(check.sql), F.lit(False))).count():
            raise JobError(
                f"{table.name} has {broken} rows that break the new check {check.name} ({check.sql})"
            )


def upgrade(spark: SparkSession, warehouse: str, table: Table, stored: Stored) -> None:
    with delta.keeping_meaning(spark, warehouse, table):
        wanted = wanted_properties(table, stored)
        if stored.partition_by != table.partition_by:
            # Delta refuses statistics of partition columns, old and new ones alike.
            shown = [name for name in wanted[STATISTICS].split(",") if name not in stored.partition_by]
            delta.declare_again(spark, warehouse, table, wanted | {STATISTICS: ",".join(shown)})
            delta.partition_again(spark, warehouse, table)
        delta.declare_again(spark, warehouse, table, wanted)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    warehouse = args.warehouse
    found = {
        t.name: stored_declaration(spark, warehouse, t)
        for t in ALL_TABLES
        if delta.table_exists(spark, warehouse, t)
    }
    if not found:
        raise JobError(f"there are no tables in {warehouse}")
    there = [table for table in ALL_TABLES if table.name in found]
    for table in there:
        refuse_rewrite(table, found[table.name])
        refuse_broken_rows(spark, warehouse, table, new_checks(table, found[table.name]))
    # The record of the run is itself a row of pipeline_runs.
    there.sort(key=lambda table: table.name != pipeline_runs.TABLE.name)
    todo = [table for table in there if any(changes(table, found[table.name]))]
    for table in todo:
        say(f"{table.name}: {', '.join(changes(table, found[table.name]))}")
    if not todo or args.dry_run:
        say(
            f"{JOB}: {len(todo)} of {len(there)} tables differ from their declaration"
            + ("; nothing was changed" if todo else "")
        )
        return
    day = max(
        (published.last for published in publications(spark, warehouse)), default=datetime.now(UTC).date()
    )
    run_id = args.run_id or new_run_id(JOB, day)
    with lease.held(spark, warehouse, JOB):
        for table in todo[: todo[0].name == pipeline_runs.TABLE.name]:
            upgrade(spark, warehouse, table, found[table.name])
        with recorded(spark, warehouse, args.config, JOB, run_id, day, day, any_schema=True) as record:
            for table in todo[todo[0].name == pipeline_runs.TABLE.name :]:
                upgrade(spark, warehouse, table, found[table.name])
            record.counts = {"tables_upgraded": len(todo)}


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
