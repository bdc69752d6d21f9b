"""Runs a whole night in one session: ingest, embed, fold, check, publish.

Days before it that are closed and empty, and that nobody ran, are taken along: a closed shop leaves no hole. Run again with
nothing new, a night changes nothing, starts no engine and publishes nothing.

    python -m jobs.run_night --logs DIR --date D --warehouse URI [--mapping FILE] [--bootstrap]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date, timedelta

from pyspark.sql import SparkSession

from jobs import check_tables, embed_texts, fold_profiles, ingest_events
from jobs.io import logs
from jobs.io.runs import Record, Run, first_hole, new_run_id, publications, recorded, records, refuse_holes, standing, versions
from jobs.io.shell import Parser, iso_day, job_parser, run_main, say
from jobs.maintain_tables import refuse_thinned
from jobs.publish_run import publish_days, refuse_unfinished, unfinished_ingests
from schemas import pipeline_runs
from schemas.mapping import LogMapping
from schemas.settings import Settings

JOB = "run_night"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    parser.add_argument("--bootstrap", action="store_true", help="begin this warehouse's history with the day")
    return parser


def night_start(spark: SparkSession, logs_root: str, published: Sequence[Record], day: date) -> date:
    """The first day of the night: `day`, or the first of the closed, empty, unpublished days right before it."""
    newest = max((span.last for span in published), default=day)
    first = day
    while first - timedelta(days=1) > newest and logs.is_empty_closed_day(spark, logs_root, first - timedelta(days=1)):
        first -= timedelta(days=1)
    return first


def ingest_chunk(
    spark: SparkSession, warehouse: str, settings: Settings, run_id: str, logs_root: str, mapping: LogMapping, days: Sequence[date]
) -> dict[str, int]:
    """Ingests some days in a row as one recorded step; returns its counts."""
    with recorded(spark, warehouse, settings, ingest_events.JOB, run_id, days[0], days[-1]) as record:
        ingest_events.ingest_days(spark, warehouse, settings, record, logs_root, mapping, days)
    return record.counts


def chunks(first: date, last: date, settings: Settings) -> list[list[date]]:
    """The days in runs that the ingest takes at once."""
    days, size = logs.days_between(first, last), ingest_events.most_days(settings)
    return [days[i : i + size] for i in range(0, len(days), size)]


def finish_days(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run_id: str,
    first: date,
    last: date,
    fold: Callable[[SparkSession, str, Settings, Run, date, date], None] = fold_profiles.fold_days,
    whole_from: date | None = None,
) -> None:
    """What follows the ingest of the days; publishes unless that would show readers what they see already.

    `fold` compares all events of the log days from `whole_from` on, by default the first.
    """
    with recorded(spark, warehouse, settings, embed_texts.JOB, run_id, first, last) as record:
        embed_texts.embed_days(spark, warehouse, settings, record, first, last)
    with recorded(spark, warehouse, settings, fold_profiles.JOB, run_id, first, last) as record:
        fold(spark, warehouse, settings, record, first, last)
    ordered = records(spark, warehouse)
    published = standing(ordered)
    now = {name: version for name, version in versions(spark, warehouse).items() if name != pipeline_runs.TABLE.name}
    # An ingest of the days that was killed is settled by a publication, though it may have written nothing.
    is_begun = any(r.first <= last and first <= r.last for r in unfinished_ingests(ordered))
    if not is_begun and first_hole(published, first, last) is None and published[-1].output_versions == now:
        say(f"{last} is published already, and nothing has changed")
    else:
        with recorded(spark, warehouse, settings, check_tables.JOB, run_id, first, last) as record:
            check_tables.check_days(spark, warehouse, settings, record, first, last)
        publish_days(spark, warehouse, settings, run_id, first, last, whole_from)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    published = publications(spark, args.warehouse)
    first = night_start(spark, args.logs, published, args.date)
    refuse_holes(published, first, args.date, args.bootstrap, args.config.fold.first_day)
    logs.require_closed(spark, args.logs, [args.date])
    run_id = args.run_id or new_run_id(JOB, args.date)
    folders = [logs.day_folder(args.logs, day) for day in logs.days_between(first, args.date)]
    with recorded(spark, args.warehouse, args.config, JOB, run_id, first, args.date, has_steps=True, reads=folders):
        fold_profiles.refuse_other_settings(spark, args.warehouse, args.config)
        ordered = records(spark, args.warehouse)
        refuse_unfinished(ordered, first, args.date)
        refuse_thinned(ordered, args.config, first)
        for days in chunks(first, args.date, args.config):
            ingest_chunk(spark, args.warehouse, args.config, run_id, args.logs, args.mapping, days)
        finish_days(spark, args.warehouse, args.config, run_id, first, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
