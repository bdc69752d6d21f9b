"""Tests of every declared table: the contract with readers, the table Delta creates, its documentation."""

import importlib
import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from schemas import catalogue_stats, items
from schemas.all_tables import ALL_TABLES, tables_markdown
from schemas.table import DATE, STRING, VECTOR, Column
from tests.builders import frame, row, store

ROOT = Path(__file__).resolve().parents[2]
STATE = """user_id facet as_of_date user_bucket model_key fold_hash event_count weight_sum gain_sum
    gain_sq_sum last_event_ts last_event_id previous_as_of_date? events_digest drift? contributions vector"""
# The contract with readers, stated again so that no column changes unnoticed; `?` marks a nullable column.
CONTRACT = {
    "behavior_events": """event_id user_id user_bucket event_ts event_date log_date utc_offset_min? event_type
        item_id? text? text_key? title_key? own_text_key? rating? value? retracts_event_id? place? device?
        session_id? lat? lon? companions? extra? source_file ordinal""",
    "quarantined_events": "log_date source_file record_hash ordinal raw reason message",
    "items": "item_id title? text? text_key? attributes? first_seen_date valid_from named_by?",
    "text_embeddings": "text_key model_key dim token_count truncated engine dtype created_run vector",
    "rejected_texts": "text_key model_key reason message",
    "catalogue_stats": "as_of_date model_key item_count mean_vector",
    "profile_states": STATE,
    "user_profiles": STATE,
    "ranking_models": """version sequence kind trained_from trained_to in_force_from model_key repeat
        parameters metrics artefact artefact_sha256 accepted verdict""",
    "recommendations": """as_of_date user_id facet rank item_id score content collaborative popularity own
        freshness because version""",
    "check_results": "run_id rule level value? passed",
    "pipeline_runs": """run_id job attempt status sequence date from_date started ended? input_versions
        output_versions output_commits counts seconds code_version fold_hash? config_hash message?""",
    "erased_users": "user_hmac erased_on rows_gone",
}
KEYS = {
    "behavior_events": "user_id event_id",
    "quarantined_events": "log_date source_file record_hash ordinal",
    "items": "item_id valid_from",
    "text_embeddings": "text_key model_key",
    "rejected_texts": "text_key model_key",
    "catalogue_stats": "as_of_date model_key",
    "profile_states": "user_id facet as_of_date",
    "user_profiles": "user_id facet",
    "ranking_models": "version",
    "recommendations": "as_of_date user_id facet rank",
    "check_results": "run_id rule",
    "pipeline_runs": "run_id job attempt status",
    "erased_users": "user_hmac",
}
PARTITIONS = {
    "behavior_events": "log_date",
    "quarantined_events": "log_date",
    "text_embeddings": "model_key",
    "rejected_texts": "model_key",
    "profile_states": "as_of_date",
    "user_profiles": "as_of_date",
    "recommendations": "as_of_date",
}
# The command that writes a table; only pipeline_runs is written by every command.
WRITTEN_BY = {
    "behavior_events": "ingest_events",
    "quarantined_events": "ingest_events",
    "items": "ingest_events",
    "text_embeddings": "embed_texts",
    "rejected_texts": "embed_texts",
    "catalogue_stats": "embed_texts",
    "profile_states": "fold_profiles",
    "user_profiles": "fold_profiles",
    "ranking_models": "train_ranker",
    "recommendations": "recommend_items",
    "check_results": "check_tables",
    "pipeline_runs": None,
    "erased_users": "erase_users",
}
# The rows that rules measure on the night of 2025-03-20 with a window of 7 days; of other tables, all rows.
REACH = {
    "behavior_events": "log_date >= DATE'2025-03-12'",
    "quarantined_events": "log_date >= DATE'2025-03-12'",
    "items": "valid_from >= DATE'2025-03-13'",
    "catalogue_stats": "as_of_date >= DATE'2025-03-13'",
    "profile_states": "as_of_date >= DATE'2025-03-13'",
    "user_profiles": "as_of_date >= DATE'2025-03-13'",
    "recommendations": "as_of_date >= DATE'2025-03-13'",
    "pipeline_runs": "from_date >= DATE'2025-03-12'",
}
# Columns that identify a user or say what the user did: never readable from a table's statistics.
NEVER_IN_STATISTICS = {
    "user_id",
    "event_id",
    "text",
    "title",
    "title_key",
    "own_text_key",
    "raw",
    "session_id",
    "lat",
    "lon",
    "place",
    "last_event_id",
    "because",
}

each_table = pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
Log = dict[str, Any]


