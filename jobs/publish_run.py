"""Publishes a night: the one row in pipeline_runs that names the version of every table, and so what readers see.

With --undo the newest publication is taken back: readers see the one before it again. The tables keep what the night wrote; run
the night again, from corrected logs where they were wrong, and it is published anew.

    python -m jobs.publish_run (--date D [--bootstrap] | --undo D) --warehouse URI
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.history import PUBLISHER, refuse_holes
from jobs.io.runs import new_run_id, publications
from jobs.night.publication import publish_days, undo

JOB = PUBLISHER


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--date", type=iso_day, metavar="D", help="the log day to publish")
    which.add_argument(
        "--undo", type=iso_day, metavar="D", help="take back the newest publication, that of the night D"
    )
    parser.add_argument(
        "--bootstrap", action="store_true", help="begin this warehouse's history with the day"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    if args.undo:
        undo(spark, args.warehouse, args.config, args.undo)
        return
    refuse_holes(
        publications(spark, args.warehouse), args.date, args.date, args.bootstrap, args.config.fold.first_day
    )
    publish_days(
        spark, args.warehouse, args.config, args.run_id or new_run_id(JOB, args.date), args.date, args.date
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
