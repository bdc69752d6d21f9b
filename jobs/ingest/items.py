"""Item versions: the title, text and attributes of each item on each day, from events and catalogues."""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.reasons import as_read, is_no_record
from jobs.ingest.records import AS_READ, NOT_IN_IDS, NOT_IN_OTHERS, field, is_visible, with_unique_keys
from jobs.io import logs
from jobs.io.columns import quoted
from jobs.io.days import Days
from jobs.io.formats import UNREADABLE
from schemas.mapping import ITEM_FIELDS, ItemSource
from schemas.settings import IngestSettings
from udfs.privacy import RECORD_HELD

SHOWN = ["title", "text", "text_key", "attributes"]


def item_candidates(stored: DataFrame) -> DataFrame:
    """(item_id, log_date, title, attributes).

    What events called each item on each log day, the last by (event_ts, event_id).

    stored: checkpointed, since it is read again where several titles share an item's last instant.
    """
    # Grouped by title and attributes with only a time to aggregate: max_by of a struct would sort.
    entries = F.sort_array(F.map_entries("attributes"))
    has_title = F.col("item_id").isNotNull() & is_visible(F.col("title"))
    titled = stored.where(has_title).withColumn("entries", entries)
    faces = titled.groupBy("item_id", "log_date", "title", "entries").agg(F.max("event_ts").alias("event_ts"))
    newest = Window.partitionBy("item_id", "log_date").orderBy(F.desc("event_ts"))
    last = faces.withColumn("place", F.rank().over(newest)).where("place = 1").drop("place")
    last = last.localCheckpoint(eager=False)
    ties = last.groupBy("item_id", "log_date", "event_ts").count().where("count > 1").drop("count")
    if not ties.isEmpty():
        last = last.join(ties, ["item_id", "log_date", "event_ts"], "left_anti").unionByName(
            _by_id(titled, ties)
        )
    return last.select("item_id", "log_date", "title", F.map_from_entries("entries").alias("attributes"))


def _by_id(titled: DataFrame, ties: DataFrame) -> DataFrame:
    """Of titles that share an item's last instant, the one with the greatest event id."""
    instant = ["item_id", "log_date", "event_ts"]
    chosen = F.max_by(F.struct("title", "entries"), "event_id").alias("last")
    rivals = titled.join(ties, instant, "left_semi").groupBy(*instant).agg(chosen)
    return rivals.select("item_id", "log_date", "last.*", "event_ts")


def catalogue_rows(records: DataFrame, source: ItemSource, ingest: IngestSettings) -> DataFrame:
    """(delivered, source_file, counts_from, ITEM_FIELDS, reason, record_hash, raw) of a catalogue's rows.

    counts_from: the day of delivery, or valid_from where that is later. reason: why a row can't be used, the
    first of ITEM_REASONS; it is NULL, as are record_hash and raw, where nothing speaks against the row.
    records: as jobs.io.logs.read_days returns them.
    """
    fields = {name: field(source.fields.get(name), type_) for name, type_ in ITEM_FIELDS.items()}
    fields["attributes"] = with_unique_keys(fields["attributes"])
    # What can't be a date is NULL as one.
    since = field(source.fields.get("valid_from"), T.StringType())
    own = [name for name in records.columns if name not in logs.ADDED]
    named = records.select(
        F.col(quoted(logs.LOG_DATE)).alias("delivered"),
        F.col(quoted(logs.SOURCE_FILE)).alias("source_file"),
        F.col(quoted(UNREADABLE)).alias("unreadable"),
        F.col(quoted(logs.WRONG_TYPE)).alias("wrong_type"),
        *[F.col(quoted(name)).alias(f"{AS_READ}{name}") for name in own],
        *[column.alias(name) for name, column in fields.items()],
        ((F.trim(since) != "") & fields["valid_from"].isNull()).alias("is_bad_date"),
    )
    reason = F.lit(None).cast("string")
    for code, condition in reversed(_conditions(ingest).items()):
        reason = F.when(condition, code).otherwise(reason)
    raw = F.when(F.col("reason").isNotNull(), as_read(named.columns))
    reasoned = named.withColumn("reason", reason).withColumn("raw", raw)
    hashed = {"record_hash": F.sha2("raw", 256), "raw": F.substring("raw", 1, RECORD_HELD)}
    counts_from = F.greatest("delivered", "valid_from").alias("counts_from")
    return reasoned.withColumns(hashed).select(
        "delivered", "source_file", counts_from, *ITEM_FIELDS, "reason", "record_hash", "raw"
    )


def _conditions(ingest: IngestSettings) -> dict[str, Column]:
    """The condition of each reason against a row, in the order in which they are tested."""
    maps = (F.map_keys("attributes"), F.map_values("attributes"))
    everything = F.concat_ws(" ", "item_id", "title", "text", *maps)
    seen = {name: F.coalesce(is_visible(F.col(name)), F.lit(False)) for name in ("item_id", "title", "text")}
    is_long = F.octet_length(everything) > ingest.max_record_kb * 1024
    return {
        "item_unreadable": is_no_record(F.col("unreadable")),
        "item_wrong_type": F.col("unreadable").isNotNull() | F.col("wrong_type").isNotNull(),
        "item_without_id": ~seen["item_id"],
        "item_over_long": is_long | (F.char_length("item_id") > ingest.max_id_chars),
        "item_control_characters": F.col("item_id").rlike(NOT_IN_IDS)
        | F.concat_ws(" ", *maps).rlike(NOT_IN_OTHERS),
        "item_bad_valid_from": F.col("is_bad_date"),
        "item_without_text": ~seen["title"] & ~seen["text"],
    }


