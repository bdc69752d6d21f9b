"""A warehouse's tables as one session reads and writes them: commit notes, schema versions, a lost lease."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from jobs.io import warehouse as warehouses
from jobs.io.lease import FOLDER
from jobs.io.messages import JobError
from jobs.io.warehouse import open_writer, same_rows
from schemas import check_results, items, rejected_texts, text_embeddings
from tests.builders import frame, row
from tests.e2e.tables import rows_of, version_of

REJECTED = rejected_texts.TABLE
OF_MODEL = "t.model_key = 'x'"


def rejected(spark, *keys, **values):
    return frame(spark, REJECTED, [row(REJECTED, text_key=key, **values) for key in keys])


def test_a_table_that_was_never_written_has_no_rows_and_no_version(warehouse_at, warehouse):
    opened = warehouse_at(warehouse)
    assert opened.read(REJECTED).count() == 0
    assert opened.read(REJECTED).columns == REJECTED.names
    assert opened.version(REJECTED) is opened.same_since(REJECTED) is None
    assert opened.note(REJECTED) == opened.content_note(REJECTED) == opened.versions() == {}


def test_a_frame_stays_at_the_version_it_was_read_at(spark, run_on, warehouse):
    with run_on(warehouse) as run:
        run.writer.append(REJECTED, rejected(spark, "a"))
        before = run.warehouse.read(REJECTED)
        run.writer.append(REJECTED, rejected(spark, "b"))
        assert before.count() == 1 and run.warehouse.read(REJECTED).count() == 2


def test_writes_replace_append_and_insert_what_is_absent(spark, run_on, warehouse):
    with run_on(warehouse) as run:
        run.writer.append(REJECTED, rejected(spark, "a", "b", reason="old"))
        run.writer.insert_absent(REJECTED, rejected(spark, "b", "c", reason="new"), F.expr(OF_MODEL))
        assert {r["text_key"]: r["reason"] for r in rows_of(warehouse, REJECTED.name)} == {
            "a": "old",
            "b": "old",
            "c": "new",
        }
        run.writer.replace(REJECTED, rejected(spark, "b", reason="new"), "text_key = 'b'")
        assert {r["text_key"]: r["reason"] for r in rows_of(warehouse, REJECTED.name)}["b"] == "new"
        run.writer.overwrite(REJECTED, rejected(spark, "d"))
    assert [r["text_key"] for r in rows_of(warehouse, REJECTED.name)] == ["d"]


def test_rows_are_deleted_by_some_of_their_columns_and_updated_by_their_key(spark, run_on, warehouse):
    with run_on(warehouse) as run:
        run.writer.append(REJECTED, rejected(spark, "a", "b", reason="old"))
        run.writer.append(REJECTED, rejected(spark, "a", "c", model_key="other", reason="old"))
        keys = spark.createDataFrame([("a",), ("a",), ("absent",)], "text_key string")
        run.writer.delete(REJECTED, keys)
        changed = [("b", "x", "new"), ("c", "x", "new")]
        run.writer.update(
            REJECTED, spark.createDataFrame(changed, "text_key string, model_key string, reason string")
        )
    found = {(r["text_key"], r["model_key"], r["reason"]) for r in rows_of(warehouse, REJECTED.name)}
    assert found == {("b", "x", "new"), ("c", "other", "old")}


def test_a_commit_carries_the_notes_around_it(spark, run_on, warehouse):
    with run_on(warehouse) as run:
        writer = run.writer
        with (
            writer.noting({"job": "outer", "run_id": "r"}),
            writer.noting({"job": "inner"}, content={"a": 1}),
        ):
            writer.append(REJECTED, rejected(spark, "a"))
        found = run.warehouse.note(REJECTED)
        assert found == {"job": "inner", "run_id": "r", "content": {"a": 1}}
        assert run.warehouse.content_note(REJECTED) == {"a": 1}
        writer.append(REJECTED, rejected(spark, "b"))
        assert run.warehouse.note(REJECTED) == {}


def test_the_commit_that_creates_a_table_carries_no_note(spark, run_on, warehouse):
    with run_on(warehouse) as run, run.writer.noting({}, content={"newest": "2025-03-03"}):
        run.writer.create(REJECTED)
        assert run.warehouse.content_note(REJECTED) == {}


def test_maintenance_carries_the_note_on_with_the_version_since_which_it_holds(spark, run_on, warehouse):
    with run_on(warehouse) as run:
        with run.writer.noting({}, content={"a": 1}):
            run.writer.append(REJECTED, rejected(spark, "a"))
        since = run.warehouse.version(REJECTED)
        for _ in range(2):
            with run.writer.keeping_content(REJECTED):
                run.writer.overwrite(REJECTED, rejected(spark, "a"))
        assert run.warehouse.version(REJECTED) == since + 2
        assert run.warehouse.same_since(REJECTED) == since
        assert run.warehouse.content_note(REJECTED) == {"a": 1}
        run.writer.append(REJECTED, rejected(spark, "b"))
        assert run.warehouse.same_since(REJECTED) == since + 3


def test_a_writer_that_lost_its_lease_commits_nothing(spark, run_on, warehouse):
    with run_on(warehouse) as run:
        writer = run.writer
        writer.append(REJECTED, rejected(spark, "a"))
        before = version_of(warehouse, REJECTED.name)
        (Path(warehouse) / FOLDER / "holder.json").unlink()
        rows = rejected(spark, "b")
        for write in (
            lambda: writer.create(check_results.TABLE),
            lambda: writer.append(REJECTED, rows),
            lambda: writer.overwrite(REJECTED, rows),
            lambda: writer.replace(REJECTED, rows, "text_key = 'b'"),
            lambda: writer.insert_absent(REJECTED, rows, F.expr(OF_MODEL)),
            lambda: writer.set_properties(REJECTED, {"some": "thing"}),
            lambda: writer.declare(REJECTED, REJECTED.properties()),
            lambda: writer.folder("below").append(items.TABLE, frame(spark, items.TABLE, [])),
        ):
            with pytest.raises(JobError, match="taken away"):
                write()
        with pytest.raises(JobError, match="taken away"), writer.keeping_content(REJECTED):
            raise AssertionError("the body ran")
    assert version_of(warehouse, REJECTED.name) == before
    assert not (Path(warehouse) / check_results.TABLE.name).exists()


@pytest.mark.parametrize(("version", "sentence"), [(1, "run upgrade_tables"), (3, "use the newer code")])
def test_no_writer_opens_tables_of_another_schema_version(
    warehouse_at, run_on, warehouse, monkeypatch, version, sentence
):
    with run_on(warehouse) as run:
        run.writer.create(replace(text_embeddings.TABLE, schema_version=version))
    monkeypatch.setattr(warehouses, "ALL_TABLES", (replace(text_embeddings.TABLE, schema_version=2),))
    opened = warehouse_at(warehouse)
    assert opened.schema_version(text_embeddings.TABLE) == version
    with pytest.raises(JobError, match=sentence):
        opened.refuse_other_schema()
    with pytest.raises(JobError, match=sentence), open_writer(opened, "test"):
        raise AssertionError("the body ran")
    # A refusal takes no lease, and an upgrade may open it.
    with open_writer(opened, "upgrade", any_schema=True):
        pass


def test_rows_are_the_same_in_any_order_but_not_in_other_columns(spark):
    schema = "a string, b string, m map<string,int>"
    rows = [("x", None, {"k": 1, "l": 2}), ("y", "z", None)]
    turned = [("y", "z", None), ("x", None, {"l": 2, "k": 1})]
    one, other = (spark.createDataFrame(values, schema) for values in (rows, turned))
    columns = ["a", "b", "m"]
    assert same_rows(one, other, columns)
    for changed in ([(None, "x", {"k": 1, "l": 2}), rows[1]], [*rows, rows[0]], [rows[0]] * 2):
        assert not same_rows(one, spark.createDataFrame(changed, schema), columns)
