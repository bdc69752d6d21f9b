"""What events are made with is named before the first one, and stays."""

import pytest

from jobs.ingest.fixed import USER_BUCKETS, require_same_buckets
from jobs.io.messages import JobError
from schemas import behavior_events
from tests.e2e.tables import version_of
from tests.jobs.ingest.days import FIRST, SECOND, event


def buckets(number):
    return f"store: {{user_buckets: {number}}}"


def test_the_number_of_user_buckets_stays_what_it_was_at_the_first_event(ingest, warehouse_at, tmp_path):
    ingest(FIRST, event(event_id="1"), settings=buckets(8))
    before = version_of(str(tmp_path / "w"), "behavior_events")
    said = (
        "this warehouse has its users in 8 buckets, and store.user_buckets is 64; set store.user_buckets to 8"
    )
    for day in (FIRST, SECOND):
        with pytest.raises(JobError, match=said):
            ingest(day, event(day, event_id="2"))
    assert version_of(str(tmp_path / "w"), "behavior_events") == before
    stored = ingest(SECOND, event(SECOND, event_id="2"), settings=buckets(8))
    assert len(stored) == 2 and all(0 <= row["user_bucket"] < 8 for row in stored)
    found = warehouse_at(tmp_path / "w").properties(behavior_events.TABLE)
    assert found[USER_BUCKETS] == "8" and found["nightfold.user_key"] == "plain"


def test_a_warehouse_without_events_takes_any_number(warehouse_at, run_on, tmp_path):
    require_same_buckets(warehouse_at(tmp_path / "w"), 5)
    with run_on(tmp_path / "w") as run:
        run.writer.create(behavior_events.TABLE)
    require_same_buckets(warehouse_at(tmp_path / "w"), 5)
