"""Where a stopped backfill continues."""

import pytest

from jobs.backfill_profiles import ingested_chunks
from tests.jobs.run_records import days, record


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ([], 2),
        ([("publish_run", "published")], 0),
        ([("publish_run", "undone")], 0),
        ([("check_tables", "failed")], 0),
        ([("fold_profiles", "failed")], 2),
    ],
)
def test_a_backfill_continues_after_a_kill_and_starts_over_after_a_verdict(after, kept):
    chunks = [record("ingest_events", of=days(0)), record("ingest_events", of=days(1), minute=1)]
    later = [record(job, status, days(0, 1), minute=2 + i) for i, (job, status) in enumerate(after)]
    ordered = [*chunks, *later, record("ingest_events", run_id="other", minute=9)]
    assert ingested_chunks(ordered, "r") == [days(0), days(1)][:kept]
