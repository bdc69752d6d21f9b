"""Makes lists of items for the users whose profile moved on a day, by the newest ranker trained to then.

Everything is read as it was known at the end of the day. A rerun with nothing new writes nothing.

    python -m jobs.recommend_items --date D --warehouse URI [--facet NAME] [--all]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.fold.facets import require_predicates
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.messages import JobError, say
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.choices import marked_events
from jobs.night.losses import refuse_losses
from jobs.rank.content import MAIN, NEGATIVE
from jobs.recommend.lists import JOB, NO_MODEL, Asked, recommend, recommend_in_night
from jobs.recommend.stored import newest, terms_of


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    facet = "a context facet: lists for users who have it, by it and main alike"
    parser.add_argument("--facet", default=MAIN, metavar="NAME", help=facet)
    everybody = "lists for all users known by then, not only for those with new events"
    parser.add_argument("--all", action="store_true", help=everybody)
    nightly = "do nothing unless recommend.nightly is set and a model is trained: for schedulers"
    parser.add_argument("--nightly", action="store_true", help=nightly)
    return parser


def arguments_problem(args: argparse.Namespace) -> str | None:
    facets = [name for name in args.config.fold.facet_names if name != NEGATIVE]
    if args.facet not in facets:
        return f"--facet {args.facet} is no facet that lists are made for; there are {', '.join(facets)}"
    return None


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    settings, asked = args.config, Asked(Days.only(args.date), args.facet, args.all)
    require_predicates(spark, settings.fold)
    log = RunLog(Warehouse(spark, args.warehouse))
    refuse_losses(log, JOB, asked.days)
    with recorded(log, RunSpec.of(args, JOB, asked.days)) as record:
        marked = marked_events(log.warehouse, settings.fold)
        if args.nightly:
            recommend_in_night(record, settings, marked, asked)
            return
        stored = newest(log.warehouse, terms_of(settings), args.date)
        if stored is None:
            raise JobError(NO_MODEL)
        recommend(record, settings, marked, asked, stored)


def main(argv: Sequence[str] | None = None) -> int:
    args = arg_parser().parse_args(argv)
    if args.nightly and not args.config.recommend.nightly:
        say(f"{JOB} {args.date}: recommend.nightly is not set; no lists are made")
        return 0
    return run_main(arg_parser(), argv, run, arguments_problem)


if __name__ == "__main__":
    sys.exit(main())
