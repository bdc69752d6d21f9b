"""Trains a ranker by what users chose on published days, and stores it in ranking_models.

The parameters of each part and the weights of their blend are those that rank best at the first weekly steps
of the days. On the last ones it is judged: lists are made by it only if it is not worse than the model in
force and than decayed popularity. The model then knows the log up to --end. Training reads what is published,
so nights go on; only the result is written under the lease, and not where users were erased meanwhile.

    python -m jobs.train_ranker --start D --end D --warehouse URI [--accept-unjudged]
"""

import argparse
import sys
import time
from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import SparkSession

from jobs.fold.facets import require_predicates
from jobs.io.cli import Parser, iso_day, job_parser, range_problem, run_main
from jobs.io.days import Days
from jobs.io.erased import erasures_so_far, refuse_erased_since
from jobs.io.messages import JobError, say
from jobs.io.model import model_key_of
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.choices import marked_events
from jobs.night.losses import refuse_losses
from jobs.rank.cases import Rules
from jobs.rank.moment import day_number
from jobs.rank.tables import Published, fitting_events, published_tables, read_world
from jobs.rank.world import World
from jobs.recommend.gate import judge
from jobs.recommend.stored import in_force, store, terms_of
from jobs.recommend.training import HORIZON, steps_between, train
from schemas.settings import Settings

JOB = "train_ranker"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    start = "first day whose choices decide; what came before is history"
    parser.add_argument("--start", required=True, type=iso_day, metavar="D", help=start)
    parser.add_argument("--end", required=True, type=iso_day, metavar="D", help="last such day")
    unjudged = "put the model into force even where the days have too few steps or users to judge it"
    parser.add_argument("--accept-unjudged", action="store_true", help=unjudged)
    return parser


def world_of(published: Published, settings: Settings, days: Days) -> tuple[World, pa.Array]:
    """What training needs to know, and the ids of the items of its arrays."""
    fold = settings.fold
    steps = steps_between(day_number(days.first), day_number(days.last))
    events, share = fitting_events(published, marked_events(published, fold), fold, steps)
    if share < 1:
        say(f"{JOB}: trained on a sample of {share:.1%} of the users, whose events fit in memory")
    return read_world(published, events, fold, model_key_of(settings.engine), steps)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    settings, days = args.config, Days(args.start, args.end)
    require_predicates(spark, settings.fold)
    log, began = RunLog(Warehouse(spark, args.warehouse)), time.monotonic()
    refuse_losses(log, JOB, days)
    # Before the publication is looked up: what is read of it may then be of nobody who was erased by now.
    erased = erasures_so_far(log.warehouse)
    world, ids = world_of(published_tables(log.warehouse, days), settings, days)
    first, last = day_number(days.first), day_number(days.last)
    rules = Rules(settings.recommend.top, HORIZON, settings.recommend.repeat)
    trained = train(world, first, last, rules, lambda text: say(f"{JOB}: {text}"))
    terms = terms_of(settings)
    rival = in_force(log.warehouse, trained, days, terms)
    verdict = judge(world, trained, rival, last, rules, args.accept_unjudged)
    with recorded(log, RunSpec.of(args, JOB, days)) as record:
        refuse_erased_since(log.warehouse, erased, JOB)
        if in_force(log.warehouse, trained, days, terms) != rival:
            raise JobError(f"another model went into force while {JOB} judged this one; run it again")
        record.seconds["train"] = round(time.monotonic() - began, 3)
        version = store(record, trained, verdict, ids, days, terms)
        counted = {name: int(trained.metrics[name]) for name in ("users", "crowded")}
        record.counts |= {"items": len(ids)} | counted
    say(f"{JOB}: {version} ({trained.kind}) is {verdict}")


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, range_problem)


if __name__ == "__main__":
    sys.exit(main())
