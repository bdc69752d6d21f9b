"""What a backfill would do, and how long it would take."""

import argparse
from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.embed.days import JOB as EMBED
from jobs.embed.days import missing_texts
from jobs.fold import ranges
from jobs.fold.days import JOB as FOLD
from jobs.ingest.days import JOB as INGEST
from jobs.ingest.days import read_catalogue
from jobs.ingest.privacy import normal_form
from jobs.ingest.records import map_records
from jobs.io import delta, logs
from jobs.io.history import DONE, FAILED, PUBLISHED, UNDONE, Record
from jobs.io.messages import say
from jobs.io.model import model_key_of
from jobs.io.runs import records, runs_table
from jobs.io.storage import data_files, located
from jobs.night.checks import JOB as CHECK
from schemas import behavior_events, profile_states, rejected_texts, text_embeddings, user_profiles
from schemas.mapping import LogMapping
from schemas.settings import Settings

# Records, texts and events a second on two cores, for an estimate where the warehouse has measured none itself.
USUAL_SPEED = {INGEST: 15_000.0, EMBED: 350.0, FOLD: 40_000.0}
# What a run costs beside that: Java's start, plans, checks; minutes.
ALWAYS_MINUTES = 1.0
LETTERS_A_TOKEN = 4


def done_chunks(ordered: Sequence[Record], run_id: str) -> list[Record]:
    """What a killed run has ingested. A run that was published, taken back or found wanting begins anew: its logs may be others now."""
    own = [r for r in ordered if r.run_id == run_id]
    judged = [
        i
        for i, r in enumerate(own)
        if r.status in (PUBLISHED, UNDONE) or (r.job == CHECK and r.status == FAILED)
    ]
    return [r for r in own[max(judged, default=-1) + 1 :] if r.job == INGEST and r.status == DONE]


def range_run_id(args: argparse.Namespace) -> str:
    """The same range under the same settings is the same run: that is how a killed one is found again."""
    return (
        args.run_id
        or f"backfill_profiles-{args.start}-{args.end}-{args.config.config_hash()}-{args.mapping.mapping_hash()}"
    )


# ---- what would be done


def missing_in_logs(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    logs_root: str,
    mapping: LogMapping,
    days: Sequence[date],
) -> DataFrame:
    """Distinct (text_key, text) of the days' records and item deliveries that the model has neither a vector nor a refusal for.

    As they come: what a mapping's `texts` would make of an event and its item is not made.
    """
    read = logs.read_days(spark, mapping.source, [logs.day_folder(logs_root, day) for day in days], logs_root)
    mapped = map_records(read, mapping).where("passed")
    texts = mapped.select("text").unionByName(mapped.select(F.col("title").alias("text")))
    if mapping.items is not None:
        delivered = [day for day in logs.day_folders(spark, f"{logs_root}/items") if day <= days[-1]]
        catalogue = read_catalogue(spark, logs_root, mapping.items, delivered, settings)
        texts = texts.unionByName(
            catalogue.where("is_usable").select(F.coalesce("text", "title").alias("text"))
        )
    normal = texts.distinct().select(normal_form(settings.privacy)(F.col("text")).alias("text"))
    texts = normal.where("text IS NOT NULL").withColumn("text_key", F.sha2("text", 256))
    of_model = F.col("model_key") == model_key_of(settings.engine)
    known = [
        delta.read_table(spark, warehouse, table).where(of_model)
        for table in (text_embeddings.TABLE, rejected_texts.TABLE)
    ]
    return missing_texts(texts, *known)


def measured_speeds(spark: SparkSession, warehouse: str) -> dict[str, float]:
    """Records, texts and events a second of the newest runs of ingest, embed and fold here, and what is usual where there is none."""
    seconds = F.aggregate(F.map_values("seconds"), F.lit(0.0), lambda total, s: total + s)
    counted = F.coalesce(
        F.col("counts")["read"], F.col("counts")["embedded"], F.col("counts")["events_folded"]
    )
    is_measure = (F.col("status") == DONE) & (counted > 0) & (seconds > 0) & F.col("job").isin(*USUAL_SPEED)
    newest = (
        runs_table(spark, warehouse)
        .where(is_measure)
        .groupBy("job")
        .agg(F.max_by(counted / seconds, "ended"))
    )
    return USUAL_SPEED | {row[0]: row[1] for row in newest.collect()}


