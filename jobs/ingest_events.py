"""Turns log days into facts: events, item versions, and a quarantine for what can't be used.

Every record that is read gets one fate (stored, quarantined, duplicate, filtered, erased), and the fates are counted.

    python -m jobs.ingest_events --logs DIR --date D --warehouse URI [--mapping FILE]
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.io import damage, delta, logs
from jobs.io.runs import Run, new_run_id, recorded, records
from jobs.io.shell import JobError, Parser, iso_day, job_parser, one_sentence, run_main
from jobs.item_texts import item_candidates, item_versions, made_text, resolve_texts, to_events, with_item
from jobs.private_data import PLAIN, name_key, normal_form, require_same_key, scrubbed, user_key
from jobs.record_fates import DUPLICATE, FATES, QUARANTINED, STORED, decide_fates, field, identified, known_identities, to_quarantine
from schemas import behavior_events, erased_users, items, quarantined_events
from schemas.mapping import ITEM_FIELDS, ItemSource, LogMapping
from schemas.settings import PrivacySettings, Settings
from schemas.table import Table
from udfs.privacy import key_id

JOB = "ingest_events"
# Versions of items that are sent to every machine: some ten megabytes.
FEW_VERSIONS = 100_000


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help="the log day")
    return parser


def ingest_days(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, logs_root: str, mapping: LogMapping, days: Sequence[date]
) -> None:
    """Reads the closed log days, at most `most_days` in a row, and writes each of the three tables in one commit."""
    privacy = settings.privacy
    if len(days) > most_days(settings):
        raise ValueError(f"{len(days)} days are more than the look-back for doubles covers at a time")
    logs.require_closed(spark, logs_root, days)
    first, last = days[0], days[-1]
    folders = [logs.day_folder(logs_root, day) for day in days]
    erased = delta.read_table(spark, warehouse, erased_users.TABLE)
    key = user_key(privacy, is_needed=privacy.user_ids == "keyed" or not erased.isEmpty())
    keys_name = key_id(key) if key is not None and privacy.user_ids == "keyed" else PLAIN
    require_same_key(spark, warehouse, keys_name)
    with run.phase("look"):
        promised = damage.require_whole(spark, mapping.source.format, folders, settings.ingest.max_expansion)
    known = known_events(spark, warehouse, first, last, settings.fold.window_days)
    try:
        read = identified(logs.read_days(spark, mapping.source, folders, logs_root), erased, mapping, settings, key)
    except AnalysisException as error:
        raise JobError(f"the mapping does not fit the logs: {one_sentence(error)}") from error
    with run.phase("read"), damage.named():
        # Rows as they are, where persist would turn them into columns and back: a third of the whole ingest.
        fated = decide_fates(read.localCheckpoint(eager=False), known, compares_texts=not mapping.texts)
        found = fated.groupBy("log_date", "fate", "reason").count().collect()
        damage.require_promised(fated, promised, logs_root)
    run.counts |= count_fates(found)
    most = settings.ingest.max_bad_share if mapping.max_bad_share is None else mapping.max_bad_share
    refused = bad_day(found, most)
    is_again = was_ingested(spark, warehouse, run, first, last)
    stored = fated.where(F.col("fate") == STORED)
    with run.phase("write"):
        # Beside the items: a small commit is mostly waiting.
        with ThreadPoolExecutor(1) as pool:
            # Where the count found none, all records need not be looked through for them.
            unusable = to_quarantine(fated) if run.counts["quarantined"] else delta.no_rows(spark, quarantined_events.TABLE)
            beside = pool.submit(replace_days, spark, warehouse, quarantined_events.TABLE, unusable, first, last, is_again)
            versions = None
            if refused is None:
                versions = write_items(spark, warehouse, logs_root, mapping, privacy, stored, first, last, is_again)
            beside.result()
        if versions is None:
            raise JobError(f"{refused}; only quarantined_events was written")
        resolved = with_texts(with_item(stored, versions), mapping, privacy)
        name_key(spark, warehouse, keys_name)
        events = to_events(resolved, settings.store.user_buckets)
        replace_days(spark, warehouse, behavior_events.TABLE, events, first, last, is_again)


def with_texts(of_item: DataFrame, mapping: LogMapping, privacy: PrivacySettings) -> DataFrame:
    """The events with their text: what the mapping's texts make of them, else their own, else their item's."""
    if not mapping.texts:
        return resolve_texts(of_item)
    try:
        made = of_item.withColumn("made", made_text(mapping.texts))
    except AnalysisException as error:
        raise JobError(f"the mapping's texts do not fit: {one_sentence(error)}") from error
    made = made.withColumn("made", normal_form(privacy)(F.col("made")))
    return resolve_texts(made.withColumns({"text": F.coalesce("made", "text"), "text_key": F.coalesce(F.sha2("made", 256), "text_key")}))


def bad_day(found: Sequence[Row], most: float) -> str | None:
    """What is wrong with the first log day with too many unusable records, None where there is none. found: log_date, fate, count."""
    for day in sorted({row["log_date"] for row in found}):
        counts = count_fates([row for row in found if row["log_date"] == day])
        if counts["quarantined"] > most * counts["read"]:
            bad, read = counts["quarantined"], counts["read"]
            return f"{bad} of {read} records of {day} can't be used, more than max_bad_share allows ({most:g})"
    return None


def was_ingested(spark: SparkSession, warehouse: str, run: Run, first: date, last: date) -> bool:
    """Whether an ingest of one of the days was ever begun before this one."""
    others = [r for r in records(spark, warehouse) if r.job == JOB and (r.run_id, r.attempt) != (run.run_id, run.attempt)]
    return any(r.first <= last and first <= r.last for r in others)


def most_days(settings: Settings) -> int:
    """Days read at once: doubles are looked for just as far in one night, so that a chunk decides like the nights in it."""
    return settings.fold.window_days + 2


def known_events(spark: SparkSession, warehouse: str, first: date, last: date, window: int) -> DataFrame:
    """What identifies the stored events near the days but not of them; a double can't come from further off, or it is too late."""
    reach = timedelta(days=window + 1)
    log_date = F.col("log_date")
    near = log_date.between(first - reach, last + reach) & ~log_date.between(first, last)
    return known_identities(delta.read_table(spark, warehouse, behavior_events.TABLE).where(near))


