"""Failed checks, publications rolled back, and what people see of both; on a copy of two nights."""

import shutil
from functools import reduce

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import check_tables, publish_run, run_night, show_runs
from jobs.io.messages import JobError
from jobs.io.reading import published_versions
from schemas import quarantined_events
from tests.builders import frame, row
from tests.e2e.conftest import DAYS, FIRST
from tests.e2e.tables import call, rows_of

LAST = DAYS[1]


@pytest.fixture(scope="module")
def two_nights(after_nights):
    return after_nights(2)


@pytest.fixture
def copied(two_nights, tmp_path):
    return str(shutil.copytree(two_nights, tmp_path / "w"))


def test_every_rule_of_a_sound_night_holds(two_nights):
    results = rows_of(str(two_nights), "check_results")
    assert len({row["rule"] for row in results}) == len(results) / 2 > 10
    assert [row["rule"] for row in results if not row["passed"]] == []


def with_value(column, value):
    """One row of a table with this value in a column."""
    return lambda rows: rows.limit(1).withColumn(column, F.lit(value))


def unread_record(rows):
    table = quarantined_events.TABLE
    return frame(rows.sparkSession, table, [row(table, log_date=LAST, reason="bad_time")])


def own_day(rows):
    return rows.where(F.col("event_date") == F.lit(LAST))


# Rows to append to each table, made from its own, and the rule that must find them.
SPOILT = {
    "behavior_events": {
        "behavior_events.key_unique": lambda rows: rows.limit(1),
        "pipeline_runs.events_have_one_fate": lambda rows: with_value("event_id", "newer")(own_day(rows)),
        "pipeline_runs.stored_events_are_there": with_value("event_id", "new"),
    },
    "items": {"items.key_unique": lambda rows: rows.limit(1)},
    "text_embeddings": {"text_embeddings.key_unique": lambda rows: rows},
    "profile_states": {
        "profile_states.only_active_users": with_value("user_id", "nobody"),
        "profile_states.one_fold": with_value("fold_hash", "other"),
        "profile_states.vectors_of_one_size": lambda rows: rows.limit(1).withColumn(
            "vector", F.slice("vector", 1, 3)
        ),
    },
    "user_profiles": {"user_profiles.latest_states": with_value("facet", "other")},
    "quarantined_events": {"pipeline_runs.quarantined_are_there": unread_record},
}


def test_spoilt_tables_are_not_published(spark, copied, config):
    for table, spoils in SPOILT.items():
        stored = spark.read.format("delta").load(f"{copied}/{table}")
        if table == "behavior_events":
            stored = stored.where(F.col("log_date") == F.lit(LAST))
        added = reduce(DataFrame.unionAll, [spoil(stored) for spoil in spoils.values()])
        added.write.format("delta").mode("append").save(f"{copied}/{table}")
    before = published_versions(copied)
    with pytest.raises(JobError, match="failed; nothing is published"):
        call(spark, check_tables, copied, config, "--date", LAST, "--run-id", "spoilt")
    results = [row for row in rows_of(copied, "check_results") if row["run_id"] == "spoilt"]
    broken = {row["rule"] for row in results if not row["passed"]}
    assert broken >= {rule for spoils in SPOILT.values() for rule in spoils}
    with pytest.raises(JobError, match=f"check_tables failed on {LAST}"):
        call(spark, publish_run, copied, config, "--date", LAST)
    assert published_versions(copied) == before


def test_a_publication_is_rolled_back_and_made_again(spark, copied, logs, config, capsys):
    def without_checks(versions):
        return {name: version for name, version in versions.items() if name != "check_results"}

    newest = published_versions(copied)
    with pytest.raises(JobError, match=f"the newest publication is that of {LAST}"):
        call(spark, publish_run, copied, config, "--undo", FIRST)
    call(spark, publish_run, copied, config, "--undo", LAST)
    before = published_versions(copied)
    assert before != newest and before["profile_states"] < newest["profile_states"]
    call(spark, run_night, copied, config, "--logs", logs, "--date", LAST)
    again = published_versions(copied)
    assert without_checks(again) == without_checks(newest)
    capsys.readouterr()
    assert show_runs.main(["--warehouse", copied, "--versions"]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert shown == {name: str(version) for name, version in again.items()}
    assert show_runs.main(["--warehouse", copied]) == 0
    assert f"published: {FIRST} to {LAST}" in capsys.readouterr().out


def test_rolling_back_the_first_publication_leaves_readers_nothing(spark, copied, config):
    call(spark, publish_run, copied, config, "--undo", LAST)
    call(spark, publish_run, copied, config, "--undo", FIRST)
    assert published_versions(copied) == {}
    with pytest.raises(JobError, match="nothing is published"):
        call(spark, publish_run, copied, config, "--undo", FIRST)