def minutes(speeds: dict[str, float], records: int, texts: int, events: int) -> float:
    work = zip((INGEST, EMBED, FOLD), (records, texts, events), strict=True)
    return ALWAYS_MINUTES + sum(amount / speeds[job] for job, amount in work) / 60


def tell_range(spark: SparkSession, args: argparse.Namespace) -> None:
    """Says what a backfill would read, embed and write, and why."""
    warehouse, settings, days = args.warehouse, args.config, logs.days_between(args.start, args.end)
    folders = [logs.day_folder(args.logs, day) for day in days]
    files = [located(spark, file) for folder in folders for file in data_files(spark, folder)]
    size = sum(fs.getFileStatus(path).getLen() for path, fs in files)
    done = done_chunks(records(spark, warehouse), range_run_id(args))
    count = logs.read_days(spark, args.mapping.source, folders, args.logs).count()
    missing = missing_in_logs(spark, warehouse, settings, args.logs, args.mapping, days)
    tokens = F.least(F.ceil(F.length("text") / LETTERS_A_TOKEN), F.lit(settings.engine.max_tokens))
    texts, tokens_missing = missing.agg(F.count("*"), F.coalesce(F.sum(tokens), F.lit(0))).collect()[0]
    window = timedelta(days=settings.fold.window_days)
    states = delta.read_table(spark, warehouse, profile_states.TABLE)
    near, later = states.agg(
        F.count_distinct(
            F.when(
                F.col("as_of_date").between(args.start - window, args.start - timedelta(days=1)),
                F.col("as_of_date"),
            )
        ),
        F.count_distinct(F.when(F.col("as_of_date") > args.end, F.col("as_of_date"))),
    ).collect()[0]
    replayed = (
        delta.read_table(spark, warehouse, behavior_events.TABLE)
        .where(F.col("event_date") > args.end)
        .count()
        if later
        else 0
    )
    say(f"read: {len(days)} days, {len(files)} files, {size / 1e6:,.1f} MB, {count:,} records")
    if done:
        say(
            f"  of them {sum((r.last - r.first).days + 1 for r in done)} days are ingested already, by a run that was stopped"
        )
    say(f"embed: {texts:,} texts without a vector, about {tokens_missing:,} tokens")
    say(f"write: behavior_events, {len(days)} partitions of log_date: the events of the days")
    say(f"write: profile_states, up to {len(days)} partitions of as_of_date: the states of the days")
    if near:
        say(
            f"write: profile_states, up to {near} partitions before {args.start}: late events of the range repair the window"
        )
    if later:
        say(
            f"write: profile_states, up to {later} partitions after {args.end}: users are replayed to the end, {replayed:,} events"
        )
    say("write: user_profiles, the parts of the users whose latest state changes")
    say(
        f"expected: about {minutes(measured_speeds(spark, warehouse), count, texts, count + replayed):,.0f} minutes"
    )


def tell_rebuild(spark: SparkSession, warehouse: str, settings: Settings, first: date, last: date) -> None:
    """Says which facets a rebuild would fold, and what it would write."""
    profiles = delta.read_table(spark, warehouse, user_profiles.TABLE)
    wanted, dropped = ranges.stale_facets(spark, warehouse, settings, profiles)
    if not wanted and not dropped:
        say(f"nothing to rebuild: all facets of {first} to {last} were folded under these settings")
        return
    events = (
        delta.read_table(spark, warehouse, behavior_events.TABLE)
        .where(F.col("event_date").between(first, last))
        .count()
    )
    say(f"fold: {', '.join(wanted) or 'nothing'}, from the {events:,} stored events of {first} to {last}")
    say(
        f"write: profile_states and user_profiles, facets {', '.join([*wanted, *dropped])}: a commit each; older versions stay readable"
    )
    say(
        f"expected: about {minutes(measured_speeds(spark, warehouse), 0, 0, events if wanted else 0):,.0f} minutes"
    )
