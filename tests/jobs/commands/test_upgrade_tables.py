"""A warehouse of older code: refused until it is upgraded, and afterwards as good as one made from nothing.

tests/golden/warehouse_0 is a real one of two nights, made by the code before tables had a schema version; tests/golden/logs_0 holds
its log and the day after it.
"""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import types as T

from jobs import backfill_profiles, run_night, upgrade_tables
from jobs.io import delta, runs
from jobs.io.messages import JobError
from schemas import text_embeddings
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
from tests.e2e.tables import STATE_COLUMNS, call, rows_of, version_of
from tests.oracle import canonical_hash

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LOGS = str(GOLDEN / "logs_0")
FIRST, NEXT = date(2025, 3, 3), date(2025, 3, 5)
THERE = sorted(folder.name for folder in (GOLDEN / "warehouse_0").iterdir())


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "hash.yaml"
    file.write_text("engine: {kind: hash, hash_dimensions: 8}\n", encoding="utf-8")
    return str(file)


def upgrade(spark, warehouse, *more):
    upgrade_tables.run(spark, upgrade_tables.arg_parser().parse_args(["--warehouse", warehouse, *more]))


def told(rows):
    return sorted(map(str, rows))


@pytest.mark.slow
def test_an_older_warehouse_is_upgraded_and_goes_on(spark, config, tmp_path, capsys):
    warehouse = str(shutil.copytree(GOLDEN / "warehouse_0", tmp_path / "w"))
    before = {name: rows_of(warehouse, name) for name in THERE}
    versions = {name: version_of(warehouse, name) for name in THERE}

    with pytest.raises(
        JobError,
        match=r"has schema version 0 and this code writes 1; run upgrade_tables on this warehouse first$",
    ):
        call(spark, run_night, warehouse, config, "--logs", LOGS, "--date", NEXT)
    upgrade(spark, warehouse, "--dry-run")
    assert {name: version_of(warehouse, name) for name in THERE} == versions
    assert "behavior_events: sets delta.deletedFileRetentionDuration" in capsys.readouterr().out

    upgrade(spark, warehouse)
    after = {name: version_of(warehouse, name) for name in THERE}
    assert {name: after[name] - versions[name] for name in THERE} == dict.fromkeys(THERE, 1) | {
        "pipeline_runs": 3,
        "user_profiles": 3,
    }
    assert set(told(before.pop("pipeline_runs"))) < set(told(rows_of(warehouse, "pipeline_runs")))
    assert {name: told(rows_of(warehouse, name)) for name in before} == {
        name: told(rows) for name, rows in before.items()
    }
    for table in ALL_TABLES:
        if table.name in THERE:
            assert delta.schema_version(spark, warehouse, table) == 1
            assert delta.properties(spark, warehouse, table) == table.properties()
    upgrade(spark, warehouse)
    assert {name: version_of(warehouse, name) for name in THERE} == after

    # What was published before is there. The fold has another meaning since, so that nights go on after a rebuild.
    states = next(table for table in ALL_TABLES if table.name == "profile_states")
    for span in runs.publications(spark, warehouse):
        assert (
            delta.read_version(spark, warehouse, states, span.output_versions["profile_states"]).count() > 0
        )
    with pytest.raises(JobError, match="folded under other settings"):
        call(spark, run_night, warehouse, config, "--logs", LOGS, "--date", NEXT)
    call(spark, backfill_profiles, warehouse, config, "--rebuild")
    rebuilt = version_of(warehouse, "user_profiles")
    call(spark, run_night, warehouse, config, "--logs", LOGS, "--date", NEXT)
    assert version_of(warehouse, "user_profiles") == rebuilt + 1
    anew = str(tmp_path / "anew")
    call(spark, backfill_profiles, anew, config, "--logs", LOGS, "--start", FIRST, "--end", NEXT)
    for name in ("profile_states", "user_profiles"):
        assert canonical_hash(rows_of(warehouse, name), STATE_COLUMNS) == canonical_hash(
            rows_of(anew, name), STATE_COLUMNS
        )


# ---- a declaration that changed


OLD = Table(
    name="things",
    comment="Things.",
    columns=(
        Column("kind", STRING, "what it is"),
        Column("size", INT, "how large, cm", nullable=True),
        Column("vector", VECTOR, "where it points", private=True),
    ),
    key=("kind",),
    partition_by=("kind",),
    checks=(Check("size_given", "size IS NOT NULL"), Check("vector_long", "size(vector) > 0")),
)
PRICE = Column("price", DOUBLE, "what it costs", nullable=True)
NEW = replace(
    OLD,
    comment="Things, and what they cost.",
    columns=(OLD.columns[0], replace(OLD.columns[1], comment="how long, cm"), PRICE, OLD.columns[2]),
    checks=(Check("vector_long", "size(vector) > 1"), *finite_vector()),
    schema_version=2,
)


