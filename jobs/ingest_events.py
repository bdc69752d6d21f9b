"""Turns log days into facts: events, item versions, and a quarantine for unusable records.

Every record gets one fate (stored, quarantined, duplicate, filtered), and the fates are counted.

    python -m jobs.ingest_events --logs DIR --date D --warehouse URI [--mapping FILE]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.ingest.days import JOB, ingest_days
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.logs import Logs, add_logs, require_closed
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.guards import refuse_ingest, refuse_thinned
from jobs.night.losses import refuse_losses


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    logs, days = Logs(args.logs, args.mapping), Days.only(args.date)
    require_closed(spark, logs.root, days)
    log = RunLog(Warehouse(spark, args.warehouse))
    refuse_losses(log, JOB, days)
    with recorded(log, RunSpec.of(args, JOB, days), reads=logs.folders(days)) as record:
        ordered = log.records()
        refuse_ingest(ordered, args.date)
        refuse_thinned(ordered, args.config, args.date)
        ingest_days(record, logs, args.config, days)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
