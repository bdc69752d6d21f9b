"""Publishes a night: one row in pipeline_runs that names the version of every table, and so what readers see.

With --undo the newest publication is rolled back: readers see the one before it again. The tables keep what
the night wrote; run the night again, from corrected logs where they were wrong, and it is published anew.

    python -m jobs.publish_run (--date D [--bootstrap] | --undo D) --warehouse URI
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.history import refuse_holes
from jobs.io.runs import RunLog, RunSpec
from jobs.io.warehouse import Warehouse, open_writer
from jobs.night.losses import refuse_losses
from jobs.night.publication import JOB, Publication, publish, undo
from jobs.night.steps import required_jobs


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--date", type=iso_day, metavar="D", help="the log day to publish")
    undo_help = "roll back the newest publication, that of the night D"
    which.add_argument("--undo", type=iso_day, metavar="D", help=undo_help)
    parser.add_argument(
        "--bootstrap", action="store_true", help="begin this warehouse's history with the day"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    log = RunLog(Warehouse(spark, args.warehouse))
    refuse_losses(log, JOB, Days.only(args.date or args.undo))
    if args.undo:
        undo(log, args.config.config_hash(), args.undo)
        return
    days = Days.only(args.date)
    refuse_holes(log.publications(), days, args.bootstrap, args.config.fold.first_day)
    with open_writer(log.warehouse, f"{JOB} of {days}") as writer:
        publish(log, writer, Publication(RunSpec.of(args, JOB, days), required_jobs(args.config)))


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
