"""The steps of a night, declared once in NIGHT: read by nights, ranges, rebuilds and the publication."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from pyspark.sql import SparkSession

from jobs.embed.days import JOB as EMBED
from jobs.embed.days import embed_days
from jobs.fold.days import JOB as FOLD
from jobs.fold.days import fold_days
from jobs.ingest.days import JOB as INGEST
from jobs.ingest.days import ingest_days, most_days
from jobs.io.days import Days
from jobs.io.history import ONE_DAY, Record, first_hole, history_of, standing
from jobs.io.logs import Logs, is_empty_closed_day
from jobs.io.messages import progress, say
from jobs.io.runs import Run, step
from jobs.night.checks import JOB as CHECK
from jobs.night.checks import check_days
from jobs.night.choices import marked_events
from jobs.night.guards import unfinished_ingests
from jobs.night.publication import JOB as PUBLISH
from jobs.night.publication import Publication, publish
from jobs.recommend.lists import JOB as RECOMMEND
from jobs.recommend.lists import Asked, recommend_in_night
from schemas import pipeline_runs
from schemas.settings import Settings


@dataclass(frozen=True)
class Night:
    """What the steps work on: a night, a range, or the published history (a rebuild).

    logs: None where stored events are folded again. ingested: chunks of days that are done. fold: how days
    are folded. compared_from: the first log day of which that fold compares every event; None: the first of
    the days.
    """

    settings: Settings
    days: Days
    logs: Logs | None = None
    ingested: Sequence[Days] = ()
    fold: Callable[[Run, Settings, Days], None] = fold_days
    compared_from: date | None = None


def _ingest(parent: Run, night: Night) -> None:
    """Ingests the days in chunks, each recorded, and reports the progress of a range."""
    if night.logs is None:
        return
    chunks = night.days.chunks(most_days(night.settings))
    todo = [chunk for chunk in chunks if chunk not in night.ingested]
    done = sum(map(len, chunks)) - sum(map(len, todo))
    if done:
        say(f"{parent.spec.job}: {done} days were ingested before the last stop")
    began, events, ingested = time.monotonic(), 0, 0
    for chunk in todo:
        with step(parent, INGEST, chunk) as run:
            ingest_days(run, night.logs, night.settings, chunk)
        events, ingested = events + run.counts["read"], ingested + len(chunk)
        if len(chunks) > 1:
            told = progress(ingested, len(night.days) - done, events, time.monotonic() - began)
            say(f"{parent.spec.job}: ingest {told}")


def _embed(parent: Run, night: Night) -> None:
    with step(parent, EMBED) as run:
        embed_days(run, night.settings.engine, night.days)


def _fold(parent: Run, night: Night) -> None:
    with step(parent, FOLD) as run:
        night.fold(run, night.settings, night.days)


def _recommend(parent: Run, night: Night) -> None:
    """Lists of each day, for users with events of it; after a rebuild of the last day, for all users."""
    if not night.settings.recommend.nightly:
        return
    with step(parent, RECOMMEND) as run:
        marked = marked_events(run.warehouse, night.settings.fold)
        asked = Asked(night.days, everybody=night.logs is None)
        recommend_in_night(run, night.settings, marked, asked)


def _check(parent: Run, night: Night) -> None:
    with step(parent, CHECK) as run:
        check_days(run, night.settings, night.days)


def _publish(parent: Run, night: Night) -> None:
    publication = Publication(
        parent.spec.renamed(PUBLISH), required_jobs(night.settings), night.compared_from
    )
    publish(parent.log, parent.writer, publication)


class Step(NamedTuple):
    """A step of the night: the job's name in its record, and its work on the days."""

    job: str
    do: Callable[[Run, Night], None]


NIGHT = (
    Step(INGEST, _ingest),
    Step(EMBED, _embed),
    Step(FOLD, _fold),
    Step(RECOMMEND, _recommend),
    Step(CHECK, _check),
    Step(PUBLISH, _publish),
)
# The jobs of a night before its publication.
CHAIN = tuple(step.job for step in NIGHT[:-1])


def required_jobs(settings: Settings) -> tuple[str, ...]:
    """The jobs that must have done a day before it is published: those that make lists only if nights do."""
    return tuple(job for job in CHAIN if job != RECOMMEND or settings.recommend.nightly)


def run_steps(parent: Run, night: Night) -> None:
    """Runs every step; the last two only where readers would see something new."""
    for job, do in NIGHT:
        if job == CHECK and is_published(parent, night.days):
            say(f"{night.days.last} is published already, and nothing has changed")
            return
        do(parent, night)


def is_published(run: Run, days: Days) -> bool:
    """Whether the days are published and every table is as the newest publication names it."""
    ordered = run.log.records()
    published = standing(ordered)
    now = {n: v for n, v in run.warehouse.versions().items() if n != pipeline_runs.TABLE.name}
    # An ingest that was killed is settled by a publication, though it may have written nothing.
    is_open = any(r.days.overlaps(days) for r in unfinished_ingests(ordered))
    if is_open or first_hole(published, days) is not None or published[-1].output_versions != now:
        return False
    # The same numbers may be other commits, where lost ones were written anew.
    return published[-1].output_commits == run.warehouse.commits(now)


def night_days(spark: SparkSession, logs_root: str, published: Sequence[Record], day: date) -> Days:
    """The days of a night: `day`, with the closed, empty, unpublished days right before it."""
    history, first = history_of(published), day
    newest = day if history is None else history.last
    while first - ONE_DAY > newest and is_empty_closed_day(spark, logs_root, first - ONE_DAY):
        first -= ONE_DAY
    return Days(first, day)
