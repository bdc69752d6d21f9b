"""Checks that bite, publications that are taken back, and what a person is shown of both; on a copy of two nights."""

import shutil
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from jobs import check_tables, make_demo_logs, publish_run, query_tables, run_night, show_runs
from jobs.io.messages import JobError
from tests.e2e.tables import call, rows_of

FIRST, LAST = date(2025, 3, 3), date(2025, 3, 4)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "logs"
    assert (
        make_demo_logs.main(["--logs", str(folder), "--days", "2", "--users", "8", "--start", str(FIRST)])
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("config") / "hash.yaml"
    file.write_text("engine: {kind: hash, hash_dimensions: 16}\n", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def two_nights(spark, logs, config, tmp_path_factory):
    warehouse = tmp_path_factory.mktemp("nights") / "w"
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST, "--bootstrap")
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", LAST)
    return warehouse


@pytest.fixture
def copied(two_nights, tmp_path):
    return str(shutil.copytree(two_nights, tmp_path / "w"))


def test_every_rule_of_a_sound_night_holds(two_nights):
    results = rows_of(str(two_nights), "check_results")
    assert len({row["rule"] for row in results}) == len(results) / 2 > 10
    assert [row["rule"] for row in results if not row["passed"]] == []


# How each table is spoiled, and the rule that must see it.
SPOILT = {
    "behavior_events.key_unique": ("behavior_events", lambda t: t.limit(1)),
    "items.key_unique": ("items", lambda t: t.limit(1)),
    "text_embeddings.key_unique": ("text_embeddings", lambda t: t),
    "profile_states.only_active_users": (
        "profile_states",
        lambda t: t.limit(1).withColumn("user_id", F.lit("nobody")),
    ),
    "profile_states.one_fold": (
        "profile_states",
        lambda t: t.limit(1).withColumn("fold_hash", F.lit("other")),
    ),
    "profile_states.vectors_of_one_size": (
        "profile_states",
        lambda t: t.limit(1).withColumn("vector", F.slice("vector", 1, 3)),
    ),
    "user_profiles.latest_states": (
        "user_profiles",
        lambda t: t.limit(1).withColumn("facet", F.lit("other")),
    ),
    "pipeline_runs.quarantined_are_there": (
        "quarantined_events",
        lambda t: t.sparkSession.createDataFrame(
            [(LAST, "file", "new", 0, "raw", None, "bad_time", "why")], t.schema
        ),
    ),
    "pipeline_runs.events_have_one_fate": (
        "behavior_events",
        lambda t: t.where(F.col("event_date") == F.lit(LAST)).limit(1).withColumn("event_id", F.lit("newer")),
    ),
    "pipeline_runs.stored_events_are_there": (
        "behavior_events",
        lambda t: t.limit(1).withColumn("event_id", F.lit("new")),
    ),
}


def test_spoilt_tables_are_not_published(spark, copied, config):
    for table, spoil in SPOILT.values():
        path = f"{copied}/{table}"
        spoil(spark.read.format("delta").load(path).where(F.col("log_date") == F.lit(LAST)) if table == "behavior_events"
              else spark.read.format("delta").load(path)).write.format("delta").mode("append").save(path)  # fmt: skip
    before = query_tables.published_versions(copied)
    with pytest.raises(JobError, match="failed; nothing is published"):
        call(spark, check_tables, copied, config, "--date", LAST, "--run-id", "spoilt")
    broken = {
        row["rule"]
        for row in rows_of(copied, "check_results")
        if row["run_id"] == "spoilt" and not row["passed"]
    }
    assert broken >= SPOILT.keys()
    with pytest.raises(JobError, match="check_tables failed on 2025-03-04"):
        call(spark, publish_run, copied, config, "--date", LAST)
    assert query_tables.published_versions(copied) == before


def test_a_publication_is_taken_back_and_made_again(spark, copied, logs, config, capsys):
    newest = query_tables.published_versions(copied)
    with pytest.raises(JobError, match=f"the newest publication is that of {LAST}"):
        call(spark, publish_run, copied, config, "--undo", FIRST)
    call(spark, publish_run, copied, config, "--undo", LAST)
    before = query_tables.published_versions(copied)
    assert before != newest and before["profile_states"] < newest["profile_states"]
    call(spark, run_night, copied, config, "--logs", logs, "--date", LAST)
    again = query_tables.published_versions(copied)
    assert {n: v for n, v in again.items() if n != "check_results"} == {
        n: v for n, v in newest.items() if n != "check_results"
    }
    capsys.readouterr()
    call(spark, show_runs, copied, config, "--versions")
    assert dict(line.split() for line in capsys.readouterr().out.splitlines()) == {
        n: str(v) for n, v in again.items()
    }
    call(spark, show_runs, copied, config)
    assert f"published: {FIRST} to {LAST}" in capsys.readouterr().out


def test_the_first_publication_undone_leaves_readers_nothing(spark, copied, config):
    call(spark, publish_run, copied, config, "--undo", LAST)
    call(spark, publish_run, copied, config, "--undo", FIRST)
    assert query_tables.published_versions(copied) == {}
    with pytest.raises(JobError, match="nothing is published"):
        call(spark, publish_run, copied, config, "--undo", FIRST)
