"""Folds the stored events of a day into profiles, and repairs the states that late events made dirty.

The states to compute are found by comparing digests: for every user, facet and day of the window, the digest
of the stored events is compared with the digest in the state. Where they differ, the user's facet is folded
again from that day on. So late events, retractions, redelivered days and crashes need nothing special, and a
day that is folded already costs a comparison and writes nothing.

    python -m jobs.fold_profiles --date D --warehouse URI [--bootstrap]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.fold.days import JOB, fold_days
from jobs.fold.facets import require_predicates
from jobs.fold.tables import refuse_other_settings
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.history import refuse_holes
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.losses import refuse_losses


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the day to fold")
    parser.add_argument(
        "--bootstrap", action="store_true", help="begin this warehouse's history with the day"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    log, days = RunLog(Warehouse(spark, args.warehouse)), Days.only(args.date)
    refuse_losses(log, JOB, days)
    refuse_holes(log.publications(), days, args.bootstrap, args.config.fold.first_day)
    log.warehouse.refuse_other_schema()
    require_predicates(spark, args.config.fold)
    refuse_other_settings(log.warehouse, args.config)
    with recorded(log, RunSpec.of(args, JOB, days)) as record:
        fold_days(record, args.config, days)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
