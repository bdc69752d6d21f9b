"""Why a record can't become an event, or a row of a catalogue an item."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.ingest.records import (
    AS_READ,
    DERIVED,
    IDS,
    NOT_IN_IDS,
    NOT_IN_OTHERS,
    PLAIN,
    is_cleaned,
    is_visible,
)
from jobs.io.columns import quoted
from schemas.mapping import EVENT_FIELDS
from schemas.settings import IngestSettings, Settings
from udfs.privacy import RECORD_HELD

REASONS = {
    "unreadable": "the record can't be parsed",
    "wrong_type": "a field is not of its declared type",
    "over_long": "it is larger than ingest.max_record_kb, or an id is longer than ingest.max_id_chars",
    "missing_user": "it has no user",
    "control_characters": "a field other than title and text has control characters, or an id unseen ones",
    "reserved_id": "its event id starts with the prefix of derived ids",
    "bad_time": "its time is missing or can't be read",
    "future": "it happened more than a day after its log day",
    "too_late": "it arrived later than fold.window_days allows",
    "missing_type": "it has no event type",
    "unknown_type": "its event type is not one of fold.type_weights",
    "no_target": "it is a retraction without retracts_event_id",
    "no_text_no_item": "it has neither text nor item",
    "bad_rating": "its rating is outside rating_min..rating_max",
    "bad_number": "its value, lat or lon is not a finite number",
    "conflicting_id": "another record has the same event id and other content",
}
# Of rows of a catalogue. The prefix tells them from events, also in the rules of pipeline_runs.
ITEM_REASONS = {
    "item_unreadable": "the row of the catalogue can't be parsed",
    "item_wrong_type": "a field of the catalogue's row is not of its declared type",
    "item_without_id": "the row of the catalogue names no item",
    "item_over_long": "it is larger than ingest.max_record_kb, or its id is longer than ingest.max_id_chars",
    "item_control_characters": "its attributes have control characters, or its id unseen ones",
    "item_bad_valid_from": "the catalogue's row has a valid_from that is not a date",
    "item_without_text": "the row of the catalogue has neither a title nor a text",
}


def find_reasons(mapped: Sequence[DataFrame], settings: Settings) -> DataFrame:
    """The records of all sources with event_date; those that can't be events have a reason, raw and hash.

    It is the first of REASONS. cleaned: whether the stored text or title lacks characters that no
    eye sees.

    mapped: as jobs.ingest.records.map_records returns them, for each source of the log.
    """
    return reduce(DataFrame.unionAll, [_find_reasons(of_source, settings) for of_source in mapped])


def _find_reasons(mapped: DataFrame, settings: Settings) -> DataFrame:
    reason = F.when(~F.col("passed"), None)
    known_types = list(settings.fold.type_weights)
    for code, condition in _conditions(settings.fold.window_days, settings.ingest, known_types).items():
        reason = reason.when(condition, code)
    raw = F.when(F.col("reason").isNotNull(), as_read(mapped.columns))
    dated = mapped.withColumn("event_date", F.to_date("event_ts"))
    reasoned = dated.withColumn("reason", reason).withColumn("raw", raw)
    # A rejected record's text is not needed, and may be of any length.
    text = F.when(F.col("reason").isNull(), F.col("text"))
    hashed = {"record_hash": F.sha2("raw", 256), "raw": F.substring("raw", 1, RECORD_HELD), "text": text}
    hashed["cleaned"] = loses_unseen()
    kept = ["log_date", "event_date", "source_file", "passed", "reason", "cleaned", "record_hash", "raw"]
    return reasoned.withColumns(hashed).select(*kept, *EVENT_FIELDS)


def loses_unseen() -> Column:
    """Whether the text or title of a record that can be used loses characters that no eye sees."""
    return F.col("reason").isNull() & (is_cleaned(F.col("text")) | is_cleaned(F.col("title")))


def as_read(columns: Sequence[str]) -> Column:
    """A rejected record as one text: what was not read, or the source's own fields among the columns."""
    source = [
        F.col(quoted(name)).alias(name.removeprefix(AS_READ)) for name in columns if name.startswith(AS_READ)
    ]
    # A field of another type is NULL among the source's fields.
    source.append(F.col("wrong_type").alias("not of its type"))
    return F.coalesce("unreadable", F.to_json(F.struct(*source)))


def is_no_record(unreadable: Column) -> Column:
    """Whether what was not read is no record; parsable JSON is one with a field of another type."""
    is_json = F.try_parse_json(unreadable).isNotNull() & F.json_object_keys(unreadable).isNotNull()
    return unreadable.isNotNull() & ~(is_json & ~F.contains(unreadable, F.lit("\ufffd")))


def _conditions(window_days: int, ingest: IngestSettings, known_types: Sequence[str]) -> dict[str, Column]:
    """The condition of each reason but conflicting_id, in the order in which they are tested."""
    lateness = F.date_diff("log_date", "event_date")
    is_retraction = F.col("event_type") == "retract"
    maps = [of(name) for name in ("attributes", "extra") for of in (F.map_keys, F.map_values)]
    others = [*map(F.col, ("place", "device", "companions")), *maps]
    everything = F.concat_ws(" ", *IDS, "title", "text", *others)
    size = F.octet_length(everything)
    # Bytes are cheaper to count than characters, and at least as many.
    id_bytes, id_chars = (
        F.greatest(*[length(name) for name in IDS]) > ingest.max_id_chars
        for length in (F.octet_length, F.char_length)
    )
    # Rare: one look at everything, then a search for each kind.
    in_ids = F.concat_ws(" ", *IDS).rlike(NOT_IN_IDS)
    control = ~everything.rlike(PLAIN) & (in_ids | F.concat_ws(" ", *others).rlike(NOT_IN_OTHERS))
    no_text = ~F.coalesce(is_visible(F.col("text")), F.lit(False))
    not_finite = [F.isnan(name) | (F.abs(name) == float("inf")) for name in ("value", "lat", "lon")]
    refuses_unknown = F.lit(ingest.unknown_types == "quarantine")
    return {
        "unreadable": is_no_record(F.col("unreadable")),
        "wrong_type": F.col("unreadable").isNotNull() | F.col("wrong_type").isNotNull(),
        "over_long": (size > ingest.max_record_kb * 1024) | (id_bytes & id_chars),
        "missing_user": F.col("user_id").isNull(),
        "control_characters": control,
        "reserved_id": F.col("event_id").startswith(DERIVED),
        "bad_time": F.col("event_ts").isNull(),
        "future": lateness < -1,
        "too_late": lateness > window_days,
        "missing_type": F.col("event_type").isNull(),
        "unknown_type": refuses_unknown & ~F.col("event_type").isin("retract", *known_types),
        "no_target": is_retraction & F.col("retracts_event_id").isNull(),
        "no_text_no_item": ~is_retraction & F.col("item_id").isNull() & no_text,
        "bad_rating": F.isnan("rating") | ~F.col("rating").between(0, 1),
        "bad_number": reduce(Column.__or__, not_finite),
    }
