"""Why a record can't become an event."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.ingest.records import AS_READ, DERIVED, IDS, NOT_IN_IDS, NOT_IN_TEXTS, can_be_seen
from jobs.io import logs
from schemas.mapping import EVENT_FIELDS
from schemas.settings import IngestSettings
from udfs.privacy import RECORD_HELD

REASONS = {
    "unreadable": "the record can't be parsed",
    "wrong_type": "a field is not of its declared type",
    "over_long": "it holds more than ingest.max_record_kb, or an id longer than ingest.max_id_chars",
    "missing_user": "it has no user",
    "control_characters": "it has control characters, or an id has bytes that are not of the source's encoding",
    "reserved_id": "its event id begins as only derived ones do",
    "bad_time": "its time is missing or can't be read",
    "future": "it happened more than a day after its log day",
    "too_late": "it came later than fold.window_days allows",
    "missing_type": "it has no event type",
    "unknown_type": "its event type is not one of fold.type_weights",
    "no_target": "it is a retraction without retracts_event_id",
    "no_text_no_item": "it has neither text nor item",
    "bad_rating": "its rating is outside rating_min..rating_max",
    "bad_number": "its value, lat or lon is not a finite number",
    "conflicting_id": "another record has its event id, and other content",
}


def find_reasons(
    mapped: DataFrame, window_days: int, ingest: IngestSettings, known_types: Sequence[str]
) -> DataFrame:
    """Adds event_date and, for a record that can't be an event, the first reason why (REASONS), itself as it was read, and its hash."""
    late = F.date_diff("log_date", "event_date")
    is_retraction = F.col("event_type") == "retract"
    # What is JSON and was not read has a field of another type; what is not JSON, or no text, can't be read at all.
    is_text = ~F.contains("unreadable", F.lit("\ufffd"))
    is_json = (
        F.try_parse_json("unreadable").isNotNull() & F.json_object_keys("unreadable").isNotNull() & is_text
    )
    parts = [*IDS, "title", "text", "place", "device", "companions"]
    maps = [of(name) for name in ("attributes", "extra") for of in (F.map_keys, F.map_values)]
    everything = F.concat_ws(" ", *parts, *maps)
    size = F.octet_length(everything)
    # Bytes are counted sooner than characters, and are as many at least.
    too_long = [
        F.greatest(*[length(name) for name in IDS]) > ingest.max_id_chars
        for length in (F.octet_length, F.char_length)
    ]
    # Few records have any of them: one look at all, then at each.
    control = everything.rlike(NOT_IN_IDS) & (
        F.concat_ws(" ", *IDS).rlike(NOT_IN_IDS) | everything.rlike(NOT_IN_TEXTS)
    )
    no_text = ~F.coalesce(can_be_seen(F.col("text")), F.lit(False))
    numbers = [F.isnan(name) | (F.abs(name) == float("inf")) for name in ("value", "lat", "lon")]
    found = {
        "unreadable": F.col("unreadable").isNotNull() & ~is_json,
        "wrong_type": F.col("unreadable").isNotNull() | F.col("wrong_type").isNotNull(),
        "over_long": (size > ingest.max_record_kb * 1024) | (too_long[0] & too_long[1]),
        "missing_user": F.col("user_id").isNull(),
        "control_characters": control,
        "reserved_id": F.col("event_id").startswith(DERIVED),
        "bad_time": F.col("event_ts").isNull(),
        "future": late < -1,
        "too_late": late > window_days,
        "missing_type": F.col("event_type").isNull(),
        "unknown_type": F.lit(ingest.unknown_types == "quarantine")
        & ~F.col("event_type").isin("retract", *known_types),
        "no_target": is_retraction & F.col("retracts_event_id").isNull(),
        "no_text_no_item": ~is_retraction & F.col("item_id").isNull() & no_text,
        "bad_rating": F.isnan("rating") | ~F.col("rating").between(0, 1),
        "bad_number": reduce(Column.__or__, numbers),
    }
    reason = F.when(~F.col("passed"), None)
    for code, condition in found.items():
        reason = reason.when(condition, code)
    source = [
        F.col(logs.quoted(name)).alias(name.removeprefix(AS_READ))
        for name in mapped.columns
        if name.startswith(AS_READ)
    ]
    # What is not of its type is NULL among the source's fields.
    source.append(F.col("wrong_type").alias("not of its type"))
    raw = F.when(F.col("reason").isNotNull(), F.coalesce("unreadable", F.to_json(F.struct(*source))))
    reasoned = (
        mapped.withColumn("event_date", F.to_date("event_ts"))
        .withColumn("reason", reason)
        .withColumn("raw", raw)
    )
    # The text of a reject is not needed, and may be of any length.
    text = F.when(F.col("reason").isNull(), F.col("text"))
    kept = reasoned.withColumns(
        {"record_hash": F.sha2("raw", 256), "raw": F.substring("raw", 1, RECORD_HELD), "text": text}
    )
    return kept.select(
        "log_date", "event_date", "source_file", "passed", "reason", "record_hash", "raw", *EVENT_FIELDS
    )
