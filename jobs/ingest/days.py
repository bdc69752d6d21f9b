"""Reads log days and writes events, items and quarantine."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.ingest import damage
from jobs.ingest.fates import (
    DUPLICATE,
    FATES,
    QUARANTINED,
    STORED,
    compared_hashes,
    decide_fates,
    identified,
    known_identities,
    to_quarantine,
)
from jobs.ingest.items import (
    catalogue_rows,
    delivered_items,
    item_candidates,
    item_versions,
    made_text,
    outdated,
    renamed,
    resolve_texts,
    to_events,
    with_item,
)
from jobs.ingest.privacy import (
    PLAIN,
    hide_record,
    name_key,
    normal_form,
    require_same_key,
    scrubbed,
    user_key,
)
from jobs.ingest.records import misfit
from jobs.io import delta, logs
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.runs import Run, records
from schemas import behavior_events, erased_users, items, quarantined_events
from schemas.mapping import ItemSource, LogMapping
from schemas.settings import PrivacySettings, Settings
from schemas.table import Table
from udfs.privacy import key_id

JOB = "ingest_events"

# Versions of items that are sent to every machine: some ten megabytes.
FEW_VERSIONS = 100_000


def ingest_days(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run: Run,
    logs_root: str,
    mapping: LogMapping,
    days: Sequence[date],
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
    before = delta.read_table(spark, warehouse, items.TABLE)
    kept = before.where(F.col("valid_from") < first)
    with run.phase("look"):
        promised = damage.require_whole(spark, mapping.source.format, folders, settings.ingest.max_expansion)
        catalogue = None
        if mapping.items is not None:
            delivered = [day for day in logs.day_folders(spark, f"{logs_root}/items") if day <= last]
            # Before the first event, whatever was delivered is in force.
            delivered = delivered if kept.isEmpty() else [day for day in delivered if first <= day]
            catalogue = read_catalogue(spark, logs_root, mapping.items, delivered, settings)
    known = known_events(spark, warehouse, first, last, settings.fold.window_days)
    with damage.named():
        read = logs.read_days(spark, mapping.source, folders, logs_root)
    try:
        read = identified(read, erased, mapping, settings, key)
    except AnalysisException as error:
        raise JobError(
            f"the mapping does not fit the logs: {misfit(read, mapping)}{one_sentence(error)}"
        ) from error
    with run.phase("read"), damage.named():
        # Rows as they are, where persist would turn them into columns and back: a third of the whole ingest.
        normal = normal_form(privacy)
        fated = decide_fates(
            read.localCheckpoint(eager=False), known, compares_texts=not mapping.texts, normal=normal
        )
        found = fated.groupBy("log_date", "fate", "reason").count().collect()
        damage.require_promised(fated, promised, logs_root)
        of_items = {} if catalogue is None else count_catalogue(catalogue)
    if mapping.texts:
        # What does not fit is to be found before anything is written.
        with_texts(with_item(fated, delta.no_rows(spark, items.TABLE)), mapping, privacy)
    run.counts |= count_fates(found) | of_items
    most = settings.ingest.max_bad_share if mapping.max_bad_share is None else mapping.max_bad_share
    refused = bad_day(found, most)
    others = [
        r
        for r in records(spark, warehouse)
        if r.job == JOB and (r.run_id, r.attempt) != (run.run_id, run.attempt)
    ]
    # Whether an ingest of one of the days was ever begun before this one, and up to which day later ones were.
    is_again = any(r.first <= last and first <= r.last for r in others)
    newest = max((r.last for r in others if r.last > last), default=None)
    stored = fated.where(F.col("fate") == STORED)
    with run.phase("write"):
        # Beside the items: a small commit is mostly waiting.
        with ThreadPoolExecutor(1) as pool:
            # Where the count found none, all records need not be looked through for them.
            hidden = to_quarantine(fated, lambda rejected: hide_record(rejected, privacy, key))
            unusable = hidden if run.counts["quarantined"] else delta.no_rows(spark, quarantined_events.TABLE)
            beside = pool.submit(
                replace_days, spark, warehouse, quarantined_events.TABLE, unusable, first, last, is_again
            )
            versions = None
            if refused is None:
                versions = write_items(
                    spark, warehouse, kept, catalogue, privacy, stored, first, last, is_again
                )
            beside.result()
        if versions is None:
            raise JobError(f"{refused}; only quarantined_events was written")
        if newest is not None:
            # Told before the events are written: an ingest that is killed there finds the items changed already when it is run again.
            changed = renamed(before, versions, first, last).localCheckpoint(eager=False)
            run.counts["stale_texts"] = tell_outdated(
                spark, warehouse, changed, first, last, are_made=bool(mapping.texts)
            )
        resolved = with_texts(with_item(stored, versions), mapping, privacy)
        name_key(spark, warehouse, keys_name)
        events = to_events(resolved, settings.store.user_buckets)
        if is_again and newest is not None:
            run.counts["withdrawn"] = withdrawn(spark, warehouse, events, first, last)
        replace_days(spark, warehouse, behavior_events.TABLE, events, first, last, is_again)
    if gone := run.counts.get("withdrawn"):
        say(
            f"{JOB}: {gone} events that {first}..{last} held before are gone or changed; the days up to {newest} may repeat them, or "
            "tell of their items: ingest those days again"
        )


def withdrawn(spark: SparkSession, warehouse: str, events: DataFrame, first: date, last: date) -> int:
    """How many stored events of the days are not among those that take their place, or with other content or text."""
    stored = delta.read_table(spark, warehouse, behavior_events.TABLE).where(
        F.col("log_date").between(first, last)
    )
    old, new = (
        rows.select("event_id", *[column.alias(name) for name, column in compared_hashes().items()])
        for rows in (stored, events)
    )
    same = [old[name].eqNullSafe(new[name]) for name in old.columns]
    return old.join(new, same, "left_anti").count()


def tell_outdated(
    spark: SparkSession, warehouse: str, changed: DataFrame, first: date, last: date, are_made: bool
) -> int:
    """How many stored events of later days would have another text now; says which days to ingest again. changed: held."""
    # An older day that is run again mostly calls nothing otherwise; later days are not read for it then.
    if changed.isEmpty():
        return 0
    later = delta.read_table(spark, warehouse, behavior_events.TABLE).where(F.col("log_date") > last)
    count, until = outdated(later, changed, are_made).agg(F.count("*"), F.max("log_date")).collect()[0]
    if count:
        # From the next day on: one between may name an item as the day before it did, of which the items have no line.
        say(
            f"{JOB}: {count} events of later days would have another text, by what {first}..{last} calls their items: "
            f"ingest {last + timedelta(days=1)}..{until} again, in order"
        )
    return int(count)


def with_texts(of_item: DataFrame, mapping: LogMapping, privacy: PrivacySettings) -> DataFrame:
    """The events with their text: what the mapping's texts make of them, else their own, else their item's."""
    if not mapping.texts:
        return resolve_texts(of_item)
    try:
        made = of_item.withColumn("made", made_text(mapping.texts))
    except AnalysisException as error:
        raise JobError(f"the mapping's texts do not fit: {one_sentence(error)}") from error
    made = made.withColumn("made", normal_form(privacy)(F.col("made")))
    return resolve_texts(
        made.withColumns(
            {"text": F.coalesce("made", "text"), "text_key": F.coalesce(F.sha2("made", 256), "text_key")}
        )
    )


def bad_day(found: Sequence[Row], most: float) -> str | None:
    """What is wrong with the first log day with too many unusable records, or None. found: log_date, fate, reason, count."""
    for day in sorted({row["log_date"] for row in found}):
        counts = count_fates([row for row in found if row["log_date"] == day])
        if counts["quarantined"] > most * counts["read"]:
            bad, read = counts["quarantined"], counts["read"]
            reasons = Counter(
                {
                    row["reason"]: row["count"]
                    for row in found
                    if row["log_date"] == day and row["fate"] == QUARANTINED
                }
            )
            told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
            return f"{bad} of {read} records of {day} can't be used ({told}), more than max_bad_share allows ({most:g})"
    return None


def most_days(settings: Settings) -> int:
    """Days read at once: doubles are looked for just as far in one night, so that a chunk decides like the nights in it."""
    return settings.fold.window_days + 2


def known_events(spark: SparkSession, warehouse: str, first: date, last: date, window: int) -> DataFrame:
    """What identifies the stored events near the days but not of them; a double can't come from further off, or it is too late."""
    reach = timedelta(days=window + 1)
    log_date = F.col("log_date")
    near = log_date.between(first - reach, last + reach) & ~log_date.between(first, last)
    return known_identities(delta.read_table(spark, warehouse, behavior_events.TABLE).where(near))


