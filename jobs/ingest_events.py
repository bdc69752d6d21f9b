"""Turns log days into facts: events, item versions, and a quarantine for what can't be used.

Every record that is read gets one fate (stored, quarantined, duplicate, filtered), and the fates are counted. A record's
identity is the log's own event id, or a hash of its mapped content and its ordinal among equal records of its file; so a file
delivered again adds nothing, while two equal purchases in one file both count.

    python -m jobs.ingest_events --logs DIR --date D --warehouse URI [--mapping FILE]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from functools import reduce

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io import delta, logs
from jobs.io.runs import Run, new_run_id, recorded, records
from jobs.io.shell import JobError, Parser, iso_day, job_parser, one_sentence, run_main
from schemas import behavior_events, items, quarantined_events
from schemas.mapping import EVENT_FIELDS, ITEM_FIELDS, ItemSource, LogMapping
from schemas.settings import Settings
from schemas.table import Table
from udfs.text import normalise_column

JOB = "ingest_events"
RAW_LIMIT = 2000
# What two records of one event id must agree in. The text is compared apart: a stored one may come from the item.
PAYLOAD = [name for name in EVENT_FIELDS if name not in ("event_id", "title", "text", "attributes")]
STORED, QUARANTINED, DUPLICATE, FILTERED = "stored", "quarantined", "duplicate", "filtered"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


# ---- pure: records to fates


def map_records(records: DataFrame, mapping: LogMapping) -> DataFrame:
    """Adds every event field by the mapping's expressions, and whether the filter passes the record over."""
    fields = {name: _field(mapping.fields.get(name), type_) for name, type_ in EVENT_FIELDS.items()}
    if mapping.zone is not None:
        fields["utc_offset_min"] = _offset_minutes(fields["event_ts"], mapping.zone)
        fields["event_ts"] = F.to_utc_timestamp(fields["event_ts"], mapping.zone)
    # A retraction says nothing of its own: it takes its target away, and has no text.
    fields["text"] = F.when(fields["event_type"] != "retract", fields["text"])
    scale = mapping.rating_max - mapping.rating_min
    fields["rating"] = (fields["rating"] - F.lit(mapping.rating_min)) / F.lit(scale)
    passed = F.coalesce(F.expr(mapping.filter), F.lit(False)) if mapping.filter is not None else F.lit(True)
    return records.select(
        *[F.col(name) for name in (logs.LOG_DATE, logs.SOURCE_FILE, logs.UNREADABLE)],
        F.to_json(
            F.struct(*[F.col(f"`{c}`") for c in records.columns if c not in (logs.LOG_DATE, logs.SOURCE_FILE, logs.UNREADABLE)])
        ).alias("record"),
        (passed | F.col(f"`{logs.UNREADABLE}`").isNotNull()).alias("passed"),
        *[column.alias(name) for name, column in fields.items()],
    ).withColumnsRenamed({logs.LOG_DATE: "log_date", logs.SOURCE_FILE: "source_file", logs.UNREADABLE: "unreadable"})


def _field(expression: str | None, type_: T.DataType) -> Column:
    return (F.lit(None) if expression is None else F.expr(expression)).cast(type_)


def _offset_minutes(local: Column, zone: str) -> Column:
    """Local time less UTC: `local` reads as if the local clock showed UTC."""
    return ((F.unix_seconds(local) - F.unix_seconds(F.to_utc_timestamp(local, zone))) / 60).cast("int")


