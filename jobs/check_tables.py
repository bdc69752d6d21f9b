"""Checks the tables before a night is published.

The rules declared with each table, over what the night can have touched.

Every outcome goes into check_results. A `fail` rule that does not hold stops the night, and readers keep the
last one; a `warn` rule is reported and passes.

    python -m jobs.check_tables --date D --warehouse URI
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.checks import JOB, check_days
from jobs.night.losses import refuse_losses


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    log, days = RunLog(Warehouse(spark, args.warehouse)), Days.only(args.date)
    refuse_losses(log, JOB, days)
    with recorded(log, RunSpec.of(args, JOB, days)) as record:
        check_days(record, args.config, days)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
