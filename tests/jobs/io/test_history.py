"""Which publications are in force, and which days are missing."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.io.days import Days
from jobs.io.history import first_hole, history_of, record_of, refuse_holes, standing
from jobs.io.messages import JobError
from tests.jobs.run_records import DAY, NEXT, days, published


def test_the_last_publication_that_was_not_rolled_back_is_in_force():
    first, second = published(1), published(2, days(1), run_id="s")
    undone = replace(second, status="undone", sequence=3)
    again = published(4, days(1), run_id="s", attempt=2)
    assert standing([first, second]) == [first, second]
    assert standing([first, second, undone]) == [first]
    assert standing([first, second, undone, again]) == [first, again]


def test_after_a_rollback_the_day_is_missing():
    with pytest.raises(JobError, match=f"{NEXT} is not published"):
        refuse_holes([published(1)], days(2), bootstrap=False, first_day=None)


def test_a_history_is_begun_only_on_purpose():
    with pytest.raises(JobError, match=f"nothing before {DAY} is published .*; begin its history with"):
        refuse_holes([], days(0), bootstrap=False, first_day=NEXT)
    refuse_holes([], days(0), bootstrap=True, first_day=None)
    refuse_holes([], days(0), bootstrap=False, first_day=DAY)


@given(st.integers(-9, 9), st.integers(0, 4))
def test_days_away_from_the_history_are_refused_by_the_first_day_between(first, more):
    history, own = days(0, 2), days(first, first + more)
    around = Days(min(history.first, own.first), max(history.last, own.last))
    between = [day for day in around if day not in history and day not in own]
    refused = pytest.raises(JobError, match=f"^{between[0]} is not published") if between else nullcontext()
    with refused:
        refuse_holes([published(1, history)], own, bootstrap=False, first_day=None)


def test_the_first_missing_day_is_found_among_overlapping_records():
    covered = [published(1, days(0, 2)), published(2, days(1)), published(3, days(4, 5))]
    assert first_hole(covered, days(0, 2)) is None and first_hole(covered, days(4)) is None
    assert first_hole(covered, days(0, 5)) == days(3).first
    assert first_hole([], days(0)) == DAY


def test_the_history_spans_all_publications():
    assert history_of([]) is None
    assert history_of([published(1, days(3)), published(2, days(0, 1))]) == days(0, 3)


def test_a_record_is_read_alike_from_spark_and_from_other_readers():
    row = {
        "run_id": "r",
        "job": "run_night",
        "attempt": 1,
        "status": "started",
        "date": NEXT,
        "from_date": DAY,
        "sequence": 7,
        "ended": None,
        "input_versions": {"items": 1},
        "output_versions": [("items", 2)],
        "output_commits": [("items", "abc")],
    }
    moment = datetime(2025, 3, 9, 1, tzinfo=UTC)
    local = moment.astimezone().replace(tzinfo=None)  # Spark returns naive local times
    found = [record_of(row | {"started": started}) for started in (moment, local)]
    assert found[0] == found[1] and found[0].written == moment
    assert (found[0].days, found[0].output_versions) == (Days(date(2025, 3, 3), NEXT), {"items": 2})
