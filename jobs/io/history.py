"""What the run records say.

Which days are done and published, and where a gap is. Pure functions over records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from jobs.io.days import Days
from jobs.io.messages import JobError
from schemas.pipeline_runs import PUBLISHED, UNDONE

PUBLISHER = "publish_run"
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Record:
    """A row of pipeline_runs as far as later jobs need it.

    sequence: its place among all rows. written: when, by the clock of its machine, UTC; it orders nothing.
    output_commits: of tables in output_versions, a hash of the commit that made the version.
    """

    run_id: str
    job: str
    attempt: int
    status: str
    days: Days
    sequence: int
    written: datetime
    input_versions: dict[str, int]
    output_versions: dict[str, int]
    output_commits: dict[str, str]

    @property
    def key(self) -> tuple[str, int]:
        """Names the attempt of a job: the run and how often the job was started."""
        return self.run_id, self.attempt


def record_of(row: Mapping[str, Any]) -> Record:
    """A record from a row of pipeline_runs, whichever reader it came from."""
    return Record(
        run_id=row["run_id"],
        job=row["job"],
        attempt=row["attempt"],
        status=row["status"],
        days=Days(row["from_date"], row["date"]),
        sequence=row["sequence"],
        # Spark returns naive local times, other readers return UTC.
        written=(row["ended"] or row["started"]).astimezone(UTC),
        input_versions=dict(row["input_versions"]),
        output_versions=dict(row["output_versions"]),
        output_commits=dict(row["output_commits"]),
    )


def in_order(records: Iterable[Record]) -> list[Record]:
    """The records as they were written, whatever the clocks said: the order in which all readers take them.

    Two of one number come from a writer that was replaced while it wrote: their names decide.
    """
    return sorted(records, key=lambda r: (r.sequence, r.run_id, r.job, r.attempt, r.status))


def standing(ordered: Sequence[Record]) -> list[Record]:
    """The publications that no later record rolled back, oldest first; readers see the last one."""
    undone = {r.key for r in ordered if r.status == UNDONE}
    return [r for r in ordered if r.status == PUBLISHED and r.key not in undone]


def history_of(published: Sequence[Record]) -> Days | None:
    """The first to the last published day; None where nothing is published."""
    if not published:
        return None
    return Days(min(p.days.first for p in published), max(p.days.last for p in published))


def first_hole(covered: Sequence[Record], days: Days) -> date | None:
    """The first of the days that none of the records covers."""
    day = days.first
    while day in days:
        reach = [record.days.last for record in covered if day in record.days]
        if not reach:
            return day
        day = max(reach) + ONE_DAY
    return None


def refuse_holes(published: Sequence[Record], days: Days, bootstrap: bool, first_day: date | None) -> None:
    """Raises JobError, naming the missing day, where the days would leave a gap in the published history."""
    history = history_of(published)
    if history is None:
        if bootstrap or first_day == days.first:
            return
        raise JobError(
            f"nothing before {days.first} is published in this warehouse; "
            "begin its history with --bootstrap, fold.first_day or a backfill"
        )
    hole = None
    if days.first > history.last + ONE_DAY:
        hole = history.last + ONE_DAY
    elif days.last < history.first - ONE_DAY:
        hole = days.last + ONE_DAY
    if hole is not None:
        raise JobError(
            f"{hole} is not published; run that day first (or backfill from it), "
            f"so that {days.first} folds onto a complete history"
        )
