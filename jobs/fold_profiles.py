"""Folds the stored events of a day, or of a range of days, into profiles, and repairs what late events made stale.

The states to compute are found by comparing digests: for every user, facet and day of the window before the first day up to
the last one, the digest of the stored events is held against the digest in the state. Where they differ the user's facet is
folded again from that day on, from the state before it. So late events, retractions, days delivered again and crashes need
nothing special, and a day that is already folded costs a comparison and writes nothing.

    python -m jobs.fold_profiles --date D --warehouse URI [--bootstrap]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.fold.days import JOB, fold_days
from jobs.fold.tables import refuse_other_settings
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.history import refuse_holes
from jobs.io.runs import new_run_id, publications, recorded, refuse_other_schema


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the day to fold")
    parser.add_argument(
        "--bootstrap", action="store_true", help="begin this warehouse's history with the day"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    refuse_holes(
        publications(spark, args.warehouse), args.date, args.date, args.bootstrap, args.config.fold.first_day
    )
    refuse_other_schema(spark, args.warehouse)
    refuse_other_settings(spark, args.warehouse, args.config)
    run_id = args.run_id or new_run_id(JOB, args.date)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.date, args.date) as record:
        fold_days(spark, args.warehouse, args.config, record, args.date, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
