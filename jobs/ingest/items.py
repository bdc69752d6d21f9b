"""What items were called on each day, and from that the text of every event; pure functions of the ingest."""

from collections.abc import Mapping
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.ingest.records import NOT_IN_IDS, NOT_IN_TEXTS, can_be_seen, field, once_each
from jobs.io import logs
from schemas.behavior_events import TABLE as EVENTS
from schemas.mapping import ITEM_FIELDS, OTHER_TYPES, ItemSource
from schemas.settings import IngestSettings

SHOWN = ["title", "text", "text_key", "attributes"]


def item_candidates(stored: DataFrame) -> DataFrame:
    """(item_id, log_date, title, attributes): what each item was called on each log day, the last title by (event_ts, event_id).

    stored: held events, since they are read once more where several titles share an item's last instant.
    """
    # Grouped by what is looked for, with nothing but a time to compute: the last of a group as a whole would be sorted for.
    entries = F.sort_array(F.map_entries("attributes"))
    titled = stored.where(F.col("item_id").isNotNull() & can_be_seen(F.col("title"))).withColumn(
        "entries", entries
    )
    faces = titled.groupBy("item_id", "log_date", "title", "entries").agg(F.max("event_ts").alias("event_ts"))
    newest = Window.partitionBy("item_id", "log_date").orderBy(F.desc("event_ts"))
    last = (
        faces.withColumn("place", F.rank().over(newest))
        .where("place = 1")
        .drop("place")
        .localCheckpoint(eager=False)
    )
    ties = last.groupBy("item_id", "log_date", "event_ts").count().where("count > 1").drop("count")
    if not ties.isEmpty():
        rivals = titled.join(ties, ["item_id", "log_date", "event_ts"], "left_semi")
        chosen = F.max_by(F.struct("title", "entries"), "event_id").alias("last")
        told = (
            rivals.groupBy("item_id", "log_date", "event_ts")
            .agg(chosen)
            .select("item_id", "log_date", "last.*", "event_ts")
        )
        last = last.join(ties, ["item_id", "log_date", "event_ts"], "left_anti").unionByName(told)
    return last.select("item_id", "log_date", "title", F.map_from_entries("entries").alias("attributes"))


def catalogue_rows(records: DataFrame, source: ItemSource, ingest: IngestSettings) -> DataFrame:
    """(item_id, delivered, title, text, attributes, is_usable) of an item catalogue. A row is of no use that can't be read, names no item,
    has neither title nor text, or holds what an event may not hold either. records: as jobs.io.logs.read_days gives them.
    """
    fields = {name: field(source.fields.get(name), type_) for name, type_ in ITEM_FIELDS.items()}
    fields["attributes"] = once_each(fields["attributes"])
    names = records.select(
        F.col(logs.quoted(logs.LOG_DATE)).alias("delivered"),
        (F.col(logs.quoted(logs.UNREADABLE)).isNull() & F.col(logs.quoted(logs.WRONG_TYPE)).isNull()).alias(
            "is_read"
        ),
        *[column.alias(name) for name, column in fields.items()],
    )
    everything = F.concat_ws(
        " ", "item_id", "title", "text", F.map_keys("attributes"), F.map_values("attributes")
    )
    is_sound = (
        can_be_seen(F.col("item_id"))
        & ~F.col("item_id").rlike(NOT_IN_IDS)
        & ~everything.rlike(NOT_IN_TEXTS)
        & (F.char_length("item_id") <= ingest.max_id_chars)
        & (F.octet_length(everything) <= ingest.max_record_kb * 1024)
        & (F.coalesce(can_be_seen(F.col("title")), F.lit(False)) | can_be_seen(F.col("text")))
    )
    return names.withColumn("is_usable", F.coalesce(F.col("is_read") & is_sound, F.lit(False))).drop(
        "is_read"
    )


def delivered_items(catalogue: DataFrame, first: date) -> DataFrame:
    """(item_id, log_date, title, attributes, text) of catalogue rows; deliveries before the first day count as of that day."""
    # A file's order is no order: of several rows for an item in one delivery the greatest counts.
    texts = catalogue.withColumn("text", F.coalesce("text", "title"))
    last_row = F.max(
        F.struct("delivered", "title", "text", F.array_sort(F.map_entries("attributes")).alias("entries"))
    ).alias("row")
    chosen = texts.groupBy("item_id", F.greatest("delivered", F.lit(first)).alias("log_date")).agg(last_row)
    return chosen.select(
        "item_id", "log_date", "row.title", F.map_from_entries("row.entries").alias("attributes"), "row.text"
    )


