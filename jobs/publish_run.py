"""Publishes a night: the one row in pipeline_runs that names the version of every table, and so what readers see.

python -m jobs.publish_run --date D --warehouse URI [--bootstrap]
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date

from pyspark.sql import SparkSession

from jobs.io.runs import PUBLISHER, new_run_id, publications, recorded, refuse_holes, require_done
from jobs.io.shell import Parser, iso_day, job_parser, run_main
from schemas.settings import Settings

JOB = PUBLISHER
CHAIN = ("ingest_events", "embed_texts", "fold_profiles")


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day to publish")
    parser.add_argument("--bootstrap", action="store_true", help="begin this warehouse's history with the day")
    return parser


def publish_days(spark: SparkSession, warehouse: str, settings: Settings, run_id: str, first: date, last: date) -> None:
    """Makes the tables as they are now the published ones, for the days first..last."""
    require_done(spark, warehouse, CHAIN, first, last)
    with recorded(spark, warehouse, settings, JOB, run_id, first, last, status="published") as record:
        record.output_versions = record.input_versions


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    refuse_holes(publications(spark, args.warehouse), args.date, args.date, args.bootstrap, args.config.fold.first_day)
    publish_days(spark, args.warehouse, args.config, args.run_id or new_run_id(JOB, args.date), args.date, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
