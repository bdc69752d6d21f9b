"""Runs the chain over a range of days in one pass: ingest in chunks, then embed, fold and check the whole range, and publish once.

Every day of the range must be there and closed; an empty day is an empty folder with _SUCCESS. Until the range is published
nothing of it shows to readers, and a killed backfill, started again, goes on after its last finished chunk. A range may lie
before days that are there already: their users are replayed to the end. With --rebuild the whole published history is folded
anew from the stored events under the settings as they are now, beside the tables, and then put in their place: only the facets
whose meaning changed. With --dry-run it says what would be done, and does nothing.

    python -m jobs.backfill_profiles (--logs DIR --start D --end D [--mapping FILE] | --rebuild) --warehouse URI [--dry-run]
"""

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date

from pyspark.sql import SparkSession

from jobs.fold import ranges
from jobs.fold.tables import refuse_other_settings
from jobs.io import logs
from jobs.io.cli import Parser, existing_folder, iso_day, job_parser, range_problem, run_main
from jobs.io.history import Record, refuse_holes
from jobs.io.messages import JobError, progress, say
from jobs.io.runs import new_run_id, publications, recorded, records
from jobs.night.estimate import done_chunks, range_run_id, tell_range, tell_rebuild
from jobs.night.guards import refuse_thinned, refuse_unfinished
from jobs.night.steps import chunks, finish_days, ingest_chunk

JOB = "backfill_profiles"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument(
        "--logs", type=existing_folder, metavar="DIR", help="folder with dt=YYYY-MM-DD folders"
    )
    mapping = "log mapping: a file, or the name of a shipped one"
    parser.add_argument(
        "--mapping", type=logs.mapping_file, default="canonical", metavar="FILE", help=mapping
    )
    parser.add_argument("--start", type=iso_day, metavar="D", help="first log day")
    parser.add_argument("--end", type=iso_day, metavar="D", help="last log day")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="fold the published history anew where settings changed its meaning",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser


def arguments_problem(args: argparse.Namespace) -> str | None:
    given = [value is not None for value in (args.logs, args.start, args.end)]
    if args.rebuild and any(given):
        return "--rebuild takes the whole published history; leave out --logs, --start and --end"
    if not args.rebuild and not all(given):
        return "give --logs, --start and --end, or --rebuild"
    return range_problem(args)


# ---- doing it


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    published = publications(spark, args.warehouse)
    if args.rebuild:
        rebuild(spark, args, published)
        return
    refuse_holes(published, args.start, args.end, bootstrap=True, first_day=None)
    logs.require_closed(spark, args.logs, logs.days_between(args.start, args.end))
    if args.dry_run:
        refuse_other_settings(spark, args.warehouse, args.config)
        tell_range(spark, args)
        return
    run_id = range_run_id(args)
    done = done_chunks(records(spark, args.warehouse), run_id)
    with recorded(
        spark,
        args.warehouse,
        args.config,
        JOB,
        run_id,
        args.start,
        args.end,
        has_steps=True,
        reads=[args.logs],
    ):
        refuse_other_settings(spark, args.warehouse, args.config)
        ordered = records(spark, args.warehouse)
        refuse_unfinished(ordered, args.start, args.end)
        refuse_thinned(ordered, args.config, args.start)
        parts, began, events, ingested = chunks(args.start, args.end, args.config), time.monotonic(), 0, 0
        before = sum(len(days) for days in parts if is_done(days, done))
        if before:
            say(f"{JOB}: {before} days were ingested before the last stop")
        for days in parts:
            if not is_done(days, done):
                events += ingest_chunk(
                    spark, args.warehouse, args.config, run_id, args.logs, args.mapping, days
                )["read"]
                ingested += len(days)
                total = sum(map(len, parts)) - before
                say(f"{JOB}: ingest {progress(ingested, total, events, time.monotonic() - began)}")
        finish_days(spark, args.warehouse, args.config, run_id, args.start, args.end, ranges.fold_range)


def is_done(days: Sequence[date], done: Sequence[Record]) -> bool:
    return any(record.first == days[0] and record.last == days[-1] for record in done)


def rebuild(spark: SparkSession, args: argparse.Namespace, published: Sequence[Record]) -> None:
    """Folds the published history anew where its meaning changed, and publishes it."""
    if not published:
        raise JobError(f"nothing is published in {args.warehouse}; there is nothing to rebuild")
    first, last = min(p.first for p in published), max(p.last for p in published)
    if args.dry_run:
        tell_rebuild(spark, args.warehouse, args.config, first, last)
        return
    run_id = args.run_id or new_run_id(JOB, last)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, first, last, has_steps=True):
        # A day that was begun is told of at the end: under new settings it can't be run before, and then what was folded here is used.
        finish_days(
            spark, args.warehouse, args.config, run_id, first, last, ranges.rebuild_days, whole_from=last
        )


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, arguments_problem)


if __name__ == "__main__":
    sys.exit(main())
