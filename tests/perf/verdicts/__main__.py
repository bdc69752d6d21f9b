"""Which settings matter for what users choose next: figures for the decisions, without Spark.

Each log is read from its raw files, its texts are embedded by the packaged model, profiles of every setting
are folded by the product's kernel, and the evaluator's own functions rank and measure: NDCG@10 over the seven
days after each weekly step, users as the unit, paired bootstrap, Holm over all comparisons of a run.

    python -m tests.perf.verdicts online_retail --data DIR --vectors DIR [--out FILE.json]
    python -m tests.perf.verdicts shop --vectors DIR [--seed N] [--contexts evening]
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jobs.evaluate.replay import World
from jobs.io.messages import say
from jobs.rank.cases import ALLOW, EXCLUDE
from jobs.rank.catalogue import Catalogue
from jobs.rank.intervals import compare
from jobs.rank.moment import day_number, day_of, possible_tuning_steps, replay_steps
from tests.perf.verdicts.judge import BASE, BLEND, CONTENT, HORIZON, Judged, Replay, tuned_before
from tests.perf.verdicts.logs import Log, generated, movielens, online_retail
from tests.perf.verdicts.profiles import choices, states_of, weights_of
from tests.perf.verdicts.settings import DEFAULT, Plan, contexts_of, plan_of
from tests.perf.verdicts.static import static_split
from tests.perf.verdicts.vectors import bags_of, vectors_of

SEED = 42
REAL = {"online_retail": online_retail, "movielens": movielens}
# The days of the test, as in `make evaluate`; of a generated log the last ones.
TESTS = {
    "online_retail": (date(2011, 10, 2), date(2011, 12, 9)),
    "movielens": (date(2014, 3, 27), date(2018, 9, 24)),
}
GENERATED_TEST_DAYS = 28
# Nobody rates a film twice; people buy again what they bought.
REPEATS = {"online_retail": (ALLOW, EXCLUDE), "movielens": (EXCLUDE,)}
# After a longer test, weights are chosen on steps of four weeks, which have more users for less work.
LONG_TEST = 365


def arg_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", choices=[*REAL, "shop", "home", "ads", "video"])
    parser.add_argument("--data", type=Path, help="folder of the raw files")
    parser.add_argument("--vectors", type=Path, required=True, help="folder that keeps the vectors")
    parser.add_argument("--seed", type=int, default=7, help="of a generated log")
    contexts = "facets of contexts, judged by choices in one (evening, family) of users who are others then"
    parser.add_argument("--contexts", metavar="NAME", help=contexts)
    parser.add_argument(
        "--static", action="store_true", help="one split at 80%% of the time, 30 days, unseen"
    )
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser


def catalogue_of(log: Log, vectors: np.ndarray) -> Catalogue:
    """The items with one text each, known from their first day on."""
    every = np.arange(len(log.known), dtype=np.int32)
    return Catalogue(log.known, every, log.known, log.item_text, vectors)


def test_days(name: str, log: Log) -> tuple[int, int]:
    """The first and the last day of the test."""
    if name in TESTS:
        first, last = TESTS[name]
        return day_number(first), day_number(last)
    last_day = int(log.day.max())
    return last_day - GENERATED_TEST_DAYS + 1, last_day


def verdicts(name: str, log: Log, vectors: np.ndarray, plan: Plan, within: str | None) -> dict[str, Any]:
    """Everything that is known of one log, by treatment of repeats."""
    first, last = test_days(name, log)
    steps, every = replay_steps(first, last, HORIZON, 7), 28 if last - first > LONG_TEST else 7
    is_chosen = choices(log) & (log.contexts[within] if within else True)
    all_steps = sorted({*steps, *possible_tuning_steps(first, HORIZON, every)})
    world = World(
        log.events(weights_of(log) > 0, is_chosen),
        catalogue_of(log, vectors),
        states_of(log, vectors, plan.folds, all_steps),
    )
    say(f"{len(plan.folds)} facets folded")
    repeats = REPEATS.get(name, (ALLOW,))
    tuned = {repeat: tuned_before(world, first, repeat, every) for repeat in repeats}
    users = log.others.get(within or "", world.events.users)
    judged = Replay(world, tuned, plan.candidates, users).judge(steps)
    return {"days": [str(day_of(first)), str(day_of(last))], "steps": len(steps)} | {
        repeat: {"tuned": asdict(tuned[repeat]), **table_of(own, plan)} for repeat, own in judged.items()
    }


def table_of(judged: Judged, plan: Plan) -> dict[str, Any]:
    """The means of all rows, and every candidate against the default, alone and in the blend."""
    others = [name for name in plan.candidates if name != DEFAULT]
    pairs = [(f"{kind}{name}", f"{kind}{DEFAULT}") for kind in (CONTENT, BLEND) for name in others]
    pairs.append((f"{BLEND}{DEFAULT}", BASE))
    found = compare(judged.figures, pairs, SEED)
    return {
        "users": len(next(iter(judged.figures.values()))),
        "rankings": judged.rankings,
        "ndcg": {name: float(rows.mean()) for name, rows in judged.figures.items()},
        "comparisons": [
            {
                "model": one.model,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "p_holm": one.p_holm,
                "verdict": one.verdict,
            }
            for one in found
        ],
    }


def main(argv: list[str]) -> int:
    args, began = arg_parser().parse_args(argv), time.monotonic()
    if args.log in REAL:
        if args.data is None:
            print("give --data, the folder of the raw files", file=sys.stderr)
            return 2
        name, log = args.log, REAL[args.log](args.data)
        vectors = vectors_of(log.texts, args.vectors, name)
    else:
        name, log = f"{args.log}-{args.seed}", generated(args.log, args.seed)
        vectors = bags_of(log.texts)
    with threadpool_limits(1):
        if args.static:
            result = static_split(log, vectors, catalogue_of(log, vectors))
        else:
            plan = plan_of(log) if args.contexts is None else contexts_of(log)
            within = None if args.contexts == "any" else args.contexts
            result = verdicts(args.log, log, vectors, plan, within)
    result |= {"log": name, "contexts": args.contexts}
    result["seconds"] = round(time.monotonic() - began)
    text = json.dumps(result, indent=1)
    if args.out:
        args.out.write_text(text + "\n", "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