@pytest.fixture(scope="module")
def declared(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A warehouse with every table, empty."""
    warehouse = str(tmp_path_factory.mktemp("declared"))
    for table in ALL_TABLES:
        store(spark, warehouse, table, [])
    return warehouse


@pytest.fixture(scope="module")
def created(declared: str) -> dict[str, Log]:
    """The actions of every table's first commit by kind, as any Delta reader finds them."""
    found = {}
    for table in ALL_TABLES:
        commit = Path(declared, table.name, "_delta_log", f"{0:020}.json")
        lines = commit.read_text(encoding="utf-8").splitlines()
        found[table.name] = {kind: content for line in lines for kind, content in json.loads(line).items()}
    return found


@pytest.fixture(scope="module")
def neutral_views(spark: SparkSession) -> None:
    """Every table under its name, with one neutral row."""
    for table in ALL_TABLES:
        frame(spark, table, [row(table)]).createOrReplaceTempView(table.name)


# ---- as declared


def test_every_declared_table_is_listed_once():
    modules = [
        importlib.import_module(f"schemas.{path.stem}")
        for path in sorted((ROOT / "schemas").glob("[!_]*.py"))
    ]
    declared = {
        module.__name__.removeprefix("schemas."): module.TABLE
        for module in modules
        if hasattr(module, "TABLE")
    }
    assert {name: table.name for name, table in declared.items()} == {name: name for name in declared}
    assert len(ALL_TABLES) == len(declared)
    assert {id(table) for table in ALL_TABLES} == {id(table) for table in declared.values()}


def test_the_contract_covers_every_table():
    assert set(CONTRACT) == set(KEYS) == set(WRITTEN_BY) == {table.name for table in ALL_TABLES}


@each_table
def test_a_table_has_the_columns_of_the_contract(table):
    assert [f"{c.name}{'?' if c.nullable else ''}" for c in table.columns] == CONTRACT[table.name].split()


@each_table
def test_a_table_has_the_key_of_the_contract(table):
    assert table.key == tuple(KEYS[table.name].split())


@each_table
def test_a_table_has_the_partitions_of_the_contract(table):
    assert table.partition_by == tuple(PARTITIONS.get(table.name, "").split())


@each_table
def test_a_table_is_declared_together_with_the_command_that_writes_it(table):
    assert table.written_by == WRITTEN_BY[table.name]
    if table.written_by is not None:
        assert "def main(" in (ROOT / "jobs" / f"{table.written_by}.py").read_text(encoding="utf-8")


@each_table
def test_rules_measure_the_rows_a_night_may_have_changed(table):
    assert table.reach_predicate(date(2025, 3, 20), window_days=7) == REACH.get(table.name, "true")


@each_table
def test_a_reach_is_a_date_column_that_is_never_null(table):
    dates = {column.name for column in table.columns if column.type == DATE and not column.nullable}
    assert table.reach is None or table.reach in dates
    # Without a reach, the rules of a table partitioned by date would measure all of its history every night.
    assert table.reach is not None or not dates & set(table.partition_by)


def test_three_tables_determine_the_size_of_a_night():
    assert {table.name for table in ALL_TABLES if table.sizes_night} == {
        "behavior_events",
        "text_embeddings",
        "user_profiles",
    }


@each_table
def test_a_table_says_how_an_erasure_finds_what_it_holds_of_a_user(table):
    assert table.erased_by in ("user", "search", "text", "item", "model", "message", "nothing")
    # Rows that name a user go with the user, whatever the declaration says.
    assert (table.erased_by == "user") == ("user_id" in table.names)
    assert table.erased_by != "text" or "text_key" in table.names
    assert table.erased_by != "item" or {"item_id", "named_by"} <= set(table.names)
    # The names of folders, and so the table's log, name nobody.
    assert not {column.name for column in table.columns if column.private} & set(table.partition_by)


def test_a_new_table_that_names_users_is_erased_without_a_word():
    named = replace(items.TABLE, columns=(*items.TABLE.columns, Column("user_id", STRING, "a user")))
    assert (items.TABLE.erased_by, named.erased_by) == ("item", "user")


@each_table
def test_names_are_snake_case_and_distinct(table):
    names = [table.name, *table.names, *(check.name for check in table.checks)]
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)] == []
    assert len(set(table.names)) == len(table.names)


@each_table
def test_a_table_and_each_of_its_columns_are_commented(table):
    assert table.comment.endswith(".")
    assert [column.name for column in table.columns if not column.comment.strip()] == []
    # Comments are cells of a Markdown table.
    assert [column.name for column in table.columns if set("|\n") & set(column.comment)] == []