def write_items(
    spark: SparkSession,
    warehouse: str,
    logs_root: str,
    mapping: LogMapping,
    privacy: PrivacySettings,
    stored: DataFrame,
    first: date,
    last: date,
    is_again: bool,
) -> DataFrame:
    """Writes the days' item versions; returns all versions up to the last day."""
    kept = delta.read_table(spark, warehouse, items.TABLE).where(F.col("valid_from") < first)
    candidates = item_candidates(stored).withColumn("text", F.col("title"))
    if mapping.items is not None:
        delivered = delivered_items(spark, logs_root, mapping.items, first, last, all_before=kept.isEmpty())
        # A catalogue knows its items better than the titles of events do.
        candidates = candidates.join(delivered, ["item_id", "log_date"], "left_anti").unionByName(delivered)
    shown = candidates.withColumns({"title": scrubbed(privacy)(F.col("title")), "text": normal_form(privacy)(F.col("text"))})
    fresh = item_versions(shown.withColumn("text_key", F.sha2("text", 256)), kept).persist()
    replace(spark, warehouse, items.TABLE, fresh, f"valid_from >= DATE'{first}' AND valid_from <= DATE'{last}'", is_again)
    versions = kept.unionByName(fresh)
    # Where they fit on every machine, the events need not be moved to meet them; Spark can't tell beforehand.
    fits = kept.limit(FEW_VERSIONS + 1).count() + fresh.count() <= FEW_VERSIONS
    return F.broadcast(versions) if fits else versions


def delivered_items(spark: SparkSession, logs_root: str, source: ItemSource, first: date, last: date, all_before: bool) -> DataFrame:
    """(item_id, log_date, title, attributes, text) of the item source; with `all_before`, earlier deliveries count as of the first day."""
    days = [day for day in logs.day_folders(spark, f"{logs_root}/items") if (all_before or first <= day) and day <= last]
    records = logs.read_days(spark, source.source, [logs.items_folder(logs_root, day) for day in days], logs_root)
    fields = {name: field(source.fields.get(name), type_) for name, type_ in ITEM_FIELDS.items()}
    named = records.select(F.col(logs.quoted(logs.LOG_DATE)).alias("delivered"), *[column.alias(name) for name, column in fields.items()])
    texts = named.where("item_id IS NOT NULL").withColumn("text", F.coalesce("text", "title"))
    # A file's order is no order: of several rows for an item in one delivery the greatest counts.
    last_row = F.max(F.struct("delivered", "title", "text", F.to_json("attributes").alias("attributes"))).alias("row")
    chosen = texts.groupBy("item_id", F.greatest("delivered", F.lit(first)).alias("log_date")).agg(last_row)
    attributes = F.from_json("row.attributes", ITEM_FIELDS["attributes"].simpleString()).alias("attributes")
    return chosen.select("item_id", "log_date", "row.title", attributes, "row.text")


def replace_days(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, first: date, last: date, is_again: bool) -> None:
    replace(spark, warehouse, table, rows, f"log_date >= DATE'{first}' AND log_date <= DATE'{last}'", is_again)


def replace(spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, predicate: str, is_again: bool) -> None:
    """Puts rows in the place of the stored ones; where they are the same rows already, no commit is made."""
    if is_again:
        stored = delta.read_table(spark, warehouse, table).where(predicate)
        if delta.table_exists(spark, warehouse, table) and delta.same_rows(stored, delta.conformed(rows, table), table.names):
            return
    delta.overwrite_where(spark, warehouse, table, rows, predicate)


def count_fates(found: Sequence[Row]) -> dict[str, int]:
    """Records by fate, and quarantined ones by reason; read = stored + quarantined + duplicate (law 2). found: fate, reason, count."""
    by_fate = {fate: sum(row["count"] for row in found if row["fate"] == fate) for fate in FATES}
    reasons: Counter[str] = Counter()
    for row in found:
        if row["fate"] == QUARANTINED:
            reasons[f"quarantined_{row['reason']}"] += row["count"]
    return {"read": sum(by_fate[fate] for fate in (STORED, QUARANTINED, DUPLICATE)), **by_fate, **dict(sorted(reasons.items()))}


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    logs.require_closed(spark, args.logs, [args.date])
    run_id, folder = args.run_id or new_run_id(JOB, args.date), logs.day_folder(args.logs, args.date)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.date, args.date, reads=[folder]) as record:
        ingest_days(spark, args.warehouse, args.config, record, args.logs, args.mapping, [args.date])


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