def find_reasons(mapped: DataFrame, window_days: int) -> DataFrame:
    """Adds event_date and, for a record that can't be an event, the first reason why, with a sentence."""
    late = F.date_diff("log_date", "event_date")
    is_retraction = F.col("event_type") == "retract"
    rules: list[tuple[Column, str, str]] = [
        (F.col("unreadable").isNotNull(), "unreadable", "the record can't be parsed"),
        (F.coalesce(F.trim("user_id"), F.lit("")) == "", "missing_user", "it has no user"),
        (F.col("event_ts").isNull(), "bad_time", "its time is missing or can't be read"),
        (late < -1, "future", "it happened more than a day after its log day"),
        (late > window_days, "too_late", f"it came more than {window_days} days late"),
        (F.coalesce(F.trim("event_type"), F.lit("")) == "", "missing_type", "it has no event type"),
        (is_retraction & F.col("retracts_event_id").isNull(), "no_target", "it is a retraction without retracts_event_id"),
        (~is_retraction & F.col("text").isNull() & F.col("item_id").isNull(), "no_text_no_item", "it has neither text nor item"),
        (F.isnan("rating") | ~F.col("rating").between(0, 1), "bad_rating", "its rating is outside rating_min..rating_max"),
    ]
    reason = reduce(lambda otherwise, rule: F.when(rule[0], rule[1]).otherwise(otherwise), reversed(rules), F.lit(None).cast("string"))
    dated = mapped.withColumn("event_date", F.to_date("event_ts"))
    return dated.withColumn("reason", F.when(F.col("passed"), reason)).withColumn(
        "message",
        reduce(lambda otherwise, rule: F.when(F.col("reason") == rule[1], rule[2]).otherwise(otherwise), rules, F.lit(None).cast("string")),
    )


def identify(reasoned: DataFrame) -> DataFrame:
    """Adds record_hash, ordinal (among equal records of the file, from 0), the payload's hash and the event id."""
    raw = F.coalesce("unreadable", "record")
    hashed = reasoned.withColumns(
        {
            "raw": F.when(F.col("reason").isNotNull(), F.substring(raw, 1, RAW_LIMIT)),
            "record_hash": F.sha2(raw, 256),
            "payload": payload_hash(),
            "content": F.sha2(F.to_json(F.struct(*[_ordered(name) for name in EVENT_FIELDS if name != "event_id"])), 256),
        }
    ).drop("unreadable")
    same = F.when(F.col("reason").isNotNull(), F.col("record_hash")).otherwise(F.coalesce("event_id", "content"))
    place = Window.partitionBy("source_file", "same").orderBy("content")
    numbered = hashed.withColumn("same", same).withColumn("ordinal", F.row_number().over(place) - 1)
    derived = F.sha2(F.concat_ws("#", "content", "ordinal"), 256)
    return numbered.withColumn("event_id", F.coalesce("event_id", derived)).drop("same", "content")


def payload_hash() -> Column:
    return F.sha2(F.to_json(F.struct(*[_ordered(name) for name in PAYLOAD])), 256)


def _ordered(name: str) -> Column:
    """A field in a form that says the same whatever the order of a map's entries."""
    if isinstance(EVENT_FIELDS[name], T.MapType):
        return F.array_sort(F.map_entries(name)).alias(name)
    return F.col(name)


