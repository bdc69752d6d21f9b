"""What the run records say: which days are done, which are published, and where a hole is. Pure functions over records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from jobs.io.messages import JobError

PUBLISHER = "publish_run"
STARTED, DONE, FAILED, PUBLISHED, UNDONE = "started", "done", "failed", "published", "undone"


@dataclass(frozen=True)
class Record:
    """What later jobs want to know of a row of pipeline_runs."""

    run_id: str
    job: str
    attempt: int
    status: str
    first: date
    last: date
    started: datetime
    ended: datetime | None
    input_versions: dict[str, int]
    output_versions: dict[str, int]


def record_of(row: Mapping[str, Any]) -> Record:
    """A record from a row of pipeline_runs, however it was read."""
    ended = row["ended"]
    return Record(
        run_id=row["run_id"],
        job=row["job"],
        attempt=row["attempt"],
        status=row["status"],
        first=row["from_date"],
        last=row["date"],
        # Spark gives times of this machine's zone without saying so, other readers say UTC.
        started=row["started"].astimezone(UTC),
        ended=ended.astimezone(UTC) if ended is not None else None,
        input_versions=dict(row["input_versions"]),
        output_versions=dict(row["output_versions"]),
    )


def standing(ordered: Sequence[Record]) -> list[Record]:
    """The publications among the records, oldest first, that no later record undid: the last one is what readers see."""
    undone = {(r.run_id, r.attempt) for r in ordered if r.status == UNDONE}
    return [r for r in ordered if r.status == PUBLISHED and (r.run_id, r.attempt) not in undone]


def first_hole(covered: Sequence[Record], first: date, last: date) -> date | None:
    """The first day of first..last that nothing covers."""
    day = first
    while day <= last:
        reach = [span.last for span in covered if span.first <= day <= span.last]
        if not reach:
            return day
        day = max(reach) + timedelta(days=1)
    return None


def refuse_holes(
    published: Sequence[Record], first: date, last: date, bootstrap: bool, first_day: date | None
) -> None:
    """Days fold onto a history without holes: stops, with the missing day's name, where first..last would leave one."""
    if not published:
        if bootstrap or first_day == first:
            return
        raise JobError(
            f"nothing before {first} is published in this warehouse; begin its history with --bootstrap, fold.first_day or a backfill"
        )
    begin, end = min(p.first for p in published), max(p.last for p in published)
    if first > end:
        hole = first_hole(published, end + timedelta(days=1), first - timedelta(days=1))
    elif last < begin:
        hole = first_hole(published, last + timedelta(days=1), begin - timedelta(days=1))
    else:
        hole = None
    if hole is not None:
        raise JobError(
            f"{hole} is not published; run that day first (or backfill from it), so that {first} folds onto a whole history"
        )
