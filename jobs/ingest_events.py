"""Turns log days into facts: events, item versions, and a quarantine for what can't be used.

Every record that is read gets one fate (stored, quarantined, duplicate, filtered, erased), and the fates are counted.

    python -m jobs.ingest_events --logs DIR --date D --warehouse URI [--mapping FILE]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.ingest.days import JOB, ingest_days
from jobs.io import logs
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.runs import new_run_id, recorded, records
from jobs.night.guards import refuse_begun, refuse_thinned


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    logs.require_closed(spark, args.logs, [args.date])
    run_id, folder = args.run_id or new_run_id(JOB, args.date), logs.day_folder(args.logs, args.date)
    with recorded(
        spark, args.warehouse, args.config, JOB, run_id, args.date, args.date, reads=[folder]
    ) as record:
        ordered = records(spark, args.warehouse)
        refuse_begun(ordered, args.date)
        refuse_thinned(ordered, args.config, args.date)
        ingest_days(spark, args.warehouse, args.config, record, args.logs, args.mapping, [args.date])


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
