"""What counts as overhead of a night: everything but the steps that make rows, and in these the syncs."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.perf.bench_overhead import overhead

BEGAN = datetime(2025, 4, 1, tzinfo=UTC)
STEPS = {"ingest_events": 30, "embed_texts": 10, "fold_profiles": 40, "check_tables": 8, "publish_run": 2}


def rows(night, **synced):
    """The records of a night of so many seconds, and the starts that ended nowhere."""
    ended = {"run_night": night} | STEPS
    return [{"job": job, "started": BEGAN, "ended": None, "seconds": []} for job in ended] + [
        {
            "job": job,
            "started": BEGAN,
            "ended": BEGAN + timedelta(seconds=spent),
            "seconds": [("write", 1.0), ("sync", synced.get(job, 0.0))],
        }
        for job, spent in ended.items()
    ]


@pytest.mark.parametrize(
    ("night", "synced", "share"),
    [(100, {}, 0.2), (80, {}, 0.0), (100, {"fold_profiles": 5.0}, 0.25), (100, {"check_tables": 5.0}, 0.2)],
)
def test_what_makes_no_rows_is_overhead(night, synced, share):
    assert overhead(rows(night, **synced))[0] == pytest.approx(share)
