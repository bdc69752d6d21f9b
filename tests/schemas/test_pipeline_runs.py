"""Run records: the stored words, and the rules that compare the tables with what a run counted."""

from datetime import UTC, date, datetime

import pytest

from schemas import behavior_events, pipeline_runs, quarantined_events
from schemas.pipeline_runs import DONE, EVENT_FATES, FAILED, PUBLISHED, STARTED, STATUSES, UNDONE
from tests.builders import frame, row

BEFORE, DAY = date(2025, 3, 2), date(2025, 3, 3)


def record(job, sequence, counts, status=DONE, first=DAY, last=DAY):
    # By a clock that runs backwards: it decides nothing.
    ended = datetime(2025, 3, 4, 23 - sequence, tzinfo=UTC)
    values = {"status": status, "from_date": first, "date": last, "sequence": sequence}
    return row(pipeline_runs.TABLE, job=job, ended=ended, counts=counts, **values)


def event(log_date=DAY, event_date=DAY):
    return row(behavior_events.TABLE, log_date=log_date, event_date=event_date)


def measured(spark, rule, *, records, events=(), quarantined=()):
    """The rule's value over tables with these rows."""
    for table, rows in (
        (pipeline_runs.TABLE, records),
        (behavior_events.TABLE, events),
        (quarantined_events.TABLE, quarantined),
    ):
        frame(spark, table, rows).createOrReplaceTempView(table.name)
    sql = next(r.sql for r in pipeline_runs.TABLE.rules if r.name == rule)
    return spark.sql(f"SELECT {sql} FROM pipeline_runs").first()[0]  # noqa: S608


def test_stored_words_do_not_change():
    assert (STARTED, DONE, FAILED, PUBLISHED, UNDONE) == STATUSES
    assert STATUSES == ("started", "done", "failed", "published", "undone")
    assert EVENT_FATES == ("folded", "zero_weight", "retract", "retracted", "without_vector")
    assert [check.sql for check in pipeline_runs.TABLE.checks] == [
        "status IN ('started', 'done', 'failed', 'published', 'undone')"
    ]


@pytest.mark.parametrize(
    ("stored", "surplus"), [(1, -1), (2, 0), (3, 1)], ids=["lost", "equal", "duplicated"]
)
def test_stored_events_are_compared_with_what_the_ingest_counted(spark, stored, surplus):
    records = [record("ingest_events", 3, {"stored": 2, "quarantined": 9})]
    # Rows are counted by log_date: the last event, which an earlier ingest stored, is not this run's.
    events = [event(event_date=BEFORE)] * stored + [event(log_date=BEFORE)]
    assert measured(spark, "stored_events_are_there", records=records, events=events) == surplus


@pytest.mark.parametrize(
    ("stored", "surplus"), [(1, -1), (2, 0), (3, 1)], ids=["lost", "equal", "duplicated"]
)
def test_quarantined_records_are_compared_with_what_the_ingest_counted(spark, stored, surplus):
    records = [record("ingest_events", 3, {"stored": 9, "quarantined": 2})]
    quarantined = [row(quarantined_events.TABLE, log_date=day) for day in [DAY] * stored + [BEFORE]]
    # A row of a catalogue is no record of the log.
    quarantined.append(row(quarantined_events.TABLE, log_date=DAY, reason="item_without_id"))
    assert measured(spark, "quarantined_are_there", records=records, quarantined=quarantined) == surplus


@pytest.mark.parametrize("missing", [None, *EVENT_FATES])
def test_every_stored_event_has_one_fate(spark, missing):
    counts = dict.fromkeys(EVENT_FATES, 1) | ({missing: 0} if missing else {})
    records = [record("fold_profiles", 3, {"stored": 9} | counts)]
    # Events are counted by event_date, also late ones.
    events = [event(log_date=BEFORE)] * len(EVENT_FATES) + [event(event_date=BEFORE)]
    assert measured(spark, "events_have_one_fate", records=records, events=events) == (1 if missing else 0)


def test_only_the_newest_finished_run_is_compared_over_its_own_days(spark):
    records = [
        record("ingest_events", 1, {"stored": 7}),  # rerun later, so it no longer counts
        record("ingest_events", 2, {"stored": 2}, first=BEFORE),  # the newest, over two days
        record("ingest_events", 3, {"stored": 8}, status=FAILED),  # newer, but failed
        record("fold_profiles", 4, {"stored": 9}),  # another job
    ]
    events = [event(), event(log_date=BEFORE), event(log_date=date(2025, 3, 1))]
    assert measured(spark, "stored_events_are_there", records=records, events=events) == 0


@pytest.mark.parametrize(("erased_at", "surplus"), [(2, -1), (4, None)], ids=["before", "since"])
def test_nothing_is_compared_where_users_were_erased_since(spark, erased_at, surplus):
    erasure = record("erase_users", erased_at, {"behavior_events_removed": 1}, status=FAILED)
    records = [record("ingest_events", 3, {"stored": 2}), erasure]
    assert measured(spark, "stored_events_are_there", records=records, events=[event()]) == surplus


def test_nothing_is_measured_before_the_first_run(spark):
    for rule in pipeline_runs.TABLE.rules:
        assert measured(spark, rule.name, records=[record("other_job", 1, {})], events=[event()]) is None