def normalise_texts(records: DataFrame) -> DataFrame:
    """Replaces text and title by text, text_key, title_text and title_key in their normal form (udfs/text.py)."""
    schema = T.StructType(
        [field for field in records.schema.fields if field.name != "text"]
        + [T.StructField(name, T.StringType()) for name in ("text", "text_key", "title_text", "title_key")]
    )

    def normalised(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        names = schema.names
        for batch in batches:
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns["text"], columns["text_key"] = normalise_column(columns["text"])
            columns["title_text"], columns["title_key"] = normalise_column(columns["title"])
            yield pa.RecordBatch.from_arrays([columns[name] for name in names], names)

    return records.mapInArrow(normalised, schema)


def decide_fates(identified: DataFrame, known: DataFrame) -> DataFrame:
    """Adds the fate of every record: of equal ids the first by (log_date, source_file, ordinal) is stored.

    `known` holds event_id, payload and text_key of the events stored on other days near by.
    """
    is_candidate = F.col("passed") & F.col("reason").isNull()
    order = Window.partitionBy("event_id").orderBy(F.col("candidate").desc(), "log_date", "source_file", "ordinal")
    first = {name: F.first(name).over(order) for name in ("payload", "text_key")}
    joined = identified.withColumn("candidate", is_candidate).join(
        known.select("event_id", F.col("payload").alias("known_payload"), F.col("text_key").alias("known_text_key")), "event_id", "left"
    )
    placed = joined.withColumns({"nth": F.row_number().over(order), "first_payload": first["payload"], "first_text_key": first["text_key"]})
    is_known = F.col("known_payload").isNotNull()
    payload = F.coalesce("known_payload", "first_payload")
    other_text = F.when(is_known, F.col("known_text_key")).otherwise(F.col("first_text_key"))
    # A record without text of its own can't contradict one: a stored text may be the item's.
    differs = (F.col("payload") != payload) | (F.col("text_key").isNotNull() & ~F.col("text_key").eqNullSafe(other_text))
    repeats = F.col("candidate") & (is_known | (F.col("nth") > 1))
    conflict = repeats & differs
    fate = (
        F.when(~F.col("passed"), FILTERED)
        .when(F.col("reason").isNotNull() | conflict, QUARANTINED)
        .when(repeats, DUPLICATE)
        .otherwise(STORED)
    )
    return (
        placed.withColumn("fate", fate)
        .withColumn("reason", F.when(conflict, "conflicting_id").otherwise(F.col("reason")))
        .withColumn("message", F.when(conflict, "another record has its event id, and other content").otherwise(F.col("message")))
        .withColumn("raw", F.when(conflict, F.substring("record", 1, RAW_LIMIT)).otherwise(F.col("raw")))
        .drop("nth", "candidate", "payload", "first_payload", "first_text_key", "known_payload", "known_text_key", "record", "passed")
    )


# ---- pure: items, and the text of events


def item_candidates(stored: DataFrame) -> DataFrame:
    """What each item was called on each log day: the last title by (event_ts, event_id)."""
    last = F.max_by(F.struct("title", "title_text", "title_key", "attributes"), F.struct("event_ts", "event_id"))
    titled = stored.where("item_id IS NOT NULL AND title_text IS NOT NULL")
    return (
        titled.groupBy("item_id", "log_date")
        .agg(last.alias("last"))
        .select(
            "item_id",
            "log_date",
            "last.title",
            F.col("last.title_text").alias("text"),
            F.col("last.title_key").alias("text_key"),
            "last.attributes",
        )
    )


def item_versions(candidates: DataFrame, before: DataFrame) -> DataFrame:
    """A row of the items table for each candidate that differs from the version before it.

    `before` holds the versions already in force: all with a valid_from before the first candidate's day.
    """
    shown = ["title", "text", "text_key", "attributes"]
    last = before.groupBy("item_id", "first_seen_date").agg(F.max_by(F.struct("valid_from", *shown), "valid_from").alias("v"))
    old = last.select("item_id", "first_seen_date", F.lit(None).cast("date").alias("log_date"), *[f"v.{name}" for name in shown])
    new = candidates.select("item_id", F.lit(None).cast("date").alias("first_seen_date"), "log_date", *shown)
    in_time = Window.partitionBy("item_id").orderBy(F.col("log_date").asc_nulls_first())
    face = F.to_json(F.struct("title", "text_key", F.array_sort(F.map_entries("attributes")).alias("attributes")))
    changed = old.unionByName(new).withColumn("face", face).withColumn("changed", ~F.lag("face").over(in_time).eqNullSafe(F.col("face")))
    first_seen = F.first(F.coalesce("first_seen_date", "log_date")).over(in_time)
    dated = changed.withColumn("first_seen", first_seen).where("changed AND log_date IS NOT NULL")
    return dated.select("item_id", *shown, F.col("first_seen").alias("first_seen_date"), F.col("log_date").alias("valid_from"))


def resolve_texts(stored: DataFrame, versions: DataFrame) -> DataFrame:
    """Gives each event its own text, else that of its item's version valid on its log date."""
    in_time = Window.partitionBy("item_id").orderBy("valid_from")
    ranges = versions.select(
        "item_id",
        F.col("text").alias("item_text"),
        F.col("text_key").alias("item_text_key"),
        "valid_from",
        F.lead("valid_from").over(in_time).alias("valid_to"),
    ).alias("v")
    events = stored.alias("e")
    valid = (
        (F.col("e.item_id") == F.col("v.item_id"))
        & (F.col("e.log_date") >= F.col("v.valid_from"))
        & (F.col("v.valid_to").isNull() | (F.col("e.log_date") < F.col("v.valid_to")))
    )
    joined = events.join(ranges, valid, "left").select("e.*", "v.item_text", "v.item_text_key")
    wants_text = F.col("event_type") != "retract"
    return joined.withColumns(
        {
            "text": F.coalesce("text", F.when(wants_text, F.col("item_text"))),
            "text_key": F.coalesce("text_key", F.when(wants_text, F.col("item_text_key"))),
        }
    )


def to_events(resolved: DataFrame, user_buckets: int) -> DataFrame:
    bucket = F.pmod(F.xxhash64("user_id"), F.lit(user_buckets)).cast("int")
    return resolved.withColumn("user_bucket", bucket).select(*behavior_events.TABLE.names)


def to_quarantine(fated: DataFrame) -> DataFrame:
    rows = fated.where(F.col("fate") == QUARANTINED).withColumn("line", F.lit(None).cast("int"))
    return rows.select(*quarantined_events.TABLE.names)


# ---- the edges


def ingest_days(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, logs_root: str, mapping: LogMapping, days: Sequence[date]
) -> None:
    """Reads the closed log days, at most `most_days` in a row, and writes each of the three tables in one commit."""
    window = settings.fold.window_days
    if len(days) > most_days(settings):
        raise ValueError(f"{len(days)} days are more than the look-back for doubles covers at a time")
    logs.require_closed(spark, logs_root, days)
    first, last = days[0], days[-1]
    try:
        records = logs.read_days(spark, mapping.source, [logs.day_folder(logs_root, day) for day in days], logs_root)
        mapped = map_records(records, mapping)
    except AnalysisException as error:
        raise JobError(f"the mapping does not fit the logs: {one_sentence(error)}") from error
    identified = normalise_texts(identify(find_reasons(mapped, window)))
    fated = decide_fates(identified, known_events(spark, warehouse, first, last, window)).persist()
    try:
        with run.phase("read"):
            run.counts |= count_fates(fated)
        stored = fated.where(F.col("fate") == STORED)
        with run.phase("write"):
            is_again = was_ingested(spark, warehouse, run, first, last)
            # Beside the items: a small commit is mostly waiting.
            with ThreadPoolExecutor(1) as pool:
                beside = pool.submit(replace_days, spark, warehouse, quarantined_events.TABLE, to_quarantine(fated), first, last, is_again)
                versions = write_items(spark, warehouse, logs_root, mapping, stored, first, last, is_again)
                beside.result()
            events = to_events(resolve_texts(stored, versions), settings.store.user_buckets)
            replace_days(spark, warehouse, behavior_events.TABLE, events, first, last, is_again)
    finally:
        fated.unpersist()


def was_ingested(spark: SparkSession, warehouse: str, run: Run, first: date, last: date) -> bool:
    """Whether an ingest of one of the days was ever begun before this one."""
    others = [r for r in records(spark, warehouse) if r.job == JOB and (r.run_id, r.attempt) != (run.run_id, run.attempt)]
    return any(r.first <= last and first <= r.last for r in others)


def most_days(settings: Settings) -> int:
    """Days read at once: doubles are looked for just as far in one night, so that a chunk decides like the nights in it."""
    return settings.fold.window_days + 2


def known_events(spark: SparkSession, warehouse: str, first: date, last: date, window: int) -> DataFrame:
    """Ids and payloads of stored events near the days but not of them; a double can't come from further off, or it is too late."""
    reach = timedelta(days=window + 1)
    log_date = F.col("log_date")
    near = log_date.between(first - reach, last + reach) & ~log_date.between(first, last)
    return (
        delta.read_table(spark, warehouse, behavior_events.TABLE)
        .where(near)
        .select("event_id", payload_hash().alias("payload"), "text_key")
    )


def write_items(
    spark: SparkSession, warehouse: str, logs_root: str, mapping: LogMapping, stored: DataFrame, first: date, last: date, is_again: bool
) -> DataFrame:
    """Writes the days' item versions; returns all versions up to the last day."""
    kept = delta.read_table(spark, warehouse, items.TABLE).where(F.col("valid_from") < first)
    candidates = item_candidates(stored)
    if mapping.items is not None:
        delivered = delivered_items(spark, logs_root, mapping.items, first, last, all_before=kept.isEmpty())
        # A catalogue knows its items better than the titles of events do.
        candidates = candidates.join(delivered, ["item_id", "log_date"], "left_anti").unionByName(delivered)
    fresh = item_versions(candidates, kept).persist()
    replace(spark, warehouse, items.TABLE, fresh, f"valid_from >= DATE'{first}' AND valid_from <= DATE'{last}'", is_again)
    return kept.unionByName(fresh)


def delivered_items(spark: SparkSession, logs_root: str, source: ItemSource, first: date, last: date, all_before: bool) -> DataFrame:
    """Rows of the item source as candidates; with `all_before`, deliveries before the first day count as of that day."""
    days = [day for day in logs.day_folders(spark, f"{logs_root}/items") if (all_before or first <= day) and day <= last]
    records = logs.read_days(spark, source.source, [logs.items_folder(logs_root, day) for day in days], logs_root)
    fields = {name: _field(source.fields.get(name), type_) for name, type_ in ITEM_FIELDS.items()}
    named = records.select(F.col(f"`{logs.LOG_DATE}`").alias("delivered"), *[column.alias(name) for name, column in fields.items()])
    texts = normalise_texts(named.where("item_id IS NOT NULL").withColumn("text", F.coalesce("text", "title")))
    # A file's order is no order: of several rows for an item in one delivery the greatest counts.
    last_row = F.max(F.struct("delivered", "title", "text", "text_key", F.to_json("attributes").alias("attributes"))).alias("row")
    chosen = texts.groupBy("item_id", F.greatest("delivered", F.lit(first)).alias("log_date")).agg(last_row)
    attributes = F.from_json("row.attributes", ITEM_FIELDS["attributes"].simpleString()).alias("attributes")
    return chosen.select("item_id", "log_date", "row.title", "row.text", "row.text_key", attributes)


def replace_days(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, first: date, last: date, is_again: bool) -> None:
    replace(spark, warehouse, table, rows, f"log_date >= DATE'{first}' AND log_date <= DATE'{last}'", is_again)


def replace(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, predicate: str, is_again: bool) -> None:
    """Puts rows in the place of the stored ones; where they are the same rows already, no commit is made."""
    if is_again:
        stored = delta.read_table(spark, warehouse, table).where(predicate)
        if delta.table_exists(spark, warehouse, table) and delta.same_rows(stored, delta.conformed(rows, table), table.names):
            return
    delta.overwrite_where(spark, warehouse, table, rows, predicate)


def count_fates(fated: DataFrame) -> dict[str, int]:
    """Records by fate, and quarantined ones by reason; read = stored + quarantined + duplicate (law 2)."""
    found = {(r["fate"], r["reason"]): r["count"] for r in fated.groupBy("fate", "reason").count().collect()}
    by_fate = {fate: sum(n for (f, _), n in found.items() if f == fate) for fate in (STORED, QUARANTINED, DUPLICATE, FILTERED)}
    counts = {"read": sum(by_fate.values()) - by_fate[FILTERED], **by_fate}
    return counts | {f"quarantined_{reason}": n for (fate, reason), n in sorted(found.items(), key=str) if fate == QUARANTINED}


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    logs.require_closed(spark, args.logs, [args.date])
    run_id, folder = args.run_id or new_run_id(JOB, args.date), logs.day_folder(args.logs, args.date)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.date, args.date, reads=[folder]) as record:
        ingest_days(spark, args.warehouse, args.config, record, args.logs, args.mapping, [args.date])


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
