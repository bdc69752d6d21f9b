"""Event times of any kind as instants."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from schemas.mapping import LogMapping

# What a time begins with that is no time of today's: Spark would read '12:30' as such.
FULL_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"


def times_of(records: DataFrame, mapping: LogMapping) -> dict[str, Column]:
    """event_ts as an instant, of whatever kind the mapping's expression is; and utc_offset_min where it follows from that or from the zone.

    A number is an instant; a time or a text without offset is local time of the zone, or of UTC without one.
    """
    time = F.expr(mapping.fields["event_ts"])
    kind = records.select(time).schema[0].dataType
    is_text, offset = isinstance(kind, T.StringType), None
    read = F.when(time.rlike(FULL_DATE), time).cast("timestamp") if is_text else time.cast("timestamp")
    if isinstance(kind, T.NumericType):
        instant = instant_of(time)
        if mapping.zone is not None:
            offset = _minutes_after(instant, F.from_utc_timestamp(instant, mapping.zone))
    elif mapping.zone is not None:
        instant = F.to_utc_timestamp(read, mapping.zone)
        offset = _minutes_after(instant, read)
    elif is_text:
        is_number = time.rlike(r"^[0-9]{9,16}([.][0-9]{1,9})?$")
        instant = F.when(is_number, instant_of(F.when(is_number, time).cast(T.DecimalType(25, 9)))).otherwise(
            read
        )
        offset = _offset_at_end(time)
    else:
        instant = read
    given = "utc_offset_min" in mapping.fields
    return (
        {"event_ts": instant} if offset is None or given else {"event_ts": instant, "utc_offset_min": offset}
    )


def instant_of(number: Column) -> Column:
    """The time that a number of seconds, milliseconds or microseconds since 1970 stands for; which it is, its size tells."""
    seconds = F.timestamp_seconds(number.cast(T.DecimalType(19, 6)))
    millis, micros = F.timestamp_millis(number.cast("long")), F.timestamp_micros(number.cast("long"))
    return F.when(F.abs(number) < 1e11, seconds).when(F.abs(number) < 1e14, millis).otherwise(micros)


def _minutes_after(utc: Column, local: Column) -> Column:
    """Local time less UTC, where `local` reads as if the local clock showed UTC."""
    return ((F.unix_seconds(local) - F.unix_seconds(utc)) / 60).cast("int")


def _offset_at_end(time: Column) -> Column:
    """The minutes of an ISO time's offset, as in +02:00, +0200 or Z; NULL without one."""
    hours, minutes = (
        F.regexp_extract(time, r"[T ][0-9:.]+[+-]([0-9]{2}):?([0-9]{2})$", group).cast("int")
        for group in (1, 2)
    )
    sign = F.when(time.rlike(r"-[0-9]{2}:?[0-9]{2}$"), -1).otherwise(1)
    return F.when(time.endswith("Z"), 0).otherwise(sign * (60 * hours + minutes))
