"""Runs an entire night in one session: ingest, embed, fold, check, publish.

Closed and empty days right before it that nobody ran are taken along: a closed shop leaves no gap. Rerun with
nothing new, a night changes nothing, starts no engine and publishes nothing.

    python -m jobs.run_night --logs DIR --date D --warehouse URI [--mapping FILE] [--bootstrap]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.fold.facets import require_predicates
from jobs.fold.tables import refuse_other_settings
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.history import refuse_holes
from jobs.io.logs import Logs, add_logs, require_closed
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.guards import refuse_thinned, refuse_unfinished
from jobs.night.losses import FIRST_OF_NIGHT, refuse_losses
from jobs.night.steps import Night, night_days, run_steps

JOB = "run_night"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    parser.add_argument(
        "--bootstrap", action="store_true", help="begin this warehouse's history with the day"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    log, logs = RunLog(Warehouse(spark, args.warehouse)), Logs(args.logs, args.mapping)
    require_predicates(spark, args.config.fold)
    published = log.publications()
    days = night_days(spark, logs.root, published, args.date)
    refuse_losses(log, FIRST_OF_NIGHT, days)
    refuse_holes(published, days, args.bootstrap, args.config.fold.first_day)
    require_closed(spark, logs.root, Days.only(args.date))
    with recorded(log, RunSpec.of(args, JOB, days), has_steps=True, reads=logs.folders(days)) as record:
        refuse_other_settings(log.warehouse, args.config)
        ordered = log.records()
        refuse_unfinished(ordered, days)
        refuse_thinned(ordered, args.config, days.first)
        run_steps(record, Night(args.config, days, logs))


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
