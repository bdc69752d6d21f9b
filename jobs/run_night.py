"""Runs a whole night in one session: ingest, embed, fold, check, publish.

Days before it that are closed and empty, and that nobody ran, are taken along: a closed shop leaves no hole. Run again with
nothing new, a night changes nothing, starts no engine and publishes nothing.

    python -m jobs.run_night --logs DIR --date D --warehouse URI [--mapping FILE] [--bootstrap]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.fold.tables import refuse_other_settings
from jobs.io import logs
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.history import refuse_holes
from jobs.io.runs import new_run_id, publications, recorded, records
from jobs.night.guards import refuse_thinned, refuse_unfinished
from jobs.night.steps import chunks, finish_days, ingest_chunk, night_start

JOB = "run_night"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    parser.add_argument(
        "--bootstrap", action="store_true", help="begin this warehouse's history with the day"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    published = publications(spark, args.warehouse)
    first = night_start(spark, args.logs, published, args.date)
    refuse_holes(published, first, args.date, args.bootstrap, args.config.fold.first_day)
    logs.require_closed(spark, args.logs, [args.date])
    run_id = args.run_id or new_run_id(JOB, args.date)
    folders = [logs.day_folder(args.logs, day) for day in logs.days_between(first, args.date)]
    with recorded(
        spark, args.warehouse, args.config, JOB, run_id, first, args.date, has_steps=True, reads=folders
    ):
        refuse_other_settings(spark, args.warehouse, args.config)
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
