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
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import check_tables, embed_texts, fold_profiles, fold_ranges, ingest_events
from jobs.io import delta, logs
from jobs.io.runs import DONE, FAILED, PUBLISHED, UNDONE, Record, new_run_id, publications, recorded, records, refuse_holes, runs_table
from jobs.io.session import located
from jobs.io.shell import JobError, Parser, existing_folder, iso_day, job_parser, progress, range_problem, run_main, say
from jobs.maintain_tables import refuse_thinned
from jobs.private_data import normal_form
from jobs.publish_run import refuse_unfinished
from jobs.record_fates import map_records
from jobs.run_night import chunks, finish_days, ingest_chunk
from schemas import behavior_events, profile_states, rejected_texts, text_embeddings, user_profiles
from schemas.mapping import LogMapping
from schemas.settings import Settings

JOB = "backfill_profiles"
# Records, texts and events a second on two cores, for an estimate where the warehouse has measured none itself.
USUAL_SPEED = {ingest_events.JOB: 15_000.0, embed_texts.JOB: 350.0, fold_profiles.JOB: 40_000.0}
# What a run costs beside that: Java's start, plans, checks; minutes.
ALWAYS_MINUTES = 1.0
LETTERS_A_TOKEN = 4


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--logs", type=existing_folder, metavar="DIR", help="folder with dt=YYYY-MM-DD folders")
    mapping = "log mapping: a file, or the name of a shipped one"
    parser.add_argument("--mapping", type=logs.mapping_file, default="canonical", metavar="FILE", help=mapping)
    parser.add_argument("--start", type=iso_day, metavar="D", help="first log day")
    parser.add_argument("--end", type=iso_day, metavar="D", help="last log day")
    parser.add_argument("--rebuild", action="store_true", help="fold the published history anew where settings changed its meaning")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser


def arguments_problem(args: argparse.Namespace) -> str | None:
    given = [value is not None for value in (args.logs, args.start, args.end)]
    if args.rebuild and any(given):
        return "--rebuild takes the whole published history; leave out --logs, --start and --end"
    if not args.rebuild and not all(given):
        return "give --logs, --start and --end, or --rebuild"
    return range_problem(args)


def done_chunks(ordered: Sequence[Record], run_id: str) -> list[Record]:
    """What a killed run has ingested. A run that was published, taken back or found wanting begins anew: its logs may be others now."""
    own = [r for r in ordered if r.run_id == run_id]
    judged = [i for i, r in enumerate(own) if r.status in (PUBLISHED, UNDONE) or (r.job == check_tables.JOB and r.status == FAILED)]
    return [r for r in own[max(judged, default=-1) + 1 :] if r.job == ingest_events.JOB and r.status == DONE]


def range_run_id(args: argparse.Namespace) -> str:
    """The same range under the same settings is the same run: that is how a killed one is found again."""
    return args.run_id or f"{JOB}-{args.start}-{args.end}-{args.config.config_hash()}-{args.mapping.mapping_hash()}"


# ---- what would be done


def missing_texts(
    spark: SparkSession, warehouse: str, settings: Settings, logs_root: str, mapping: LogMapping, days: Sequence[date]
) -> DataFrame:
    """Distinct (text_key, text) of the days' records and item deliveries that the model has neither a vector nor a refusal for.

    As they come: what a mapping's `texts` would make of an event and its item is not made.
    """
    read = logs.read_days(spark, mapping.source, [logs.day_folder(logs_root, day) for day in days], logs_root)
    mapped = map_records(read, mapping).where("passed")
    texts = mapped.select("text").unionByName(mapped.select(F.col("title").alias("text")))
    if mapping.items is not None:
        delivered = [day for day in logs.day_folders(spark, f"{logs_root}/items") if day <= days[-1]]
        catalogue = ingest_events.read_catalogue(spark, logs_root, mapping.items, delivered, settings)
        texts = texts.unionByName(catalogue.where("is_usable").select(F.coalesce("text", "title").alias("text")))
    normal = texts.distinct().select(normal_form(settings.privacy)(F.col("text")).alias("text"))
    texts = normal.where("text IS NOT NULL").withColumn("text_key", F.sha2("text", 256))
    of_model = F.col("model_key") == embed_texts.model_key_of(settings.engine)
    known = [delta.read_table(spark, warehouse, table).where(of_model) for table in (text_embeddings.TABLE, rejected_texts.TABLE)]
    return embed_texts.missing_texts(texts, *known)


def measured_speeds(spark: SparkSession, warehouse: str) -> dict[str, float]:
    """Records, texts and events a second of the newest runs of ingest, embed and fold here, and what is usual where there is none."""
    seconds = F.aggregate(F.map_values("seconds"), F.lit(0.0), lambda total, s: total + s)
    counted = F.coalesce(F.col("counts")["read"], F.col("counts")["embedded"], F.col("counts")["events_folded"])
    is_measure = (F.col("status") == DONE) & (counted > 0) & (seconds > 0) & F.col("job").isin(*USUAL_SPEED)
    newest = runs_table(spark, warehouse).where(is_measure).groupBy("job").agg(F.max_by(counted / seconds, "ended"))
    return USUAL_SPEED | {row[0]: row[1] for row in newest.collect()}


