"""The time of every event as an instant, with the local clock's offset where it is known."""

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.columns import quoted
from jobs.io.times import instant_of, instant_of_text, minutes_ahead, offset_of_text
from schemas.mapping import EventSource

# The column with what the mapping says of the time; the blank keeps it apart from any source's names.
TIME: Final = "time as given"


def with_time(records: DataFrame, mapping: EventSource) -> DataFrame:
    """The records with TIME, the mapping's expression for event_ts; a variant is the text of its value.

    In a step of its own: the rules of times refer to it a dozen times, and Spark would evaluate it as often.
    """
    time = F.expr(mapping.fields["event_ts"])
    is_variant = isinstance(records.select(time).schema[0].dataType, T.VariantType)
    return records.withColumn(TIME, time.cast("string") if is_variant else time)


def times_of(records: DataFrame, mapping: EventSource) -> dict[str, Column]:
    """event_ts as an instant, and utc_offset_min where it follows from the value or the mapping's zone.

    records: with TIME, in a session of the mapping's zone (jobs/io/session.py in_zone), where Spark itself
    reads times without an offset as local.
    """
    time, kind = F.col(quoted(TIME)), records.schema[TIME].dataType
    offset = None
    if isinstance(kind, T.StringType):
        instant = instant_of_text(time)
        offset = offset_of_text(time, instant)
    else:
        instant = instant_of(time) if isinstance(kind, T.NumericType) else time.cast("timestamp")
    if mapping.zone is not None:
        local = minutes_ahead(instant.cast("timestamp_ntz"), instant)
        offset = local if offset is None else F.coalesce(offset, local)
    if offset is None or "utc_offset_min" in mapping.fields:
        return {"event_ts": instant}
    return {"event_ts": instant, "utc_offset_min": offset}
