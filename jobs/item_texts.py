"""What items were called on each day, and from that the text of every event; pure functions of the ingest."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.behavior_events import TABLE as EVENTS
from schemas.mapping import OTHER_TYPES

SHOWN = ["title", "text", "text_key", "attributes"]


def item_candidates(stored: DataFrame) -> DataFrame:
    """(item_id, log_date, title, attributes): what each item was called on each log day, the last title by (event_ts, event_id).

    stored: held events, since they are read once more where several titles share an item's last instant.
    """
    # Grouped by what is looked for, with nothing but a time to compute: the last of a group as a whole would be sorted for.
    entries = F.sort_array(F.map_entries("attributes"))
    titled = stored.where("item_id IS NOT NULL AND trim(title) <> ''").withColumn("entries", entries)
    faces = titled.groupBy("item_id", "log_date", "title", "entries").agg(F.max("event_ts").alias("event_ts"))
    newest = Window.partitionBy("item_id", "log_date").orderBy(F.desc("event_ts"))
    last = faces.withColumn("place", F.rank().over(newest)).where("place = 1").drop("place").localCheckpoint(eager=False)
    ties = last.groupBy("item_id", "log_date", "event_ts").count().where("count > 1").drop("count")
    if not ties.isEmpty():
        rivals = titled.join(ties, ["item_id", "log_date", "event_ts"], "left_semi")
        chosen = F.max_by(F.struct("title", "entries"), "event_id").alias("last")
        told = rivals.groupBy("item_id", "log_date", "event_ts").agg(chosen).select("item_id", "log_date", "last.*", "event_ts")
        last = last.join(ties, ["item_id", "log_date", "event_ts"], "left_anti").unionByName(told)
    return last.select("item_id", "log_date", "title", F.map_from_entries("entries").alias("attributes"))


def item_versions(candidates: DataFrame, before: DataFrame) -> DataFrame:
    """A row of the items table for each candidate that differs from the version before it.

    `before` holds the versions already in force: all with a valid_from before the first candidate's day.
    """
    last = before.groupBy("item_id", "first_seen_date").agg(F.max_by(F.struct("valid_from", *SHOWN), "valid_from").alias("v"))
    old = last.select("item_id", "first_seen_date", F.lit(None).cast("date").alias("log_date"), *[f"v.{name}" for name in SHOWN])
    new = candidates.select("item_id", F.lit(None).cast("date").alias("first_seen_date"), "log_date", *SHOWN)
    in_time = Window.partitionBy("item_id").orderBy(F.col("log_date").asc_nulls_first())
    face = F.to_json(F.struct("title", "text_key", F.array_sort(F.map_entries("attributes")).alias("attributes")))
    changed = old.unionByName(new).withColumn("face", face).withColumn("changed", ~F.lag("face").over(in_time).eqNullSafe(F.col("face")))
    first_seen = F.first(F.coalesce("first_seen_date", "log_date")).over(in_time)
    dated = changed.withColumn("first_seen", first_seen).where("changed AND log_date IS NOT NULL")
    return dated.select("item_id", *SHOWN, F.col("first_seen").alias("first_seen_date"), F.col("log_date").alias("valid_from"))


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
    return of_item.withColumns({name: F.coalesce(name, _unless_retract(F.col(f"item_{name}"))) for name in ("text", "text_key")})


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


def _unless_retract(text: Column) -> Column:
    return F.when(F.col("event_type") != "retract", text)