def item_versions(candidates: DataFrame, before: DataFrame) -> DataFrame:
    """A row of the items table for each candidate that differs from the version before it.

    `before` holds the versions already in force: all with a valid_from before the first candidate's day.
    """
    latest = F.max_by(F.struct("valid_from", *SHOWN), "valid_from").alias("v")
    # Of days that came in another order, versions know other first days.
    last = before.groupBy("item_id").agg(latest, F.min("first_seen_date").alias("first_seen_date"))
    old = last.select(
        "item_id",
        "first_seen_date",
        F.lit(None).cast("date").alias("log_date"),
        *[f"v.{name}" for name in SHOWN],
    )
    new = candidates.select("item_id", F.lit(None).cast("date").alias("first_seen_date"), "log_date", *SHOWN)
    in_time = Window.partitionBy("item_id").orderBy(F.col("log_date").asc_nulls_first())
    changed = (
        old.unionByName(new)
        .withColumn("face", _face())
        .withColumn("changed", ~F.lag("face").over(in_time).eqNullSafe(F.col("face")))
    )
    first_seen = F.first(F.coalesce("first_seen_date", "log_date")).over(in_time)
    dated = changed.withColumn("first_seen", first_seen).where("changed AND log_date IS NOT NULL")
    return dated.select(
        "item_id", *SHOWN, F.col("first_seen").alias("first_seen_date"), F.col("log_date").alias("valid_from")
    )


def renamed(before: DataFrame, after: DataFrame, first: date, last: date) -> DataFrame:
    """(item_id, old_key, new_key, until) of the items that are called otherwise after the days than they were before those were written.

    until: the day of the next version, None where there is none. before: the items as they were; after: all versions up to the last day
    as they are now.
    """
    of_days = F.col("valid_from").between(first, last)
    # What the days say of few items is all that can differ; the others need not be compared.
    touched = before.where(of_days).select("item_id").union(after.where(of_days).select("item_id")).distinct()
    in_force = F.max_by(F.struct("text_key", _face().alias("face")), "valid_from")
    old, new = (
        rows.where(F.col("valid_from") <= last)
        .join(touched, "item_id", "left_semi")
        .groupBy("item_id")
        .agg(in_force.alias(name))
        for name, rows in (("old", before), ("new", after))
    )
    next_days = (
        before.where(F.col("valid_from") > last).groupBy("item_id").agg(F.min("valid_from").alias("until"))
    )
    changed = (
        old.join(new, "item_id", "full")
        .where(~F.col("old.face").eqNullSafe(F.col("new.face")))
        .join(next_days, "item_id", "left")
    )
    return changed.select(
        "item_id", F.col("old.text_key").alias("old_key"), F.col("new.text_key").alias("new_key"), "until"
    )


def outdated(events: DataFrame, changed: DataFrame, are_made: bool) -> DataFrame:
    """The stored events of later days whose text would be another one now. changed: as `renamed` gives it.

    An event that says of itself just what its item was called can't be told from one that has its text from there, and is among them. With
    are_made the mapping makes texts: then any event of such an item may differ.
    """
    in_time = F.col("until").isNull() | (F.col("log_date") < F.col("until"))
    found = events.join(changed, "item_id").where(in_time & (F.col("event_type") != "retract"))
    text_key = F.col("text_key")
    is_of_item = (text_key.isNull() | text_key.eqNullSafe(F.col("old_key"))) & ~text_key.eqNullSafe(
        F.col("new_key")
    )
    return found if are_made else found.where(is_of_item)


def with_item(stored: DataFrame, versions: DataFrame) -> DataFrame:
    """The events with item_title, item_text, item_text_key and item_attributes of their item's version valid on their log date."""
    in_time = Window.partitionBy("item_id").orderBy("valid_from")
    shown = [F.col(name).alias(f"item_{name}") for name in SHOWN]
    until = F.lead("valid_from").over(in_time).alias("valid_to")
    ranges = versions.select("item_id", *shown, "valid_from", until).alias("v")
    events = stored.alias("e")
    valid = (
        (F.col("e.item_id") == F.col("v.item_id"))
        & (F.col("e.log_date") >= F.col("v.valid_from"))
        & (F.col("v.valid_to").isNull() | (F.col("e.log_date") < F.col("v.valid_to")))
    )
    return events.join(ranges, valid, "left").select("e.*", *[f"v.item_{name}" for name in SHOWN])


def resolve_texts(of_item: DataFrame) -> DataFrame:
    """Gives each event its own text, else its item's; a retraction has none."""
    return of_item.withColumns(
        {name: F.coalesce(name, _unless_retract(F.col(f"item_{name}"))) for name in ("text", "text_key")}
    )


def made_text(texts: Mapping[str, str]) -> Column:
    """The text that the mapping's expressions make of an event and its item; NULL where there is none for its type, or it gives none."""
    made = F.expr(texts[OTHER_TYPES]) if OTHER_TYPES in texts else F.lit(None)
    for type_, expression in texts.items():
        if type_ != OTHER_TYPES:
            made = F.when(F.col("event_type") == type_, F.expr(expression)).otherwise(made)
    return _unless_retract(made.cast("string"))


def to_events(resolved: DataFrame, user_buckets: int) -> DataFrame:
    bucket = F.pmod(F.xxhash64("user_id"), F.lit(user_buckets)).cast("int")
    return resolved.withColumn("user_bucket", bucket).select(*EVENTS.names)


def _face() -> Column:
    """What an item is called, as one text that can be compared."""
    return F.to_json(
        F.struct("title", "text_key", F.array_sort(F.map_entries("attributes")).alias("attributes"))
    )


def _unless_retract(text: Column) -> Column:
    return F.when(F.col("event_type") != "retract", text)