@pytest.fixture
def things(spark, warehouse):
    """A warehouse with the old table and three things in it."""
    rows = [("cup", 9, [1.0, 2.0]), ("pot", 20, [0.5, 0.0]), ("pot", 30, [0.0, 0.5])]
    delta.append(
        spark,
        warehouse,
        OLD,
        spark.createDataFrame(rows, T.StructType([T.StructField(c.name, c.type) for c in OLD.columns])),
    )
    return warehouse


def declare(monkeypatch, *tables):
    monkeypatch.setattr(upgrade_tables, "ALL_TABLES", tables)


def test_a_changed_declaration_is_brought_in_by_one_commit(spark, things, monkeypatch, capsys):
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
    stored = upgrade_tables.stored_declaration(spark, things, NEW)
    assert (stored.schema, stored.comment, stored.properties) == (
        NEW.spark_schema(),
        NEW.comment,
        NEW.properties(),
    )
    in_order = [{"kind": r["kind"], "size": r["size"], "price": None, "vector": r["vector"]} for r in rows]
    assert told(rows_of(things, "things")) == told(in_order)
    upgrade(spark, things)
    assert version_of(things, "things") == version + 1

    def add(*row):
        nullable = T.StructType([T.StructField(c.name, c.type) for c in NEW.columns])
        delta.append(spark, things, NEW, spark.createDataFrame([row], nullable))

    add("pan", None, 12.5, [3.0, 4.0])
    for row, check in (
        (("pan", 1, 1.0, [1.0]), "vector_long"),
        (("pan", 1, 1.0, [1.0, float("nan")]), "vector_finite"),
    ):
        with pytest.raises(Exception, match=f"(?i){check}"):
            add(*row)
    assert len(rows_of(things, "things")) == 4


def test_other_partitions_move_the_rows_and_change_none(spark, things, monkeypatch, capsys):
    declare(monkeypatch, moved := replace(OLD, partition_by=("size",)))
    rows, version = rows_of(things, "things"), version_of(things, "things")
    upgrade(spark, things)
    assert "partitioned by size" in capsys.readouterr().out
    stored = upgrade_tables.stored_declaration(spark, things, moved)
    assert (stored.schema, stored.partition_by, stored.properties) == (
        moved.spark_schema(),
        ("size",),
        moved.properties(),
    )
    assert told(rows_of(things, "things")) == told(rows) and version_of(things, "things") == version + 3
    upgrade(spark, things)
    assert version_of(things, "things") == version + 3


def test_nothing_is_changed_where_one_table_is_refused(spark, things, monkeypatch):
    other = replace(OLD, name="others", columns=(*OLD.columns, Column("colour", STRING, "its colour")))
    delta.open_table(spark, things, replace(OLD, name="others"))
    declare(monkeypatch, NEW, other)
    with pytest.raises(JobError, match=r"others\.colour is new and never empty"):
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
    """The old table with another column `size`."""
    return replace(OLD, columns=(OLD.columns[0], replace(OLD.columns[1], **changed), OLD.columns[2]))


STORED = upgrade_tables.Stored(OLD.spark_schema(), OLD.comment, OLD.partition_by, OLD.properties())


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (with_size(type=LONG), r"things\.size is int and declared bigint"),
        (
            replace(OLD, columns=(*OLD.columns, replace(PRICE, nullable=False))),
            r"things\.price is new and never empty",
        ),
        (replace(OLD, columns=OLD.columns[:2]), r"things\.vector is no longer declared"),
        (with_size(nullable=False), r"things\.size may be empty"),
        (replace(OLD, schema_version=0), "things has schema version 1, but this code knows only 0"),
    ],
)
def test_what_needs_the_rows_written_anew_is_refused_by_name(table, sentence):
    with pytest.raises(JobError, match=sentence):
        upgrade_tables.refuse_rewrite(table, STORED)


def test_a_table_as_declared_needs_no_change():
    assert list(upgrade_tables.changes(OLD, STORED)) == []
    upgrade_tables.refuse_rewrite(OLD, STORED)


def test_what_others_have_set_stays():
    mine = {"delta.checkpointInterval": "50", "owner": "us"}
    stored = replace(STORED, properties={**STORED.properties, **mine})
    assert list(upgrade_tables.changes(OLD, stored)) == []
    assert upgrade_tables.wanted_properties(NEW, stored) == NEW.properties() | mine


@pytest.mark.parametrize(("version", "sentence"), [(1, "run upgrade_tables"), (3, "use the newer code")])
def test_a_job_refuses_tables_of_another_schema_version(spark, warehouse, monkeypatch, version, sentence):
    delta.open_table(spark, warehouse, replace(text_embeddings.TABLE, schema_version=version))
    monkeypatch.setattr(runs, "ALL_TABLES", (replace(text_embeddings.TABLE, schema_version=2),))
    with pytest.raises(JobError, match=sentence):
        runs.refuse_other_schema(spark, warehouse)


def test_every_table_says_its_schema_version():
    assert {table.properties()[SCHEMA_VERSION] for table in ALL_TABLES} == {"1"}
