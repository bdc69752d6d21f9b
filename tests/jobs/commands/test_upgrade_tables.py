"""Stored tables get newer code's declaration in one commit each; a change that rewrites rows is refused."""

from dataclasses import replace
from datetime import date

import pytest

from jobs import upgrade_tables
from jobs.io import warehouse as warehouses
from jobs.io.days import Days
from jobs.io.messages import JobError
from jobs.io.runs import RunLog, RunSpec, recorded
from schemas import items, pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.table import (
    DOUBLE,
    INT,
    LONG,
    SCHEMA_VERSION,
    STRING,
    VECTOR,
    Check,
    Column,
    Table,
    finite_vector,
)
from tests.builders import frame, row
from tests.e2e.tables import rows_of, version_of

OLD = Table(
    name="things",
    comment="Things.",
    columns=(
        Column("kind", STRING, "kind of thing"),
        Column("size", INT, "height, cm", nullable=True),
        Column("vector", VECTOR, "direction", private=True),
    ),
    key=("kind",),
    written_by=None,
    partition_by=("kind",),
    checks=(Check("size_given", "size IS NOT NULL"), Check("vector_long", "size(vector) > 0")),
)
PRICE = Column("price", DOUBLE, "price, EUR", nullable=True)
NEW = replace(
    OLD,
    comment="Things and their prices.",
    columns=(OLD.columns[0], replace(OLD.columns[1], comment="length, cm"), PRICE, OLD.columns[2]),
    checks=(Check("vector_long", "size(vector) > 1"), *finite_vector()),
    schema_version=2,
)
THINGS = [
    row(OLD, kind="cup", size=9, vector=[1.0, 2.0]),
    row(OLD, kind="pot", size=20, vector=[0.5, 0.0]),
    row(OLD, kind="pot", size=30, vector=[0.0, 0.5]),
]


def upgrade(spark, warehouse, *more):
    upgrade_tables.run(spark, upgrade_tables.arg_parser().parse_args(["--warehouse", warehouse, *more]))


def declare(monkeypatch, *tables):
    """Makes these tables all that the code declares."""
    for module in (upgrade_tables, warehouses):
        monkeypatch.setattr(module, "ALL_TABLES", tables)


def shown(rows):
    return sorted(map(str, rows))


@pytest.fixture
def things(spark, run_on, warehouse):
    """A warehouse with the old table and three rows in it."""
    with run_on(warehouse) as run:
        run.writer.append(OLD, frame(spark, OLD, THINGS))
    return warehouse


# ---- a warehouse of older code


def test_a_warehouse_of_older_code_is_refused_until_it_is_upgraded(
    spark, warehouse_at, warehouse, monkeypatch, capsys
):
    opened = warehouse_at(warehouse)
    spec = RunSpec("ingest_events", "r", Days.only(date(2025, 3, 3)), "c")
    kettle = row(items.TABLE, item_id="S1", title="Kettle")
    with recorded(RunLog(opened), spec) as run, run.writer.noting({}, content={"some": "note"}):
        run.writer.append(items.TABLE, frame(spark, items.TABLE, [kettle]))
    runs = shown(rows_of(warehouse, "pipeline_runs"))
    assert (version_of(warehouse, "items"), version_of(warehouse, "pipeline_runs")) == (1, 2)

    new_items = replace(items.TABLE, columns=(*items.TABLE.columns, PRICE), schema_version=2)
    new_runs = replace(pipeline_runs.TABLE, comment="Other words.", schema_version=2)
    declare(monkeypatch, new_items, new_runs)
    refusal = (
        r"items has schema version 1 and this code writes 2; run upgrade_tables on this warehouse first$"
    )
    with pytest.raises(JobError, match=refusal), recorded(RunLog(opened), spec):
        raise AssertionError("the body ran")
    upgrade(spark, warehouse, "--dry-run")
    assert (version_of(warehouse, "items"), version_of(warehouse, "pipeline_runs")) == (1, 2)
    said = capsys.readouterr().out
    assert "items: adds price" in said and "pipeline_runs: comment" in said
    assert "2 of 2 tables differ from their declaration; nothing was changed" in said

    upgrade(spark, warehouse)
    # The table of the records is upgraded before the upgrade is recorded in it.
    assert (version_of(warehouse, "items"), version_of(warehouse, "pipeline_runs")) == (2, 5)
    assert set(runs) < set(shown(rows_of(warehouse, "pipeline_runs")))
    recorded_ = [r for r in rows_of(warehouse, "pipeline_runs") if r["job"] == upgrade_tables.JOB]
    assert {(r["status"], dict(r["counts"]).get("tables_upgraded")) for r in recorded_} == {
        ("started", None),
        ("done", 2),
    }
    assert rows_of(warehouse, "items") == [kettle | {"price": None}]
    for table in (new_items, new_runs):
        assert opened.schema_version(table) == 2 and opened.properties(table) == table.properties()
    # Rows stay as they are, and so does what their writer noted of them; old versions stay readable.
    assert opened.content_note(new_items) == {"some": "note"} and opened.same_since(new_items) == 1
    assert rows_of(warehouse, "items", version=1) == [kettle]

    upgrade(spark, warehouse)
    assert (version_of(warehouse, "items"), version_of(warehouse, "pipeline_runs")) == (2, 5)
    with recorded(RunLog(opened), spec) as run:
        run.writer.append(new_items, frame(spark, new_items, [kettle | {"price": 1.5}]))
    assert len(rows_of(warehouse, "items")) == 2


