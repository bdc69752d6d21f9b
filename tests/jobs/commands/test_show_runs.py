"""What show_runs says of unfinished days, and what it suggests to do next."""

import pytest

from jobs.show_runs import next_step, unfinished_lines
from tests.jobs.run_records import DAY, days


def row(job, status, **more):
    return {"run_id": "r", "job": job, "status": status, "date": DAY, "from_date": DAY} | more


@pytest.mark.parametrize(
    ("rows", "suggestion"),
    [
        ([row("run_night", "done"), row("publish_run", "published")], None),
        ([row("run_night", "failed"), row("fold_profiles", "failed")], "run_night of 2025-03-03 failed"),
        (
            [row("ingest_events", "done"), row("fold_profiles", "failed")],
            "fold_profiles of 2025-03-03 failed",
        ),
        ([row("check_tables", "failed")], "rules do not hold for 2025-03-03"),
        ([row("run_night", "started"), row("embed_texts", "started")], "has not ended"),
        ([row("fold_profiles", "failed", run_id="old"), row("run_night", "done")], None),
        ([], None),
    ],
)
def test_the_next_step_follows_from_the_newest_run(rows, suggestion):
    step = next_step(rows)
    assert step is None if suggestion is None else suggestion in step


def test_unfinished_days_are_shown_as_spans_of_one_state():
    states = dict.fromkeys(days(0, 1), "ingested")
    states |= dict.fromkeys(days(2, 4), "published")
    states |= dict.fromkeys(days(5), "ingested")
    states |= dict.fromkeys(days(6, 7), "folded")
    states |= dict.fromkeys(days(9, 10), "folded")
    assert unfinished_lines(states) == [
        "ingested: 2025-03-03..2025-03-04, not published",
        "ingested: 2025-03-08, not published",
        "folded: 2025-03-09..2025-03-10, not published",
        "folded: 2025-03-12..2025-03-13, not published",
    ]
    assert unfinished_lines({}) == unfinished_lines(dict.fromkeys(days(0, 3), "published")) == []
