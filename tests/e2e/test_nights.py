"""Nights and ranges on a generated log with the hash engine: each law where a violation would show."""

import json
import shutil

import pytest

from jobs import (
    backfill_profiles,
    embed_texts,
    fold_profiles,
    ingest_events,
    publish_run,
    run_night,
)
from jobs.io.messages import JobError
from jobs.io.warehouse import Writer
from tests.e2e.conftest import DAYS, FIRST
from tests.e2e.tables import call, differences, rows_of, state_hash, version_of

LAST = DAYS[-1]
DATA = (
    "behavior_events",
    "quarantined_events",
    "items",
    "text_embeddings",
    "profile_states",
    "user_profiles",
)


def by_profile(rows):
    return {(row["user_id"], row["facet"]): row for row in rows}


def latest_states(warehouse):
    return by_profile(sorted(rows_of(warehouse, "profile_states"), key=lambda row: row["as_of_date"]))


@pytest.fixture(scope="module")
def by_backfill(spark, logs, config, tmp_path_factory):
    warehouse = tmp_path_factory.mktemp("backfill") / "w"
    call(spark, backfill_profiles, warehouse, config, "--logs", logs, "--start", FIRST, "--end", LAST)
    return warehouse


@pytest.fixture(scope="module")
def by_nights(after_nights, tmp_path_factory):
    return shutil.copytree(after_nights(len(DAYS)), tmp_path_factory.mktemp("nights") / "w")


def test_profiles_are_those_of_a_plain_fold(by_backfill):
    assert differences(str(by_backfill), LAST) == []


def test_nights_and_a_backfill_give_the_same_bits(by_nights, by_backfill):
    assert state_hash(by_nights) == state_hash(by_backfill)
    assert state_hash(by_nights, "user_profiles") == state_hash(by_backfill, "user_profiles")


def test_user_profiles_are_the_latest_states(by_nights):
    latest = latest_states(str(by_nights))
    assert by_profile(rows_of(str(by_nights), "user_profiles")) == latest != {}


def test_every_record_is_accounted_for(by_nights, logs):
    planted = json.loads((logs / "_truth" / "dirt.json").read_text(encoding="utf-8"))["days"]
    unusable = ("missing_user", "bad_time", "torn", "too_late")
    for kind in (*unusable, "late", "double", "retractions"):
        assert any(day[kind] for day in planted.values()), f"the log has no {kind}"
    for run in rows_of(str(by_nights), "pipeline_runs"):
        counts = dict(run["counts"])
        if run["job"] == "ingest_events" and run["status"] == "done":
            day = planted[str(run["date"])]
            assert counts["read"] == day["lines"]
            assert counts["read"] == counts["stored"] + counts["quarantined"] + counts["duplicate"]
            assert counts["duplicate"] == day["double"]
            assert counts["quarantined"] == sum(day[reason] for reason in unusable)
        if run["job"] == "fold_profiles" and run["status"] == "done":
            fates = ("folded", "zero_weight", "retract", "retracted", "without_vector")
            assert counts["stored"] == sum(counts[fate] for fate in fates) > 0


# The day before the last is the harder one: later states follow from it.
@pytest.mark.parametrize("again", [DAYS[1], pytest.param(LAST, marks=pytest.mark.slow)], ids=str)
def test_a_rerun_changes_no_row_and_starts_no_engine(
    spark, logs, config, by_nights, by_backfill, monkeypatch, again
):
    def no_engine(*args):
        raise AssertionError("a rerun with nothing new started the engine")

    def versions(warehouse):
        return {name: version_of(str(warehouse), name) for name in DATA}

    def publications(warehouse):
        return [row for row in rows_of(str(warehouse), "pipeline_runs") if row["status"] == "published"]

    monkeypatch.setattr("jobs.embed.days.embed_tile", no_engine)
    before = versions(by_nights), versions(by_backfill)
    call(spark, run_night, by_nights, config, "--logs", logs, "--date", again)
    call(spark, backfill_profiles, by_backfill, config, "--logs", logs, "--start", FIRST, "--end", LAST)
    assert (versions(by_nights), versions(by_backfill)) == before
    assert len(publications(by_nights)) == len(DAYS)
    assert len(publications(by_backfill)) == 1


# The fast suite proves its halves: test_history.py kills a first fold, and the rerun above starts no engine.
@pytest.mark.slow
def test_a_fold_killed_between_its_commits_is_completed_and_nothing_is_embedded_again(
    spark, logs, config, by_backfill, warehouse, monkeypatch
):
    create = Writer.create

    def dies(writer, table):
        if table.name == "user_profiles":
            raise KeyboardInterrupt
        return create(writer, table)

    call(spark, ingest_events, warehouse, config, "--logs", logs, "--date", FIRST)
    call(spark, embed_texts, warehouse, config, "--date", FIRST)
    embedded = version_of(warehouse, "text_embeddings")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "create", dies)
        call(spark, fold_profiles, warehouse, config, "--date", FIRST, "--bootstrap")
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST, "--bootstrap")
    assert version_of(warehouse, "text_embeddings") == embedded
    assert by_profile(rows_of(warehouse, "user_profiles")) == latest_states(warehouse) != {}
    assert differences(warehouse, FIRST) == []
    states = rows_of(warehouse, "profile_states")
    first_day = [row for row in rows_of(str(by_backfill), "profile_states") if row["as_of_date"] == FIRST]
    assert [row for row in states if row["as_of_date"] == FIRST]
    assert {row["user_id"] for row in states} >= {row["user_id"] for row in first_day}


def test_a_missing_day_is_refused_by_name(spark, logs, config, after_nights, warehouse, tmp_path):
    with pytest.raises(JobError, match="begin its history"):
        call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST)
    begun = shutil.copytree(after_nights(1), tmp_path / "begun")
    with pytest.raises(JobError, match=f"{DAYS[1]} is not published"):
        call(spark, run_night, begun, config, "--logs", logs, "--date", LAST)
    with pytest.raises(JobError, match=f"ingest_events has not done {DAYS[1]}"):
        call(spark, publish_run, begun, config, "--date", DAYS[1])


def test_changed_fold_settings_are_refused(spark, logs, by_nights, tmp_path):
    changed = tmp_path / "changed.yaml"
    changed.write_text("{engine: {kind: hash}, fold: {alpha: 0.5}}", encoding="utf-8")
    before = list(map(str, rows_of(by_nights, "pipeline_runs")))
    attempts = (
        (fold_profiles, ["--date", LAST]),
        (run_night, ["--logs", logs, "--date", LAST]),
        (backfill_profiles, ["--logs", logs, "--start", FIRST, "--end", LAST]),
    )
    for job, arguments in attempts:
        with pytest.raises(JobError, match="other settings"):
            call(spark, job, by_nights, str(changed), *arguments)
    # They refuse before the ingest: no step is recorded as started, which a rebuild would have to finish.
    new = [row for row in rows_of(by_nights, "pipeline_runs") if str(row) not in before]
    composites = ("run_night", "backfill_profiles")
    recorded = {(row["job"], row["status"]) for row in new}
    assert recorded == {(job, status) for job in composites for status in ("started", "failed")}
