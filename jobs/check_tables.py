"""Checks the tables before a night is published: the rules that stand beside each table in schemas/, over what the night reaches.

Every outcome goes into check_results. A `fail` rule that does not hold stops the night, so that readers stay where they are; a
`warn` rule is told and passes.

    python -m jobs.check_tables --date D --warehouse URI
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.runs import new_run_id, recorded
from jobs.night.checks import JOB, check_days


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    with recorded(
        spark,
        args.warehouse,
        args.config,
        JOB,
        args.run_id or new_run_id(JOB, args.date),
        args.date,
        args.date,
    ) as record:
        check_days(spark, args.warehouse, args.config, record, args.date, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