@each_table
def test_keys_and_partitions_are_columns_that_are_never_null(table):
    assert table.key
    given = {column.name for column in table.columns if not column.nullable}
    assert {*table.key, *table.partition_by} <= given


@each_table
def test_a_vector_is_the_last_column_and_is_checked(table):
    vectors = [column.name for column in table.columns if column.type == VECTOR]
    assert vectors in ([], table.names[-1:])
    # Vectors that point in all directions may have a mean of zeros.
    rules = ("finite",) if table is catalogue_stats.TABLE else ("finite", "not_zero")
    assert {f"{name}_{rule}" for name in vectors for rule in rules} <= {check.name for check in table.checks}


@each_table
def test_statistics_reveal_nothing_private(table):
    statistics = set(table.properties()["delta.dataSkippingStatsColumns"].split(",")) - {""}
    assert statistics <= set(table.names)
    hidden = {
        c.name
        for c in table.columns
        if c.private or isinstance(c.type, T.ArrayType | T.MapType | T.StructType)
    }
    assert statistics & (hidden | NEVER_IN_STATISTICS) == set()


# ---- as created by Delta


@each_table
def test_delta_has_the_columns_as_declared(table, created):
    schema = T.StructType.fromJson(json.loads(created[table.name]["metaData"]["schemaString"]))
    # Compares names, types, nullability and comments.
    assert schema == table.spark_schema()
    assert [field.metadata["comment"] for field in schema.fields] == [
        column.comment for column in table.columns
    ]


@each_table
def test_delta_has_partitions_comment_checks_and_properties_as_declared(table, created):
    made = created[table.name]["metaData"]
    assert made["partitionColumns"] == list(table.partition_by)
    assert made["description"] == table.comment
    assert made["configuration"] == table.properties()
    assert {f"delta.constraints.{check.name}": check.sql for check in table.checks}.items() <= made[
        "configuration"
    ].items()


@each_table
def test_any_reader_can_read_the_table(table, created):
    protocol = created[table.name]["protocol"]
    assert protocol["minReaderVersion"] == 1
    assert protocol["minWriterVersion"] <= 3  # 2: append only and NOT NULL; 3: CHECK
    assert "readerFeatures" not in protocol and "writerFeatures" not in protocol


@each_table
def test_a_table_is_created_once(table, spark, declared):
    for _ in range(2):
        path = store(spark, declared, table, [])
    assert [commit.name for commit in Path(path, "_delta_log").glob("*.json")] == [f"{0:020}.json"]


# ---- as built for tests


@each_table
def test_a_neutral_row_passes_every_check_of_its_table(table, spark):
    needed = {"check_results": {"level": "warn"}, "pipeline_runs": {"status": "done"}}
    # Five parts of 1.
    needed |= {"recommendations": {"score": 5.0}}
    given = needed.get(table.name, {})
    built = frame(spark, table, [row(table, **given)])
    assert [(f.name, f.dataType) for f in built.schema] == [(c.name, c.type) for c in table.columns]
    found = built.selectExpr(
        *[f"`{c.name}` IS NULL AS `{c.name}`" for c in table.columns],
        *[f"({check.sql}) AS {check.name}" for check in table.checks],
    ).first()
    nulls, passed = {c.name: c.nullable for c in table.columns}, {check.name: True for check in table.checks}
    assert found is not None and found.asDict() == nulls | passed


@pytest.mark.parametrize(
    ("table", "rule"),
    [pytest.param(t, r, id=f"{t.name}.{r.name}") for t in ALL_TABLES for r in t.rules],
)
def test_a_rule_gives_one_number_or_null_and_neutral_rows_pass_it(table, rule, spark, neutral_views):
    sql = rule.sql.replace(":last", "DATE'2025-03-03'")
    (value,) = spark.sql(f"SELECT CAST({sql} AS DOUBLE) FROM {table.name}").collect()[0]  # noqa: S608
    assert value is None or rule.low <= value <= rule.high


def test_a_row_has_the_values_given():
    built = row(items.TABLE, item_id="i1", title="Mug", valid_from=None)
    assert list(built) == items.TABLE.names
    # None is kept even where the table refuses it: tests of the refusal need it.
    assert (built["item_id"], built["title"], built["text"], built["valid_from"]) == ("i1", "Mug", None, None)


def test_a_row_refuses_names_the_table_does_not_have():
    with pytest.raises(TypeError, match="items has no column colour, size"):
        row(items.TABLE, size=3, item_id="i1", colour="red")


# ---- as documented


def test_the_documented_tables_are_the_declared_ones():
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert page == tables_markdown(), "run `make docs`"
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == [table.name for table in ALL_TABLES]
