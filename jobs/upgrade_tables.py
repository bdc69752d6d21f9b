"""Brings a warehouse's tables to what schemas/ declares, after the code was updated; rows stay as they are.

It adds nullable columns in their declared places, and sets comments, checks, properties and the schema
version: one commit for each table that differs. All tables are checked before the first is changed, and a
change that would rewrite rows is refused. Versions that were published before stay readable.

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

from jobs.io.cli import Parser, job_parser, run_main
from jobs.io.days import Days
from jobs.io.history import history_of
from jobs.io.messages import JobError, say
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse, Writer, newer_schema, open_writer
from jobs.night.losses import refuse_losses
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.table import SCHEMA_VERSION, Check, Table

JOB = "upgrade_tables"
CHECK = "delta.constraints."


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    return parser


# ---- pure


@dataclass(frozen=True)
class Stored:
    """A table's declaration as the Delta log has it."""

    schema: T.StructType
    comment: str | None
    partition_by: tuple[str, ...]
    properties: Mapping[str, str]


def refuse_rewrite(table: Table, stored: Stored) -> None:
    """Raises JobError, naming table and column, where rows would have to be rewritten."""
    if (found := int(stored.properties.get(SCHEMA_VERSION, 0))) > table.schema_version:
        raise JobError(newer_schema(table, found))
    if stored.partition_by != table.partition_by:
        raise JobError(
            f"{table.name} is partitioned differently; that can't change without rewriting the table"
        )
    fields = {field.name: field for field in stored.schema}
    for name in fields.keys() - set(table.names):
        raise JobError(
            f"{table.name}.{name} is no longer declared; "
            "a column can't be dropped without rewriting the table"
        )
    for column in table.columns:
        name, field = f"{table.name}.{column.name}", fields.get(column.name)
        if field is None and not column.nullable:
            raise JobError(f"{name} is new and not nullable, but existing rows have no value for it")
        if field is None:
            continue
        old, new = field.dataType.simpleString(), column.type.simpleString()
        if old != new:
            raise JobError(
                f"{name} is {old} and declared {new}; a type can't change without rewriting the table"
            )
        if field.nullable and not column.nullable:
            raise JobError(f"{name} is nullable and declared not nullable; existing rows may break that")


def wanted_properties(table: Table, stored: Stored) -> dict[str, str]:
    """The declared properties, and others that somebody set.

    A check that is no longer declared is dropped.
    """
    others = {
        key: value
        for key, value in stored.properties.items()
        if not key.startswith(CHECK) and key != "delta.appendOnly"
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
            yield f"{column.name} becomes nullable"
    if [field.name for field in stored.schema] != [name for name in table.names if name in fields]:
        yield "order of columns"
    if stored.comment != table.comment:
        yield "comment"
    wanted = wanted_properties(table, stored)
    for key in sorted(wanted.keys() | stored.properties.keys()):
        if wanted.get(key) != stored.properties.get(key):
            yield f"sets {key}" if key in wanted else f"drops {key}"


def new_checks(table: Table, stored: Stored) -> list[Check]:
    return [check for check in table.checks if stored.properties.get(CHECK + check.name) != check.sql]


# ---- the edges


def stored_declaration(warehouse: Warehouse, table: Table) -> Stored:
    found = warehouse.snapshot(table).metadata()
    schema = T.StructType.fromJson(json.loads(found.schemaString()))
    partition_by = tuple(found.partitionColumns().mkString(" ").split())
    return Stored(schema, found.description(), partition_by, warehouse.properties(table))


def refuse_broken_rows(warehouse: Warehouse, table: Table, checks: Sequence[Check]) -> None:
    """Raises JobError where existing rows break a new check: no write of these rows would ever pass again."""
    rows = warehouse.read(table)
    missing = [column for column in table.columns if column.name not in rows.columns]
    rows = rows.withColumns({c.name: F.lit(None).cast(c.type) for c in missing})
    for check in checks:
        if broken := rows.where(~F.coalesce(F.expr(check.sql), F.lit(False))).count():
            raise JobError(
                f"{table.name} has {broken} rows that break the new check {check.name} ({check.sql})"
            )


def upgrade(writer: Writer, table: Table, stored: Stored) -> None:
    with writer.keeping_content(table):
        writer.declare(table, wanted_properties(table, stored))


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    warehouse = Warehouse(spark, args.warehouse)
    found = {t.name: stored_declaration(warehouse, t) for t in ALL_TABLES if warehouse.exists(t)}
    if not found:
        raise JobError(f"there are no tables in {args.warehouse}")
    log = RunLog(warehouse)
    history = history_of(log.publications())
    days = Days.only(history.last if history else datetime.now(UTC).date())
    refuse_losses(log, JOB, days)
    there = [table for table in ALL_TABLES if table.name in found]
    for table in there:
        refuse_rewrite(table, found[table.name])
        refuse_broken_rows(warehouse, table, new_checks(table, found[table.name]))
    todo = [table for table in there if any(changes(table, found[table.name]))]
    for table in todo:
        say(f"{table.name}: {', '.join(changes(table, found[table.name]))}")
    if not todo or args.dry_run:
        unchanged = "; nothing was changed" if todo else ""
        say(f"{JOB}: {len(todo)} of {len(there)} tables differ from their declaration{unchanged}")
        return
    upgrade_all(log, RunSpec.of(args, JOB, days), {table: found[table.name] for table in todo})


def upgrade_all(log: RunLog, spec: RunSpec, todo: Mapping[Table, Stored]) -> None:
    """Upgrades the tables under one record; pipeline_runs before it, since the record is a row of it."""
    with open_writer(log.warehouse, JOB, any_schema=True) as writer:
        for table, stored in todo.items():
            if table.name == pipeline_runs.TABLE.name:
                upgrade(writer, table, stored)
        with recorded(log, spec, writer=writer) as record:
            for table, stored in todo.items():
                if table.name != pipeline_runs.TABLE.name:
                    upgrade(writer, table, stored)
            record.counts = {"tables_upgraded": len(todo)}


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
