"""Judges profiles and baselines by a replay of published days.

Every step predicts what each user known by then chooses in the days after it, from nothing that was not known
then, and ranks the whole catalogue. Models are fitted weekly; their parameters are chosen on the days before
--start. It reads what is published, writes nothing into the warehouse, and takes no lease: nights go on.

    python -m jobs.evaluate_profiles --start D --end D --out DIR --warehouse URI
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.evaluate.exposure import exposure_of
from jobs.evaluate.output import write_result
from jobs.evaluate.run import evaluate, steps_of
from jobs.evaluate.spread import spread_on
from jobs.evaluate.summary import Run
from jobs.fold.facets import require_predicates
from jobs.io.cli import Parser, iso_day, range_problem, run_main, settings_parser
from jobs.io.days import Days
from jobs.io.messages import say
from jobs.io.model import model_key_of
from jobs.io.warehouse import Warehouse
from jobs.night.choices import marked_events
from jobs.rank.cases import ALLOW, REPEATS, Rules
from jobs.rank.moment import day_number
from jobs.rank.relist import rerankings_of
from jobs.rank.tables import fitting_events, published_tables, read_world
from jobs.recommend.stored import row_in_force, terms_of

JOB = "evaluate_profiles"
FURTHEST, LARGEST_K = 365, 1000


def arg_parser() -> Parser:
    parser = settings_parser(JOB, __doc__)
    parser.add_argument("--start", required=True, type=iso_day, metavar="D", help="first day predicted")
    parser.add_argument("--end", required=True, type=iso_day, metavar="D", help="last day predicted")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the result")
    parser.add_argument("--horizon", type=int, default=7, metavar="N", help="days that a step predicts")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="days from step to step")
    parser.add_argument(
        "--repeat", choices=REPEATS, default=ALLOW, help="items that the user chose before, in the ranking"
    )
    parser.add_argument("--k", type=int, default=10, metavar="N", help="ranks that count")
    parser.add_argument(
        "--target", metavar="SQL", help="which events are choices; default: heavy, not negative, well rated"
    )
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="of the bootstrap")
    parser.add_argument("--mlflow", type=Path, metavar="DIR", help="also a run in this MLflow file store")
    return parser


def arguments_problem(args: argparse.Namespace) -> str | None:
    for name, value, last in (
        ("--horizon", args.horizon, FURTHEST),
        ("--every", args.every, FURTHEST),
        ("--k", args.k, LARGEST_K),
    ):
        if not 1 <= value <= last:
            return f"{name} is {value}; it must be within 1..{last}"
    if args.seed < 0:
        return f"--seed is {args.seed}; it must not be negative"
    return range_problem(args)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    fold = args.config.fold
    require_predicates(spark, fold)
    published = published_tables(Warehouse(spark, args.warehouse), Days(args.start, args.end))
    rules = Rules(args.k, args.horizon, args.repeat)
    first, last = day_number(args.start), day_number(args.end)
    about = Run(first, last, args.every, rules, args.seed, dict(published.versions))
    steps = steps_of(about)
    marked = marked_events(published, fold, args.target)
    # A propensity of what was shown may stand in `extra`.
    events, share = fitting_events(published, marked, fold, steps, ["extra"])
    notes = [f"A sample of {share:.1%} of the users, whose events fit in memory."] if share < 1 else []
    asked, model_key = args.config.recommend, model_key_of(args.config.engine)
    category = asked.category_attribute if asked.calibration else None
    world, _ = read_world(published, events, fold, model_key, steps, category)
    say(f"{JOB} {args.start}..{args.end}: {len(world.events.item):,} events, {world.catalogue.size:,} items")
    result = evaluate(world, about, notes, spread_on(spark), rerankings_of(asked))
    result |= {"impressions": exposure_of(events, args.horizon), "target": args.target}
    ranker = row_in_force(published.warehouse, terms_of(args.config), args.end)
    result["ranker"] = ranker and {name: ranker[name] for name in ("version", "verdict")}
    for path in write_result(result, args.out, args.mlflow):
        say(f"{JOB}: {path}")


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, arguments_problem)


if __name__ == "__main__":
    sys.exit(main())
