"""Publishes a night: the one row in pipeline_runs that names the version of every table, and so what readers see.

With --undo the newest publication is taken back: readers see the one before it again. The tables keep what the night wrote; run
the night again, from corrected logs where they were wrong, and it is published anew.

    python -m jobs.publish_run (--date D [--bootstrap] | --undo D) --warehouse URI
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from pyspark.sql import SparkSession

from jobs.io import lease
from jobs.io.logs import days_between
from jobs.io.runs import (
    DONE,
    FAILED,
    PUBLISHED,
    PUBLISHER,
    STARTED,
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
INGEST, FOLD = "ingest_events", "fold_profiles"
CHAIN = (INGEST, "embed_texts", FOLD, "check_tables")
# What an ingest writes that readers of profiles must find folded.
INGESTED = {"behavior_events", "items"}
# What the check itself writes to, and what is written beside it.
NOT_CHECKED = ("check_results", "pipeline_runs")
ONE_DAY, NEVER = timedelta(days=1), datetime.min.replace(tzinfo=UTC)


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


class LooseEnd(NamedTuple):
    """Days, the first and the last of them, that readers would be shown half done, and what to tell of them."""

    first: date
    last: date
    told: str
    then: str
    by_rebuild: bool = False


def unfinished_ingests(ordered: Sequence[Record]) -> list[Record]:
    """The ingests that may have changed events or items and that no publication of their days followed; the oldest days first."""
    # Of each attempt what it ended with; one that was killed, or is at work, has only begun.
    begun = {(r.run_id, r.attempt): r for r in ordered if r.job == INGEST}
    changed = [r for r in begun.values() if r.status == STARTED or r.output_versions.keys() & INGESTED]
    # The oldest publications come first, so that the newest of a day stays.
    newest = {day: p.ended for p in standing(ordered) if p.ended for day in days_between(p.first, p.last)}
    unfinished = [r for r in changed if any(newest.get(day, NEVER) <= r.started for day in days_between(r.first, r.last))]
    return sorted(unfinished, key=lambda r: r.first)


def loose_ends(ordered: Sequence[Record], first: date, last: date, whole_from: date) -> Iterator[LooseEnd]:
    """What the publication of first..last would show of other days that were folded, taken back or ingested, and not published since.

    The events of a log day may be late and lie a window before it; a night's fold compares events from a window before the night on. So
    all events are compared of the log days from the night's own on, `whole_from`, and of any day before it some may not be.
    """
    published, own = standing(ordered), Record("", JOB, 1, PUBLISHED, first, last, datetime.now(UTC), None, {}, {})
    ingesting = {r.run_id for r in ordered if r.job == INGEST}
    for r in ordered:
        if r.job == FOLD and r.last > last:
            since, told, then = published, "was folded and is not published, and its states would show", ", which publishes both"
        elif r.status == UNDONE and r.ended:
            since = [p for p in published if p.ended and p.ended > r.ended]
            told, then = "was taken back and not run since, and its rows would show", " first"
        else:
            continue
        if first_hole([*since, own], r.first, r.last):
            by_rebuild = r.status == UNDONE and r.first < r.last and r.run_id not in ingesting
            yield LooseEnd(first_hole(since, r.first, r.last) or r.first, r.last, told, then, by_rebuild)
    yield from ingested_ends(ordered, whole_from)


def ingested_ends(ordered: Sequence[Record], until: date) -> Iterator[LooseEnd]:
    """The ingests of days before `until` that were not finished; a step of a range is finished by the range."""
    for r in unfinished_ingests(ordered):
        if r.first < until:
            around = [o for o in ordered if o.run_id == r.run_id and o.first <= r.first and r.last <= o.last]
            whole = max(around, key=lambda o: o.last - o.first)
            yield LooseEnd(whole.first, whole.last, "was ingested and not finished since", " first")


def way_out(ordered: Sequence[Record], end: LooseEnd) -> str:
    """What to run so that the days are published: all of them that are in each other's way, so that it is not refused in its turn."""
    published = standing(ordered)
    begin, newest = min((p.first for p in published), default=end.first), max((p.last for p in published), default=end.last)
    if end.by_rebuild and not any(loose_ends(ordered, begin, newest, newest)):
        return "backfill_profiles --rebuild"
    # Up to the history: a hole would be refused.
    first, last = min(end.first, newest + ONE_DAY), max(end.last, begin - ONE_DAY)
    for other in loose_ends(ordered, first, last, first):
        first, last = min(first, other.first), max(last, other.last)
    return "that day" if first == last else f"backfill_profiles --start {first} --end {last}"


def refuse_unfinished(ordered: Sequence[Record], first: date, last: date, whole_from: date | None = None) -> None:
    """Stops, with names and what to run, where the publication of first..last would show readers other days half done."""
    refuse_first(ordered, loose_ends(ordered, first, last, whole_from or first))


def refuse_begun(ordered: Sequence[Record], day: date) -> None:
    """The same before the day's ingest alone: later days may be ingested ahead, and published ones one after the other."""
    shown = [p.last for p in standing(ordered)]
    refuse_first(ordered, loose_ends(ordered, day, day, max(shown) + ONE_DAY if shown and day > max(shown) else date.min))


def refuse_first(ordered: Sequence[Record], ends: Iterator[LooseEnd]) -> None:
    """Stops with the first of the loose ends, if there is one, and with what to run."""
    end = next(ends, None)
    if end is not None:
        days = str(end.last) if end.first == end.last else f"the range {end.first}..{end.last}"
        raise JobError(f"{days} {end.told}; run {way_out(ordered, end)}{end.then}")


def publish_days(
    spark: SparkSession, warehouse: str, settings: Settings, run_id: str, first: date, last: date, whole_from: date | None = None
) -> None:
    """Makes the tables as they are now the published ones, for the days first..last.

    The fold has compared all events of the log days from `whole_from` on, by default the first.
    """
    with lease.held(spark, warehouse, f"{JOB} of {last}"):
        ordered = records(spark, warehouse)
        require_chain(ordered, versions(spark, warehouse), first, last)
        refuse_unfinished(ordered, first, last, whole_from)
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