def read_catalogue(
    spark: SparkSession, logs_root: str, source: ItemSource, days: Sequence[date], settings: Settings
) -> DataFrame:
    """The rows of the days' item catalogues, held, with is_usable; damage, and a source that does not fit, stop here."""
    folders = [logs.items_folder(logs_root, day) for day in days]
    damage.require_whole(spark, source.source.format, folders, settings.ingest.max_expansion)
    try:
        rows = catalogue_rows(
            logs.read_days(spark, source.source, folders, logs_root), source, settings.ingest
        )
    except AnalysisException as error:
        raise JobError(f"the mapping's items do not fit the catalogue: {one_sentence(error)}") from error
    return rows.localCheckpoint(eager=False)


def count_catalogue(catalogue: DataFrame) -> dict[str, int]:
    """Rows read, and rows of no use."""
    read, usable = catalogue.agg(F.count("*"), F.count_if("is_usable")).collect()[0]
    return {"items_read": read, "items_unusable": read - usable}


def write_items(
    spark: SparkSession,
    warehouse: str,
    kept: DataFrame,
    catalogue: DataFrame | None,
    privacy: PrivacySettings,
    stored: DataFrame,
    first: date,
    last: date,
    is_again: bool,
) -> DataFrame:
    """Writes the days' item versions; returns all versions up to the last day. kept: those from before the first day."""
    candidates = item_candidates(stored).withColumn("text", F.col("title"))
    if catalogue is not None:
        delivered = delivered_items(catalogue.where("is_usable"), first)
        # On the day of its delivery a catalogue knows its items better than the titles of events do.
        candidates = candidates.join(delivered, ["item_id", "log_date"], "left_anti").unionByName(delivered)
    shown = candidates.withColumns(
        {"title": scrubbed(privacy)(F.col("title")), "text": normal_form(privacy)(F.col("text"))}
    )
    fresh = item_versions(shown.withColumn("text_key", F.sha2("text", 256)), kept).persist()
    replace(
        spark,
        warehouse,
        items.TABLE,
        fresh,
        f"valid_from >= DATE'{first}' AND valid_from <= DATE'{last}'",
        is_again,
    )
    versions = kept.unionByName(fresh)
    # Where they fit on every machine, the events need not be moved to meet them; Spark can't tell beforehand.
    fits = kept.limit(FEW_VERSIONS + 1).count() + fresh.count() <= FEW_VERSIONS
    return F.broadcast(versions) if fits else versions


