"""The time of every event as an instant, with the local clock's offset where it is known."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.io.times import instant_of, instant_of_text, minutes_ahead, offset_of_text
from schemas.mapping import EventSource


def times_of(records: DataFrame, mapping: EventSource) -> dict[str, Column]:
    """event_ts as an instant, and utc_offset_min where it follows from the value or the mapping's zone.

    records: in a session of the mapping's zone (jobs/io/session.py in_zone), where Spark itself reads times
    without an offset as local.
    """
    time = F.expr(mapping.fields["event_ts"])
    kind = records.select(time).schema[0].dataType
    if isinstance(kind, T.VariantType):
        time, kind = time.cast("string"), T.StringType()
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
