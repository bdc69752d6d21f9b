"""Publishes a night or takes it back."""

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import SparkSession

from jobs.embed.days import JOB as EMBED
from jobs.fold.days import JOB as FOLD
from jobs.ingest.days import JOB as INGEST
from jobs.io import lease
from jobs.io.history import DONE, FAILED, PUBLISHED, PUBLISHER, UNDONE, Record, first_hole
from jobs.io.messages import JobError, say
from jobs.io.runs import Run, publications, recorded, records, versions, write_row
from jobs.night.checks import JOB as CHECK
from jobs.night.guards import refuse_unfinished
from schemas.settings import Settings

JOB = PUBLISHER
CHAIN = (INGEST, EMBED, FOLD, CHECK)
# What the check itself writes to, and what is written beside it.
NOT_CHECKED = ("check_results", "pipeline_runs")


def require_chain(ordered: Sequence[Record], now: Mapping[str, int], first: date, last: date) -> None:
    """Stops, with names, where a job has not done one of the days or failed on the last one, or tables changed since their check.

    `now` are the versions of all tables.
    """
    newest = {}
    for job in CHAIN:
        ended = [r for r in ordered if r.job == job and r.status in (DONE, FAILED)]
        hole = first_hole([r for r in ended if r.status == DONE], first, last)
        if hole is not None:
            raise JobError(f"{job} has not done {hole}; run it first")
        newest[job] = next(r for r in reversed(ended) if r.first <= last <= r.last)
        if newest[job].status == FAILED:
            raise JobError(f"{job} failed on {last} the last time; run it again first")
    checked = newest[CHAIN[-1]].input_versions
    changed = sorted(name for name in now if name not in NOT_CHECKED and checked.get(name) != now[name])
    if changed:
        raise JobError(
            f"{', '.join(changed)} changed after the tables were checked for {last}; run check_tables first"
        )


def publish_days(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run_id: str,
    first: date,
    last: date,
    whole_from: date | None = None,
) -> None:
    """Makes the tables as they are now the published ones, for the days first..last.

    The fold has compared all events of the log days from `whole_from` on, by default the first.
    """
    with lease.held(spark, warehouse, f"{JOB} of {last}"):
        ordered = records(spark, warehouse)
        require_chain(ordered, versions(spark, warehouse), first, last)
        refuse_unfinished(ordered, first, last, whole_from)
        with recorded(spark, warehouse, settings, JOB, run_id, first, last, status=PUBLISHED) as record:
            record.output_versions = record.input_versions


def undo(spark: SparkSession, warehouse: str, settings: Settings, day: date) -> None:
    """Takes the newest publication back, which must be the day's; the row names the versions that readers see now."""
    with lease.held(spark, warehouse, f"{JOB} --undo {day}"):
        published = publications(spark, warehouse)
        if not published or published[-1].last != day:
            newest = (
                f"the newest publication is that of {published[-1].last}; undo that one first"
                if published
                else "nothing is published"
            )
            raise JobError(f"{day} can't be undone: {newest}")
        gone, rest = published[-1], published[:-1]
        row = Run(gone.run_id, JOB, gone.first, gone.last, settings.config_hash(), attempt=gone.attempt)
        row.output_versions = rest[-1].output_versions if rest else {}
        write_row(spark, warehouse, row, UNDONE)
    say(f"{JOB}: {day} is undone; readers see {f'the night of {rest[-1].last}' if rest else 'nothing'}")
