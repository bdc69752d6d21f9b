"""Prints the last runs of a warehouse.

What each job did, how long it took, what failed and what to do next; reads only, without Spark.

    python -m jobs.show_runs --warehouse URI [--last 20] [--versions]
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import groupby
from typing import Any

from jobs.io.cli import Parser, exit_code, warehouse_parser
from jobs.io.days import Days
from jobs.io.history import ONE_DAY, Record, history_of, in_order, record_of, standing
from jobs.io.messages import JobError, count_list, say
from jobs.io.reading import run_rows
from jobs.night.guards import day_states
from schemas.pipeline_runs import FAILED, PUBLISHED, STARTED

JOB = "show_runs"


def arg_parser() -> Parser:
    parser = warehouse_parser(JOB, __doc__)
    parser.add_argument("--last", type=int, default=20, metavar="N", help="how many records to show")
    versions_help = "print the published version of every table instead"
    parser.add_argument("--versions", action="store_true", help=versions_help)
    return parser


def latest_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last row of each attempt of a job, in the order of their first rows.

    One that only started is running, or was killed.
    """
    # A key keeps the place of its first row and takes the value of its last.
    ordered = sorted(rows, key=lambda row: row["sequence"])
    return list({(row["run_id"], row["job"], row["attempt"]): row for row in ordered}.values())


def line(row: dict[str, Any]) -> str:
    took = f"{(row['ended'] - row['started']).total_seconds():.1f} s" if row["ended"] else "not ended"
    # In the zone of this machine, as the job's own log has it.
    when, days = f"{row['started'].astimezone():%Y-%m-%d %H:%M:%S}", str(days_of(row))
    outcome = row["message"] or count_list(dict(row["counts"]))
    return f"{when}  {row['job']:<17} {days:<22} {row['status']:<9} {took:>9}  {outcome}"


def days_of(row: dict[str, Any]) -> Days:
    return Days(row["from_date"], row["date"])


def next_step(rows: Sequence[dict[str, Any]]) -> str | None:
    """What to do about the newest run, where it did not end well. rows: in the order of their start."""
    newest = [row for row in rows if row["run_id"] == rows[-1]["run_id"]] if rows else []
    broken = next((row for row in newest if row["status"] in (FAILED, STARTED)), None)
    if broken is None:
        return None
    job, days = newest[0]["job"], days_of(broken)
    rerun = f"rerun {job} for {days_of(newest[0])}: finished work is kept, and nothing needs cleaning up"
    if broken["status"] == STARTED:
        return f"{broken['job']} of {days} has not ended; if it is not running any more, {rerun}"
    if broken["job"] == "check_tables":
        fix = "look at check_results, correct the logs or the settings"
        return f"rules do not hold for {days}: {fix}, and {rerun}"
    return f"{broken['job']} of {days} failed: fix what its message says, and {rerun}"


def version_lines(published: Record) -> list[str]:
    return [f"{name:<20} {version:>6}" for name, version in sorted(published.output_versions.items())]


def unfinished_lines(states: dict[date, str]) -> list[str]:
    """The days that are not published, as spans of one state. states: of every known day, in order."""
    lines = []
    days = [(day, state) for day, state in states.items() if state != PUBLISHED]
    # Consecutive days have the same distance to their place in the list.
    for (_, state), span in groupby(enumerate(days), lambda at: (at[1][0] - at[0] * ONE_DAY, at[1][1])):
        found = [day for _, (day, _) in span]
        lines.append(f"{state}: {Days(found[0], found[-1])}, not published")
    return lines


def run(args: argparse.Namespace) -> None:
    rows = run_rows(args.warehouse)
    if not rows:
        raise JobError(f"nothing was ever run on {args.warehouse}")
    ordered = in_order(map(record_of, rows))
    published = standing(ordered)
    if args.versions:
        if not published:
            raise JobError(f"nothing is published in {args.warehouse}")
        say("\n".join(version_lines(published[-1])))
        return
    shown = latest_rows(rows)[-args.last :]
    for row in shown:
        say(line(row))
    history = history_of(published)
    say(f"published: {history.first} to {history.last}" if history else "published: nothing")
    for unfinished in unfinished_lines(day_states(ordered)):
        say(unfinished)
    if step := next_step(shown):
        say(f"next: {step}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = arg_parser()
    args = parser.parse_args(argv)
    if args.last < 1:
        parser.error(f"--last {args.last} shows nothing; give at least 1")
    return exit_code(JOB, lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
