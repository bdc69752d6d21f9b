"""The steps of a night."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta

from pyspark.sql import SparkSession

from jobs.embed.days import JOB as EMBED
from jobs.embed.days import embed_days
from jobs.fold.days import JOB as FOLD
from jobs.fold.days import fold_days
from jobs.ingest.days import JOB as INGEST
from jobs.ingest.days import ingest_days, most_days
from jobs.io import logs
from jobs.io.history import Record, first_hole, standing
from jobs.io.messages import say
from jobs.io.runs import Run, recorded, records, versions
from jobs.night.checks import JOB as CHECK
from jobs.night.checks import check_days
from jobs.night.guards import unfinished_ingests
from jobs.night.publication import publish_days
from schemas import pipeline_runs
from schemas.mapping import LogMapping
from schemas.settings import Settings


def night_start(spark: SparkSession, logs_root: str, published: Sequence[Record], day: date) -> date:
    """The first day of the night: `day`, or the first of the closed, empty, unpublished days right before it."""
    newest = max((span.last for span in published), default=day)
    first = day
    while first - timedelta(days=1) > newest and logs.is_empty_closed_day(
        spark, logs_root, first - timedelta(days=1)
    ):
        first -= timedelta(days=1)
    return first


def ingest_chunk(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run_id: str,
    logs_root: str,
    mapping: LogMapping,
    days: Sequence[date],
) -> dict[str, int]:
    """Ingests some days in a row as one recorded step; returns its counts."""
    with recorded(spark, warehouse, settings, INGEST, run_id, days[0], days[-1]) as record:
        ingest_days(spark, warehouse, settings, record, logs_root, mapping, days)
    return record.counts


def chunks(first: date, last: date, settings: Settings) -> list[list[date]]:
    """The days in runs that the ingest takes at once."""
    days, size = logs.days_between(first, last), most_days(settings)
    return [days[i : i + size] for i in range(0, len(days), size)]


def finish_days(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run_id: str,
    first: date,
    last: date,
    fold: Callable[[SparkSession, str, Settings, Run, date, date], None] = fold_days,
    whole_from: date | None = None,
) -> None:
    """What follows the ingest of the days; publishes unless that would show readers what they see already.

    `fold` compares all events of the log days from `whole_from` on, by default the first.
    """
    with recorded(spark, warehouse, settings, EMBED, run_id, first, last) as record:
        embed_days(spark, warehouse, settings, record, first, last)
    with recorded(spark, warehouse, settings, FOLD, run_id, first, last) as record:
        fold(spark, warehouse, settings, record, first, last)
    ordered = records(spark, warehouse)
    published = standing(ordered)
    now = {
        name: version
        for name, version in versions(spark, warehouse).items()
        if name != pipeline_runs.TABLE.name
    }
    # An ingest of the days that was killed is settled by a publication, though it may have written nothing.
    is_begun = any(r.first <= last and first <= r.last for r in unfinished_ingests(ordered))
    if not is_begun and first_hole(published, first, last) is None and published[-1].output_versions == now:
        say(f"{last} is published already, and nothing has changed")
    else:
        with recorded(spark, warehouse, settings, CHECK, run_id, first, last) as record:
            check_days(spark, warehouse, settings, record, first, last)
        publish_days(spark, warehouse, settings, run_id, first, last, whole_from)