def rejected_rows(catalogue: DataFrame, first: date) -> DataFrame:
    """The rows that can't be used, of the day whose ingest reads them: earlier deliveries of the first one.

    As jobs.ingest.fates.to_quarantine takes them.
    """
    equal = Window.partitionBy("source_file", "record_hash").orderBy("delivered")
    day = F.greatest("delivered", F.lit(first))
    of_day = {"log_date": day, "ordinal": F.row_number().over(equal) - 1}
    return catalogue.where("reason IS NOT NULL").withColumns(of_day)


def delivered_items(catalogue: DataFrame, days: Days) -> DataFrame:
    """(item_id, log_date, title, attributes, text) of the catalogue rows that count from one of the days.

    Those that count from earlier days count as of the first one.
    """
    # Of several rows for an item from one day on, the last delivery's counts, and in it the last valid one.
    # The order of a file means nothing: after that, the greatest counts.
    texts = catalogue.where(F.col("counts_from") <= days.last).withColumn("text", F.coalesce("text", "title"))
    entries = F.array_sort(F.map_entries("attributes")).alias("entries")
    order = ["counts_from", "delivered", "valid_from", "title", "text"]
    last_row = F.max(F.struct(*order, entries)).alias("row")
    day = F.greatest("counts_from", F.lit(days.first)).alias("log_date")
    attributes = F.map_from_entries("row.entries").alias("attributes")
    chosen = texts.groupBy("item_id", day).agg(last_row)
    return chosen.select("item_id", "log_date", "row.title", attributes, "row.text")


def item_versions(candidates: DataFrame, before: DataFrame) -> DataFrame:
    """A row of the items table for each candidate that differs from the version before it.

    before: the versions in force, all with a valid_from before the first candidate's day.
    """
    latest = F.max_by(F.struct("valid_from", *SHOWN), "valid_from").alias("v")
    # Where days arrived out of order, versions of one item have different first days.
    last = before.groupBy("item_id").agg(latest, F.min("first_seen_date").alias("first_seen_date"))
    no_date = F.lit(None).cast("date")
    old = last.select("item_id", "first_seen_date", no_date.alias("log_date"), *[f"v.{n}" for n in SHOWN])
    new = candidates.select("item_id", no_date.alias("first_seen_date"), "log_date", *SHOWN)
    in_time = Window.partitionBy("item_id").orderBy(F.col("log_date").asc_nulls_first())
    faced = old.unionByName(new).withColumn("face", _face())
    changed = faced.withColumn("changed", ~F.lag("face").over(in_time).eqNullSafe(F.col("face")))
    first_seen = F.first(F.coalesce("first_seen_date", "log_date")).over(in_time)
    dated = changed.withColumn("first_seen", first_seen).where("changed AND log_date IS NOT NULL")
    return dated.select(
        "item_id",
        *SHOWN,
        F.col("first_seen").alias("first_seen_date"),
        F.col("log_date").alias("valid_from"),
    )


def renamed(before: DataFrame, after: DataFrame, days: Days) -> DataFrame:
    """(item_id, old_key, new_key, until) of the items that an ingest of the days changed.

    until: the day of the next version, NULL where there is none. before: all versions before the ingest;
    after: all versions up to the last day after it.
    """
    of_days = days.sql("valid_from")
    # Only items with a version on the days can differ.
    touched = before.where(of_days).select("item_id").union(after.where(of_days).select("item_id")).distinct()
    in_force = F.max_by(F.struct("text_key", _face().alias("face")), "valid_from")
    old, new = (
        rows.where(F.col("valid_from") <= days.last)
        .join(touched, "item_id", "left_semi")
        .groupBy("item_id")
        .agg(in_force.alias(name))
        for name, rows in (("old", before), ("new", after))
    )
    later = before.where(F.col("valid_from") > days.last)
    until = later.groupBy("item_id").agg(F.min("valid_from").alias("until"))
    both = old.join(new, "item_id", "full").where(~F.col("old.face").eqNullSafe(F.col("new.face")))
    keys = F.col("old.text_key").alias("old_key"), F.col("new.text_key").alias("new_key")
    return both.join(until, "item_id", "left").select("item_id", *keys, "until")


def with_stale_text(events: DataFrame, changed: DataFrame, are_made: bool) -> DataFrame:
    """The stored events of later days whose text would be different now. changed: as `renamed` returns it.

    An event whose own text equals its item's old one can't be told from an event without text, and is
    included. With are_made the mapping makes texts: then any event of a changed item may differ.
    """
    in_time = F.col("until").isNull() | (F.col("log_date") < F.col("until"))
    found = events.join(changed, "item_id").where(in_time & (F.col("event_type") != "retract"))
    key = F.col("text_key")
    from_item = (key.isNull() | key.eqNullSafe(F.col("old_key"))) & ~key.eqNullSafe(F.col("new_key"))
    return found if are_made else found.where(from_item)


def _face() -> Column:
    """An item's name, text and attributes as one comparable text."""
    entries = F.array_sort(F.map_entries("attributes")).alias("attributes")
    return F.to_json(F.struct("title", "text_key", entries))