# ---- a changed declaration


def test_a_changed_declaration_is_applied_in_one_commit(spark, run_on, things, monkeypatch, capsys):
    declare(monkeypatch, NEW)
    rows, version = rows_of(things, "things"), version_of(things, "things")
    upgrade(spark, things)
    said = capsys.readouterr().out
    for change in (
        "adds price",
        "comment of size",
        "drops delta.constraints.size_given",
        "sets delta.constraints.vector_finite",
    ):
        assert change in said
    assert version_of(things, "things") == version + 1
    with run_on(things) as run:
        stored = upgrade_tables.stored_declaration(run.warehouse, NEW)
        declared = (NEW.spark_schema(), NEW.comment, NEW.properties())
        assert (stored.schema, stored.comment, stored.properties) == declared
        in_order = [
            {"kind": r["kind"], "size": r["size"], "price": None, "vector": r["vector"]} for r in rows
        ]
        assert shown(rows_of(things, "things")) == shown(in_order)

        def add(**values):
            run.writer.append(NEW, frame(spark, NEW, [row(NEW, kind="pan", **values)]))

        add(price=12.5, vector=[3.0, 4.0])
        for vector, check in (([1.0], "vector_long"), ([1.0, float("nan")], "vector_finite")):
            with pytest.raises(Exception, match=f"(?i){check}"):
                add(size=1, price=1.0, vector=vector)
    assert len(rows_of(things, "things")) == 4
    upgrade(spark, things)
    assert version_of(things, "things") == version + 2


def test_nothing_is_changed_where_one_table_is_refused(spark, run_on, things, monkeypatch):
    other = replace(OLD, name="others", columns=(*OLD.columns, Column("colour", STRING, "its colour")))
    with run_on(things) as run:
        run.writer.create(replace(OLD, name="others"))
    declare(monkeypatch, NEW, other)
    with pytest.raises(JobError, match=r"others\.colour is new and not nullable"):
        upgrade(spark, things)
    assert version_of(things, "things") == 1 and version_of(things, "others") == 0


def test_rows_that_break_a_new_check_are_refused(spark, things, monkeypatch):
    declare(monkeypatch, replace(OLD, checks=(*OLD.checks, Check("small", "size < 25"))))
    with pytest.raises(JobError, match="things has 1 rows that break the new check small"):
        upgrade(spark, things)
    assert version_of(things, "things") == 1


def test_a_folder_without_tables_is_refused(spark, warehouse):
    with pytest.raises(JobError, match="there are no tables"):
        upgrade(spark, warehouse)


def with_size(**changed):
    """The old table with a different column `size`."""
    return replace(OLD, columns=(OLD.columns[0], replace(OLD.columns[1], **changed), OLD.columns[2]))


STORED = upgrade_tables.Stored(OLD.spark_schema(), OLD.comment, OLD.partition_by, OLD.properties())


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (with_size(type=LONG), r"things\.size is int and declared bigint"),
        (
            replace(OLD, columns=(*OLD.columns, replace(PRICE, nullable=False))),
            r"things\.price is new and not nullable",
        ),
        (replace(OLD, columns=OLD.columns[:2]), r"things\.vector is no longer declared"),
        (with_size(nullable=False), r"things\.size is nullable and declared not nullable"),
        (replace(OLD, partition_by=("size",)), "things is partitioned differently"),
        (replace(OLD, schema_version=0), "things has schema version 1, but this code knows only 0"),
    ],
)
def test_a_change_that_needs_a_rewrite_is_refused_by_name(table, sentence):
    with pytest.raises(JobError, match=sentence):
        upgrade_tables.refuse_rewrite(table, STORED)


def test_a_table_as_declared_needs_no_change():
    assert list(upgrade_tables.changes(OLD, STORED)) == []
    upgrade_tables.refuse_rewrite(OLD, STORED)


def test_properties_that_others_set_stay():
    mine = {"delta.checkpointInterval": "50", "owner": "us"}
    stored = replace(STORED, properties={**STORED.properties, **mine})
    assert list(upgrade_tables.changes(OLD, stored)) == []
    assert upgrade_tables.wanted_properties(NEW, stored) == NEW.properties() | mine


def test_every_table_states_its_schema_version():
    assert {table.properties()[SCHEMA_VERSION] for table in ALL_TABLES} == {"1"}
