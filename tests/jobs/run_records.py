"""Run records for tests of what they say, without a table."""

from datetime import UTC, date, datetime, timedelta

from jobs.io.days import Days
from jobs.io.history import PUBLISHER, Record
from schemas.pipeline_runs import DONE, PUBLISHED

DAY = date(2025, 3, 3)
NEXT = DAY + timedelta(days=1)
# The versions of the tables as every record found them.
VERSIONS = {"profile_states": 3, "user_profiles": 2}


def days(first: int, last: int | None = None) -> Days:
    """A span counted from DAY; one day without `last`."""
    return Days(DAY + timedelta(days=first), DAY + timedelta(days=first if last is None else last))


def at(minute: int) -> datetime:
    return datetime(2025, 3, 9, 1, minute, tzinfo=UTC)


ON_DAY = Days.only(DAY)


def record(
    job: str,
    status: str = DONE,
    of: Days = ON_DAY,
    minute: int = 0,
    run_id: str = "r",
    attempt: int = 1,
    wrote: tuple[str, ...] = ("profile_states",),
) -> Record:
    """A record written at this minute, whose number in the order is the minute too."""
    versions = dict.fromkeys(wrote, minute)
    return Record(run_id, job, attempt, status, of, minute, at(minute), VERSIONS, versions, {})


def published(minute: int, of: Days = ON_DAY, run_id: str = "r", attempt: int = 1) -> Record:
    return record(PUBLISHER, PUBLISHED, of, minute, run_id, attempt)
