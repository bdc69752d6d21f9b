"""One reading of times for every log: what a value says of itself counts before what is said of its column.

A number is a Unix time; a text with an offset or a zone is that instant; a text without one is the clock
reading of the session's time zone, which is the mapping's where it names one.
"""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

# A text of digits that is a Unix time in seconds, milliseconds or microseconds.
UNIX_TIME: Final = r"^[0-9]{9,16}([.][0-9]{1,9})?$"
# Without this prefix Spark would read '12:30' as a time of today.
FULL_DATE: Final = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
# What nearly every log writes, and Spark's cast reads as it is: it spares the rest of the rules.
COMMON: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?$"
)
# Forms of ISO 8601 (and RFC 9557's name of the zone after an offset) that the cast refuses, in the order in
# which they are rewritten.
_REWRITTEN: Final = (
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})(?=[Tt][0-9])", "$1-$2-$3"),
    (r"^([0-9-]{10})[Tt ]([0-9]{2})([0-9]{2})(?![0-9]*:)", "$1T$2:$3"),
    (r"^([0-9-]{10}T[0-9]{2}:[0-9]{2})([0-9]{2})", "$1:$2"),
    (r"^([0-9-]{10})t", "$1T"),
    (r"(?<=[0-9])z$", "Z"),
    (r"((?:Z|[+-][0-9]{2}:?[0-9]{2}))\[[A-Za-z0-9_/+=-]+\]$", "$1"),
    (r"^([0-9-]{10}[T ][0-9]{2}:[0-9]{2})(?=\s?[Z+-])", "$1:00"),
    (r"^([0-9-]{10}[T ][0-9:]{8}),(?=[0-9])", "$1."),
)
# A clock reading with something behind it: an offset, Z or a zone's name.
_OWN_ZONE: Final = r"^[0-9-]{10}[T ][0-9:.]+\s?[A-Za-z+-]"


def instant_of_text(text: Column) -> Column:
    """A text as a timestamp; NULL where it is no full date or Unix time."""
    number = instant_of(text.cast(T.DecimalType(25, 9)))
    other = F.when(text.rlike(UNIX_TIME), number).otherwise(_rewritten(text).cast("timestamp"))
    return F.when(text.rlike(COMMON), text.cast("timestamp")).otherwise(other)


def instant_of(number: Column) -> Column:
    """A Unix time as a timestamp; its magnitude tells seconds, milliseconds and microseconds apart."""
    seconds = F.timestamp_seconds(number.cast(T.DecimalType(19, 6)))
    millis, micros = F.timestamp_millis(number.cast("long")), F.timestamp_micros(number.cast("long"))
    return F.when(F.abs(number) < 1e11, seconds).when(F.abs(number) < 1e14, millis).otherwise(micros)


def offset_of_text(text: Column, instant: Column) -> Column:
    """Minutes that the offset or zone at the end of a text is ahead of UTC; NULL without one.

    instant: the text as a timestamp.
    """
    minutes = F.substring(text, -5, 2).cast("int") * 60 + F.substring(text, -2, 2).cast("int")
    sign = F.substring(text, -6, 1)
    of_common = F.when(sign == "+", minutes).when(sign == "-", -minutes).when(F.endswith(text, F.lit("Z")), 0)
    normal = _rewritten(text)
    of_other = F.when(normal.rlike(_OWN_ZONE), minutes_ahead(normal.cast("timestamp_ntz"), instant))
    return F.when(text.rlike(COMMON), of_common).otherwise(of_other)


def minutes_ahead(reading: Column, instant: Column) -> Column:
    """How far a clock reading (TIMESTAMP_NTZ) is ahead of UTC."""
    shown = F.unix_date(F.to_date(reading)) * 1440 + F.hour(reading) * 60 + F.minute(reading)
    return (shown - F.floor(F.unix_seconds(instant) / 60)).cast("int")


def _rewritten(text: Column) -> Column:
    """A full date and time in a form that Spark's cast reads; NULL for anything else."""
    normal = F.trim(text)
    for pattern, replacement in _REWRITTEN:
        normal = F.regexp_replace(normal, pattern, replacement)
    return F.when(normal.rlike(FULL_DATE), normal)
