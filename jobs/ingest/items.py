"""Item versions: the title, text and attributes of each item on each day, and the rows of catalogues."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.ingest.names import SHOWN, event_faces, in_force, names_given, shown_names
from jobs.ingest.privacy import StoredForm, text_key
from jobs.ingest.reasons import as_read, is_no_record, loses_unseen
from jobs.ingest.records import (
    AS_READ,
    NOT_IN_IDS,
    NOT_IN_OTHERS,
    first_wrong,
    is_visible,
    typed_fields,
    with_unique_keys,
)
from jobs.io import logs
from jobs.io.columns import quoted
from jobs.io.days import Days
from jobs.io.formats import UNREADABLE
from jobs.io.warehouse import Warehouse
from schemas import behavior_events, items
from schemas.items import BY_CATALOGUE, BY_EVENTS
from schemas.mapping import ITEM_FIELDS, ItemSource
from schemas.settings import IngestSettings
from udfs.privacy import RECORD_HELD


def catalogue_rows(records: DataFrame, source: ItemSource, ingest: IngestSettings) -> DataFrame:
    """A catalogue's (delivered, source_file, counts_from, ITEM_FIELDS, reason, cleaned, record_hash, raw).

    counts_from: the day of delivery, or valid_from where that is later. reason: why a row can't be used, the
    first of ITEM_REASONS; it is NULL, as are record_hash and raw, where nothing speaks against the row.
    cleaned: as jobs.ingest.reasons.find_reasons has it.
    records: as jobs.io.logs.read_days returns them.
    """
    fields, unfit = typed_fields(records, source.fields, ITEM_FIELDS)
    fields["attributes"] = with_unique_keys(fields["attributes"])
    is_bad_date = unfit.pop("valid_from", F.lit(False))
    own = [name for name in records.columns if name not in logs.ADDED]
    named = records.select(
        F.col(quoted(logs.LOG_DATE)).alias("delivered"),
        F.col(quoted(logs.SOURCE_FILE)).alias("source_file"),
        F.col(quoted(UNREADABLE)).alias("unreadable"),
        first_wrong(unfit).alias("wrong_type"),
        *[F.col(quoted(name)).alias(f"{AS_READ}{name}") for name in own],
        *[column.alias(name) for name, column in fields.items()],
        is_bad_date.alias("is_bad_date"),
    )
    reason = F.lit(None).cast("string")
    for code, condition in reversed(_conditions(ingest).items()):
        reason = F.when(condition, code).otherwise(reason)
    raw = F.when(F.col("reason").isNotNull(), as_read(named.columns))
    reasoned = named.withColumn("reason", reason).withColumn("raw", raw)
    hashed = {"record_hash": F.sha2("raw", 256), "raw": F.substring("raw", 1, RECORD_HELD)}
    hashed["cleaned"] = loses_unseen()
    counts_from = F.greatest("delivered", "valid_from").alias("counts_from")
    kept = [*ITEM_FIELDS, "reason", "cleaned", "record_hash", "raw"]
    return reasoned.withColumns(hashed).select("delivered", "source_file", counts_from, *kept)


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


@dataclass(frozen=True)
class Before:
    """The tables before some days: the versions of items, and the events of the window_days before."""

    versions: DataFrame
    events: DataFrame
    window_days: int

    @cached_property
    def is_first(self) -> bool:
        """Whether there were no items before the days."""
        return self.versions.isEmpty()

    @classmethod
    def of(cls, warehouse: Warehouse, days: Days, window_days: int) -> "Before":
        """As the warehouse holds them."""
        near = Days(days.first - timedelta(days=window_days), days.first - timedelta(days=1))
        return cls(
            versions=warehouse.read(items.TABLE).where(F.col("valid_from") < days.first),
            events=warehouse.read(behavior_events.TABLE).where(near.sql("log_date")),
            window_days=window_days,
        )


@dataclass(frozen=True)
class Named:
    """What events and catalogues of some days make of their items.

    faces: what events call them, as jobs.ingest.names.event_faces returns it. held: their versions in force
    before the days; fresh: those that begin on the days, as rows of items.
    """

    faces: DataFrame
    held: DataFrame
    fresh: DataFrame

    @property
    def versions(self) -> DataFrame:
        """(item_id, valid_from, SHOWN) of the items, enough for the days."""
        columns = ["item_id", "valid_from", *SHOWN]
        return self.held.select(*columns).union(self.fresh.select(*columns))


def name_items(
    stored: DataFrame, catalogue: DataFrame | None, before: Before, form: StoredForm, days: Days
) -> Named:
    """The items of the days' events and of the catalogue's usable rows, with their names."""
    faces = event_faces(stored, form).localCheckpoint(eager=False)
    touched, delivered = faces.select("item_id"), None
    if catalogue is not None:
        rows = delivered_items(catalogue.where("reason IS NULL"), days)
        written = {"title": form.title(F.col("title")), "text": form.text(F.col("text"))}
        delivered = rows.withColumns(written).withColumn("text_key", text_key(F.col("text")))
        delivered = delivered.localCheckpoint(eager=False)
        touched = touched.union(delivered.select("item_id"))
    held = in_force(before.versions, touched).localCheckpoint(eager=False)
    given = names_given(faces, stored, before.events, held, days, before.window_days)
    named = [] if delivered is None else [delivered.withColumn("named_by", F.lit(BY_CATALOGUE))]
    if given is not None:
        named.insert(0, shown_names(faces, given).withColumn("named_by", F.lit(BY_EVENTS)))
    if not named:
        return Named(faces, held, fresh=before.versions.limit(0))
    return Named(faces, held, item_versions(reduce(by_events_and_catalogue, named), held))


def item_versions(candidates: DataFrame, held: DataFrame) -> DataFrame:
    """A row of the items table for each candidate that differs from the version before it.

    candidates: (item_id, log_date, SHOWN, named_by), names from a day on. held: the versions in force before,
    as jobs.ingest.names.in_force returns them.
    """
    no_date = F.lit(None).cast("date")
    columns = [*SHOWN, "named_by"]
    old = held.select("item_id", "first_seen_date", no_date.alias("log_date"), *columns)
    new = candidates.select("item_id", no_date.alias("first_seen_date"), "log_date", *columns)
    in_time = Window.partitionBy("item_id").orderBy(F.col("log_date").asc_nulls_first())
    faced = old.unionByName(new).withColumn("face", face())
    changed = faced.withColumn("changed", ~F.lag("face").over(in_time).eqNullSafe(F.col("face")))
    first_seen = F.first(F.coalesce("first_seen_date", "log_date")).over(in_time)
    dated = changed.withColumn("first_seen", first_seen).where("changed AND log_date IS NOT NULL")
    return dated.select(
        "item_id",
        *columns,
        F.col("first_seen").alias("first_seen_date"),
        F.col("log_date").alias("valid_from"),
    )


def by_events_and_catalogue(given: DataFrame, delivered: DataFrame) -> DataFrame:
    """Names of both kinds together: those by events hold until the first one by a catalogue."""
    return before_catalogue(given, delivered).unionByName(delivered)


def before_catalogue(given: DataFrame, named: DataFrame) -> DataFrame:
    """The names by events (item_id, log_date, ...) until a catalogue names the item (item_id, log_date)."""
    since = named.groupBy("item_id").agg(F.min("log_date").alias("since"))
    return given.join(since, "item_id", "left").where("since IS NULL OR log_date < since").drop("since")


def face() -> Column:
    """An item's name, text and attributes, and who gave them, as one comparable text."""
    entries = F.array_sort(F.map_entries("attributes")).alias("attributes")
    return F.to_json(F.struct("title", "text_key", entries, "named_by"))
