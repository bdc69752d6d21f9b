"""Nights under clocks that jump: what is published, and by which command, is what a right clock gives."""

import shutil
from datetime import datetime, timedelta

import pytest

from jobs import publish_run, run_night
from jobs.io.reading import publications, published_versions
from tests.e2e.conftest import DAYS
from tests.e2e.tables import call, rows_of, state_hashes

pytestmark = pytest.mark.slow
JUMPS = [48, -25, -24 * 400]


def wrong_by(hours: int) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=hours)

    return Clock


@pytest.mark.parametrize("hours", JUMPS)
def test_a_night_under_a_wrong_clock_blocks_no_later_one(
    spark, after_nights, logs, config, tmp_path, monkeypatch, hours
):
    copied = shutil.copytree(after_nights(1), tmp_path / "w")

    def night(day):
        call(spark, run_night, copied, config, "--logs", logs, "--date", day)

    with monkeypatch.context() as wrong:
        wrong.setattr("jobs.io.runs.datetime", wrong_by(hours))
        night(DAYS[1])
        shown = published_versions(str(copied))
        call(spark, publish_run, copied, config, "--undo", DAYS[1])
    assert published_versions(str(copied)) != shown
    night(DAYS[1])
    night(DAYS[2])
    assert [p.days.last for p in publications(str(copied))] == DAYS
    assert state_hashes(copied) == state_hashes(after_nights(3))
    rows = rows_of(str(copied), "pipeline_runs")
    assert sorted(row["sequence"] for row in rows) == [*range(1, len(rows) + 1)]
    # A night that is run again finds nothing to do, and is not taken for an older one.
    before = published_versions(str(copied))
    night(DAYS[2])
    assert published_versions(str(copied)) == before
