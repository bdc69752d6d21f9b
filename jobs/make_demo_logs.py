"""Generates a behaviour log with known, changing interests, for a first run, for demos and for measurements.

The true interests of real users are unknown. Here every event is drawn from a recorded truth, so a profile
can be compared with it. A user has one mixture of topics before the change date and another after it. Some
users have other interests in the evening and at weekends, or with their family; some dislike a topic. A small
share of the lines has planted errors ("dirt"), which are counted.

    python -m jobs.make_demo_logs --logs DIR [--days 30] [--users 200] [--seed 7] [--domain shop]
                                  [--start 2025-03-03]

jobs/demo/files.py describes the files. The same arguments give the same bytes.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import date, timedelta

from jobs.demo.files import write_log
from jobs.demo.log import make_log, summary
from jobs.demo.words import domain_names, load_domain
from jobs.io.paths import local_folder
from jobs.io.scratch import private_files

JOB = "make_demo_logs"
START = date(2025, 3, 3)


def arg_parser() -> argparse.ArgumentParser:
    description = "Generate a behaviour log with known, changing interests."
    parser = argparse.ArgumentParser(prog=JOB, description=description)
    add = parser.add_argument
    add("--logs", type=local_folder, required=True, help="folder to write; must not contain any dt= folders")
    add("--days", type=int, default=30, help="number of log days (default 30)")
    add("--users", type=int, default=200, help="number of users (default 200)")
    add("--seed", type=int, default=7, help="random seed (default 7)")
    add("--domain", choices=domain_names(), default="shop", help="subject of the log (default shop)")
    add("--start", type=date.fromisoformat, default=START, help=f"first log day (default {START})")
    return parser


def refusal(args: argparse.Namespace) -> str | None:
    """Why the arguments can't be used, in one sentence; None if they can."""
    if args.days < 2:
        return f"--days must be at least 2, so that interests can change, not {args.days}."
    if args.users < 1:
        return f"--users must be at least 1, not {args.users}."
    if args.seed < 0:
        return f"--seed must be 0 or more, not {args.seed}."
    if not (1970 <= args.start.year <= 2100 and args.days <= 36_500):
        return "--start must be between 1970 and 2100, and --days at most 36500."
    if any(args.logs.glob("dt=*")):
        return f"--logs {args.logs} already holds log days, which are never overwritten: name another folder."
    return None


def run(args: argparse.Namespace) -> None:
    days = [args.start + timedelta(days=i) for i in range(args.days)]
    log = make_log(load_domain(args.domain), days, args.users, args.seed)
    write_log(args.logs, log)
    print(f"{args.logs}: {summary(log)}\nground truth: {args.logs / '_truth'}")


def main(argv: Sequence[str] | None = None) -> int:
    args = arg_parser().parse_args(argv)
    if reason := refusal(args):
        print(f"{JOB}: {reason}", file=sys.stderr)
        return 2
    with private_files():
        run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
