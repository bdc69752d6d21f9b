"""One reading of times for every log: what a value says of itself counts before what is said of its column.

A number is a Unix time, unless its digits write a date and time; a text with an offset or a zone is that
instant; a text without one is the clock reading of the session's time zone, which is the mapping's where it
names one.
"""

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

# A text of a number that is a Unix time: negative, or of nine digits at least, since 2025 and 20250401 are
# none. An exponent writes digits, too.
UNIX_TIME: Final = (
    r"^\s*(?:(?:-[0-9]+|[+]?[0-9]{9,})(?:[.][0-9]*)?"
    r"|[+-]?[1-9][0-9]*(?:[.][0-9]*)?[Ee][+]?(?:0?[89]|1[0-8]))\s*$"
)
# What nearly every log writes, and Spark's cast reads as it is: it spares the rest of the rules.
COMMON: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?!24)[0-9]{2}:[0-9]{2}:[0-5][0-9]([.][0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?\z"
)
# Forms of ISO 8601 (and what RFC 9557 writes in brackets after an offset) that the cast refuses, in the
# order in which they are rewritten. A leap second is the end of the second before, so that it stays on its
# day.
REWRITTEN: Final = (
    (r"^\s+|\s+$", ""),
    ("\u2212", "-"),
    (r"^([0-9]{4})([0-9]{2})([0-9]{2})(?=[Tt][0-9])", "$1-$2-$3"),
    (r"^([0-9-]{10})[Tt ]([0-9]{2})(?=$|[Zz+-])", "$1T$2:00"),
    (r"^([0-9-]{10})[Tt ]([0-9]{2})([0-9]{2})(?![0-9]*:)", "$1T$2:$3"),
    (r"^([0-9-]{10}T[0-9]{2}:[0-9]{2})([0-9]{2})", "$1:$2"),
    (r"^([0-9-]{10})t", "$1T"),
    (r"(?<=[0-9])z(?=$|\[)", "Z"),
    (r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)(?:\[[A-Za-z0-9_/+=!-]+\])+$", "$1"),
    (r"^([0-9-]{10}[T ][0-9]{2}:[0-9]{2})(?=\s?[A-Z+-])", "$1:00"),
    (r"^([0-9-]{10}[T ][0-9:]{8}),(?=[0-9])", "$1."),
    (r"^([0-9-]{10}[T ][0-9]{2}:(?:14|29|44|59)):60(?:[.][0-9]+)?(?![0-9.])", "$1:59.999999"),
)
# Without a full date Spark would read '12:30' as a time of today. Of names of zones it would read
# abbreviations, too, and takes BST for Bangladesh.
READABLE: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.]*)?"
    r"\s?(?:Z|(?:UTC|GMT)?(?:[+-][0-9:]+)?|[A-Z][A-Za-z]+/[A-Za-z0-9_/+-]+)$"
)
# The end of a day, which is the next one's midnight.
END_OF_DAY: Final = r"^[0-9-]{10}[T ]24:00(?::00(?:[.]0+)?)?(?![0-9:.])"
# A clock reading with something behind it: an offset, Z or a zone's name.
_OWN_ZONE: Final = r"^[0-9-]{10}[T ][0-9:.]+\s?[A-Za-z+-]"
# Digits of a date and time, yyyyMMddHHmmss. As a Unix time in milliseconds they would be of the year 2600,
# and those without seconds of some months of 1976.
DIGITS: Final = (
    "^(19[0-9]{2}|20[0-9]{2}|2100)(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
    "([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])$"
)


def instant_of_text(text: Column) -> Column:
    """A text as a timestamp; NULL where it is no full date or Unix time."""
    number = instant_of(text.cast(T.DecimalType(28, 9)))
    other = F.when(text.rlike(UNIX_TIME), number).otherwise(_rewritten(text).cast("timestamp"))
    return F.when(text.rlike(COMMON), text.cast("timestamp")).otherwise(other)


def instant_of(number: Column) -> Column:
    """A Unix time as a timestamp: its magnitude tells seconds and their fractions down to nano apart.

    Digits that are a date and time (DIGITS) are local time of the session's zone.
    """
    size, whole = F.abs(number), number.cast("long")
    seconds = F.timestamp_seconds(number.cast(T.DecimalType(19, 6)))
    # Spark's cast would let larger ones wrap around.
    nanos = F.when(size < 9.2e18, F.timestamp_micros(micros_of_nanos(whole)))
    # Compared first: hardly any number is among them.
    may_be_digits = number.between(19e12, 22e12) | number.between(19e10, 22e10)
    millis = F.timestamp_millis(whole)
    millis = F.when(may_be_digits, F.coalesce(_of_digits(whole), millis)).otherwise(millis)
    micros = F.timestamp_micros(whole)
    return F.when(size < 1e11, seconds).when(size < 1e14, millis).when(size < 1e16, micros).otherwise(nanos)


def micros_of_nanos(nanos: Column) -> Column:
    """Whole microseconds, rounded down before 1970, too; a division of floating point numbers would err."""
    return F.call_function("div", nanos, F.lit(1000)) - (nanos % 1000 < 0).cast("int")


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


def _of_digits(whole: Column) -> Column:
    """The time that a number's digits write; NULL where they write none."""
    digits = F.rpad(whole.cast("string"), 14, "0")
    written = F.regexp_replace(digits, DIGITS, "$1-$2-$3 $4:$5:$6")
    return F.when(digits.rlike(DIGITS), written.cast("timestamp"))


def _rewritten(text: Column) -> Column:
    """A full date and time in a form that Spark's cast reads; NULL for anything else."""
    normal = text
    for pattern, replacement in REWRITTEN:
        normal = F.regexp_replace(normal, pattern, replacement)
    next_day = F.date_add(F.substring(normal, 1, 10).cast("date"), 1).cast("string")
    midnight = F.concat(next_day, F.lit("T00"), F.substring(normal, 14, 100))
    ended = F.when(normal.rlike(END_OF_DAY), midnight).otherwise(normal)
    return F.when(normal.rlike(READABLE), ended)
