"""Event times of any kind as instants, with the local clock's offset where it is known."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from schemas.mapping import LogMapping

# Without this prefix Spark would read '12:30' as a time of today.
FULL_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
# A text of digits that is a Unix time in seconds, milliseconds or microseconds.
UNIX_TIME = r"^[0-9]{9,16}([.][0-9]{1,9})?$"


def times_of(records: DataFrame, mapping: LogMapping) -> dict[str, Column]:
    """event_ts as an instant, and utc_offset_min where it follows from the value or the mapping's zone.

    A number is an instant; a time or a text without an offset is local time of the zone, or UTC without one.
    """
    time = F.expr(mapping.fields["event_ts"])
    kind = records.select(time).schema[0].dataType
    is_text, offset = isinstance(kind, T.StringType), None
    read = F.when(time.rlike(FULL_DATE), time).cast("timestamp") if is_text else time.cast("timestamp")
    if isinstance(kind, T.NumericType):
        instant = instant_of(time)
        if mapping.zone is not None:
            offset = _minutes_between(instant, F.from_utc_timestamp(instant, mapping.zone))
    elif mapping.zone is not None:
        instant = F.to_utc_timestamp(read, mapping.zone)
        offset = _minutes_between(instant, read)
    elif is_text:
        is_number = time.rlike(UNIX_TIME)
        number = F.when(is_number, time).cast(T.DecimalType(25, 9))
        instant = F.when(is_number, instant_of(number)).otherwise(read)
        offset = _offset_suffix(time)
    else:
        instant = read
    given = "utc_offset_min" in mapping.fields
    return (
        {"event_ts": instant} if offset is None or given else {"event_ts": instant, "utc_offset_min": offset}
    )


def instant_of(number: Column) -> Column:
    """A Unix time as a timestamp; its magnitude tells seconds, milliseconds and microseconds apart."""
    seconds = F.timestamp_seconds(number.cast(T.DecimalType(19, 6)))
    millis, micros = F.timestamp_millis(number.cast("long")), F.timestamp_micros(number.cast("long"))
    return F.when(F.abs(number) < 1e11, seconds).when(F.abs(number) < 1e14, millis).otherwise(micros)


def _minutes_between(utc: Column, local: Column) -> Column:
    """Local time minus UTC, where `local` holds the local clock's reading as if it were UTC."""
    return ((F.unix_seconds(local) - F.unix_seconds(utc)) / 60).cast("int")


def _offset_suffix(time: Column) -> Column:
    """The minutes of an ISO time's offset (+02:00, +0200 or Z); NULL without one."""
    pattern = r"[T ][0-9:.]+[+-]([0-9]{2}):?([0-9]{2})$"
    hours, minutes = (F.regexp_extract(time, pattern, group).cast("int") for group in (1, 2))
    sign = F.when(time.rlike(r"-[0-9]{2}:?[0-9]{2}$"), -1).otherwise(1)
    return F.when(time.endswith("Z"), 0).otherwise(sign * (60 * hours + minutes))