def minutes(speeds: dict[str, float], records: int, texts: int, events: int) -> float:
    work = zip((ingest_events.JOB, embed_texts.JOB, fold_profiles.JOB), (records, texts, events), strict=True)
    return ALWAYS_MINUTES + sum(amount / speeds[job] for job, amount in work) / 60


def tell_range(spark: SparkSession, args: argparse.Namespace) -> None:
    """Says what a backfill would read, embed and write, and why."""
    warehouse, settings, days = args.warehouse, args.config, logs.days_between(args.start, args.end)
    folders = [logs.day_folder(args.logs, day) for day in days]
    files = [located(spark, file) for folder in folders for file in logs.data_files(spark, folder)]
    size = sum(fs.getFileStatus(path).getLen() for path, fs in files)
    done = done_chunks(records(spark, warehouse), range_run_id(args))
    count = logs.read_days(spark, args.mapping.source, folders, args.logs).count()
    missing = missing_texts(spark, warehouse, settings, args.logs, args.mapping, days)
    tokens = F.least(F.ceil(F.length("text") / LETTERS_A_TOKEN), F.lit(settings.engine.max_tokens))
    texts, tokens_missing = missing.agg(F.count("*"), F.coalesce(F.sum(tokens), F.lit(0))).collect()[0]
    window = timedelta(days=settings.fold.window_days)
    states = delta.read_table(spark, warehouse, profile_states.TABLE)
    near, later = states.agg(
        F.count_distinct(F.when(F.col("as_of_date").between(args.start - window, args.start - timedelta(days=1)), F.col("as_of_date"))),
        F.count_distinct(F.when(F.col("as_of_date") > args.end, F.col("as_of_date"))),
    ).collect()[0]
    replayed = delta.read_table(spark, warehouse, behavior_events.TABLE).where(F.col("event_date") > args.end).count() if later else 0
    say(f"read: {len(days)} days, {len(files)} files, {size / 1e6:,.1f} MB, {count:,} records")
    if done:
        say(f"  of them {sum((r.last - r.first).days + 1 for r in done)} days are ingested already, by a run that was stopped")
    say(f"embed: {texts:,} texts without a vector, about {tokens_missing:,} tokens")
    say(f"write: behavior_events, {len(days)} partitions of log_date: the events of the days")
    say(f"write: profile_states, up to {len(days)} partitions of as_of_date: the states of the days")
    if near:
        say(f"write: profile_states, up to {near} partitions before {args.start}: late events of the range repair the window")
    if later:
        say(f"write: profile_states, up to {later} partitions after {args.end}: users are replayed to the end, {replayed:,} events")
    say("write: user_profiles, the parts of the users whose latest state changes")
    say(f"expected: about {minutes(measured_speeds(spark, warehouse), count, texts, count + replayed):,.0f} minutes")


def tell_rebuild(spark: SparkSession, warehouse: str, settings: Settings, first: date, last: date) -> None:
    """Says which facets a rebuild would fold, and what it would write."""
    profiles = delta.read_table(spark, warehouse, user_profiles.TABLE)
    wanted, dropped = fold_ranges.stale_facets(spark, warehouse, settings, profiles)
    if not wanted and not dropped:
        say(f"nothing to rebuild: all facets of {first} to {last} were folded under these settings")
        return
    events = delta.read_table(spark, warehouse, behavior_events.TABLE).where(F.col("event_date").between(first, last)).count()
    say(f"fold: {', '.join(wanted) or 'nothing'}, from the {events:,} stored events of {first} to {last}")
    say(f"write: profile_states and user_profiles, facets {', '.join([*wanted, *dropped])}: a commit each; older versions stay readable")
    say(f"expected: about {minutes(measured_speeds(spark, warehouse), 0, 0, events if wanted else 0):,.0f} minutes")


# ---- doing it


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    published = publications(spark, args.warehouse)
    if args.rebuild:
        rebuild(spark, args, published)
        return
    refuse_holes(published, args.start, args.end, bootstrap=True, first_day=None)
    logs.require_closed(spark, args.logs, logs.days_between(args.start, args.end))
    if args.dry_run:
        fold_profiles.refuse_other_settings(spark, args.warehouse, args.config)
        tell_range(spark, args)
        return
    run_id = range_run_id(args)
    done = done_chunks(records(spark, args.warehouse), run_id)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.start, args.end, has_steps=True, reads=[args.logs]):
        fold_profiles.refuse_other_settings(spark, args.warehouse, args.config)
        ordered = records(spark, args.warehouse)
        refuse_unfinished(ordered, args.start, args.end)
        refuse_thinned(ordered, args.config, args.start)
        parts, began, events, ingested = chunks(args.start, args.end, args.config), time.monotonic(), 0, 0
        before = sum(len(days) for days in parts if is_done(days, done))
        if before:
            say(f"{JOB}: {before} days were ingested before the last stop")
        for days in parts:
            if not is_done(days, done):
                events += ingest_chunk(spark, args.warehouse, args.config, run_id, args.logs, args.mapping, days)["read"]
                ingested += len(days)
                total = sum(map(len, parts)) - before
                say(f"{JOB}: ingest {progress(ingested, total, events, time.monotonic() - began)}")
        finish_days(spark, args.warehouse, args.config, run_id, args.start, args.end, fold_ranges.fold_range)


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
        finish_days(spark, args.warehouse, args.config, run_id, first, last, fold_ranges.rebuild_days, whole_from=last)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, arguments_problem)


if __name__ == "__main__":
    sys.exit(main())