def replace_days(
    spark: SparkSession,
    warehouse: str,
    table: Table,
    rows: DataFrame,
    first: date,
    last: date,
    is_again: bool,
) -> None:
    replace(
        spark, warehouse, table, rows, f"log_date >= DATE'{first}' AND log_date <= DATE'{last}'", is_again
    )


def replace(
    spark: SparkSession, warehouse: str, table: Table, rows: DataFrame, predicate: str, is_again: bool
) -> None:
    """Puts rows in the place of the stored ones; where they are the same rows already, no commit is made."""
    if is_again:
        stored = delta.read_table(spark, warehouse, table).where(predicate)
        if delta.table_exists(spark, warehouse, table) and delta.same_rows(
            stored, delta.conformed(rows, table), table.names
        ):
            return
    delta.overwrite_where(spark, warehouse, table, rows, predicate)


def count_fates(found: Sequence[Row]) -> dict[str, int]:
    """Records by fate, and quarantined ones by reason; read = stored + quarantined + duplicate (law 2). found: fate, reason, count."""
    by_fate = {fate: sum(row["count"] for row in found if row["fate"] == fate) for fate in FATES}
    reasons: Counter[str] = Counter()
    for row in found:
        if row["fate"] == QUARANTINED:
            reasons[f"quarantined_{row['reason']}"] += row["count"]
    return {
        "read": sum(by_fate[fate] for fate in (STORED, QUARANTINED, DUPLICATE)),
        **by_fate,
        **dict(sorted(reasons.items())),
    }
