"""Publishes a night: the one row in pipeline_runs that names the version of every table, and so what readers see.

With --undo the newest publication is taken back: readers see the one before it again. The tables keep what the night wrote; run
the night again, from corrected logs where they were wrong, and it is published anew.

    python -m jobs.publish_run (--date D [--bootstrap] | --undo D) --warehouse URI
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import SparkSession

from jobs.io import lease
from jobs.io.runs import (
    DONE,
    FAILED,
    PUBLISHED,
    PUBLISHER,
    UNDONE,
    Record,
    Run,
    first_hole,
    new_run_id,
    publications,
    recorded,
    records,
    refuse_holes,
    standing,
    versions,
    write_row,
)
from jobs.io.shell import JobError, Parser, iso_day, job_parser, run_main, say
from schemas.settings import Settings

JOB = PUBLISHER
CHAIN = ("ingest_events", "embed_texts", "fold_profiles", "check_tables")
# What the check itself writes to, and what is written beside it.
NOT_CHECKED = ("check_results", "pipeline_runs")


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--date", type=iso_day, metavar="D", help="the log day to publish")
    which.add_argument("--undo", type=iso_day, metavar="D", help="take back the newest publication, that of the night D")
    parser.add_argument("--bootstrap", action="store_true", help="begin this warehouse's history with the day")
    return parser


def require_chain(ordered: Sequence[Record], now: Mapping[str, int], first: date, last: date) -> None:
    """Stops, with names, where a job has not done one of the days or failed on the last one, or tables changed since their check.

    `now` are the versions of all tables.
    """
    newest = {}
    for job in CHAIN:
        ended = [r for r in ordered if r.job == job and r.status in (DONE, FAILED)]
        hole = first_hole([r for r in ended if r.status == DONE], first, last)
        if hole is not None:
            raise JobError(f"{job} has not done {hole}; run it first")
        newest[job] = next(r for r in reversed(ended) if r.first <= last <= r.last)
        if newest[job].status == FAILED:
            raise JobError(f"{job} failed on {last} the last time; run it again first")
    checked = newest[CHAIN[-1]].input_versions
    changed = sorted(name for name in now if name not in NOT_CHECKED and checked.get(name) != now[name])
    if changed:
        raise JobError(f"{', '.join(changed)} changed after the tables were checked for {last}; run check_tables first")


def refuse_unfinished(ordered: Sequence[Record], first: date, last: date) -> None:
    """Stops where the publication of first..last would show readers other days that were folded, or taken back, and not published since.

    A fold begins only where history has no hole, so the day that is named can always be run.
    """
    own = Record("", JOB, 1, PUBLISHED, first, last, None, {}, {})
    shown = [*standing(ordered), own]
    for r in ordered:
        if r.job == "fold_profiles" and r.last > last and (hole := first_hole(shown, r.first, r.last)) is not None:
            raise JobError(f"{hole} was folded and is not published, and its states would show; run that day, which publishes both")
        if r.status == UNDONE:
            later = [p for p in shown if p is own or (p.ended and r.ended and p.ended > r.ended)]
            if (hole := first_hole(later, r.first, r.last)) is not None:
                raise JobError(f"{hole} was taken back and not run since, and its rows would show; run that day first")


def publish_days(spark: SparkSession, warehouse: str, settings: Settings, run_id: str, first: date, last: date) -> None:
    """Makes the tables as they are now the published ones, for the days first..last."""
    ordered = records(spark, warehouse)
    require_chain(ordered, versions(spark, warehouse), first, last)
    refuse_unfinished(ordered, first, last)
    with recorded(spark, warehouse, settings, JOB, run_id, first, last, status=PUBLISHED) as record:
        record.output_versions = record.input_versions


def undo(spark: SparkSession, warehouse: str, settings: Settings, day: date) -> None:
    """Takes the newest publication back, which must be the day's; the row names the versions that readers see now."""
    with lease.held(spark, warehouse, f"{JOB} --undo {day}"):
        published = publications(spark, warehouse)
        if not published or published[-1].last != day:
            newest = f"the newest publication is that of {published[-1].last}; undo that one first" if published else "nothing is published"
            raise JobError(f"{day} can't be undone: {newest}")
        gone, rest = published[-1], published[:-1]
        row = Run(gone.run_id, JOB, gone.first, gone.last, settings.config_hash(), attempt=gone.attempt)
        row.output_versions = rest[-1].output_versions if rest else {}
        write_row(spark, warehouse, row, UNDONE)
    say(f"{JOB}: {day} is undone; readers see {f'the night of {rest[-1].last}' if rest else 'nothing'}")


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    if args.undo:
        undo(spark, args.warehouse, args.config, args.undo)
        return
    refuse_holes(publications(spark, args.warehouse), args.date, args.date, args.bootstrap, args.config.fold.first_day)
    publish_days(spark, args.warehouse, args.config, args.run_id or new_run_id(JOB, args.date), args.date, args.date)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
