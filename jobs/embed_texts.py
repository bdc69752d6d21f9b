"""Embeds the texts that have no vector yet, each distinct text once and for all.

Missing texts are embedded in tiles, and each tile commits while the engine works on the next: a killed job
has at most two tiles to embed again. With nothing missing no engine starts.

    python -m jobs.embed_texts (--date D | --start D --end D) --warehouse URI [--retry-rejected]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.embed.days import JOB, embed_days
from jobs.io.cli import Parser, iso_day, job_parser, range_problem, run_main
from jobs.io.days import Days
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.losses import refuse_losses


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", type=iso_day, metavar="D", help="the log day")
    parser.add_argument("--start", type=iso_day, metavar="D", help="first log day of a range")
    parser.add_argument("--end", type=iso_day, metavar="D", help="last log day of a range")
    retry = "also retry texts that the model refused before"
    parser.add_argument("--retry-rejected", action="store_true", help=retry)
    return parser


def days_problem(args: argparse.Namespace) -> str | None:
    is_day, is_range = args.date is not None, args.start is not None and args.end is not None
    if is_day == is_range or (is_day and (args.start or args.end)):
        return "give --date, or --start and --end"
    return range_problem(args)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    days = Days(args.date or args.start, args.date or args.end)
    log = RunLog(Warehouse(spark, args.warehouse))
    refuse_losses(log, JOB, days)
    with recorded(log, RunSpec.of(args, JOB, days)) as record:
        embed_days(record, args.config.engine, days, args.retry_rejected)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, days_problem)


if __name__ == "__main__":
    sys.exit(main())
