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
    return F.when(text.rlike(UNIX_TIME), number).otherwise(_normal(text).cast("timestamp"))


def instant_of(number: Column) -> Column:
    """A Unix time as a timestamp; its magnitude tells seconds, milliseconds and microseconds apart."""
    seconds = F.timestamp_seconds(number.cast(T.DecimalType(19, 6)))
    millis, micros = F.timestamp_millis(number.cast("long")), F.timestamp_micros(number.cast("long"))
    return F.when(F.abs(number) < 1e11, seconds).when(F.abs(number) < 1e14, millis).otherwise(micros)


def clock_reading(text: Column) -> Column:
    """The date and time that a text shows (TIMESTAMP_NTZ), whatever offset or zone follows them."""
    return _normal(text).cast("timestamp_ntz")


def names_its_zone(text: Column) -> Column:
    """Whether a date and time is followed by an offset, Z or a zone."""
    return _normal(text).rlike(_OWN_ZONE)


def _normal(text: Column) -> Column:
    """A full date and time in a form that Spark's cast reads; NULL for anything else."""
    normal = F.trim(text)
    for pattern, replacement in _REWRITTEN:
        normal = F.regexp_replace(normal, pattern, replacement)
    return F.when(text.rlike(COMMON), text).when(normal.rlike(FULL_DATE), normal)
