"""From records as they were read to event fields, by the mapping's expressions."""

from collections.abc import Mapping

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.times import times_of, with_time
from jobs.io.columns import fitted, quoted
from jobs.io.days import Days
from jobs.io.formats import UNREADABLE
from jobs.io.logs import ADDED, LOG_DATE, SOURCE_FILE, WRONG_TYPE, Logs, read_days
from jobs.io.session import moved
from schemas.mapping import EVENT_FIELDS, EventSource
from udfs.text import ODD, STRIPPED, VISIBLE

# Prefix of the source's own fields, which keeps their names apart from ours.
AS_READ = "as read "
IDS = ["event_id", "user_id", "event_type", "item_id", "retracts_event_id", "session_id"]
# An id may not hold what would be stripped from a text, nor tabs and line ends, nor the replacement
# character, which would make one id of several.
NOT_IN_IDS = f"[\\x00-\\x1f\\x7f-\\x9f\ufffd]|{STRIPPED}"
# Controls that are no white space, in fields that are neither ids nor texts.
NOT_IN_OTHERS = r"[\x00-\x08\x0e-\x1b\x7f]"
# What nearly all records consist of, but none that the two above refuse or whose text is stripped. One match
# of the whole is several times faster than a search for what is odd.
PLAIN = r"^[ -~\xae-\u034e\u0350-\u061b\u061d-\u17b3\u17b6-\u180a\u1810-\u200a\u2070-\ud7ff]*+\z"
# Prefix of event ids that the ingest derives; a log may not use it.
DERIVED = "~"


def read_records(spark: SparkSession, logs: Logs, days: Days) -> list[DataFrame]:
    """The mapped records of the days, a frame for each source of the mapping."""
    return [
        map_records(read_days(spark, one.source, logs.folders(days, name), logs.root, one.zone), one, spark)
        for name, one in logs.mapping.sources.items()
    ]


def map_records(records: DataFrame, mapping: EventSource, spark: SparkSession) -> DataFrame:
    """Event fields by the mapping's expressions, whether the filter passes, and the source's own fields.

    records: as jobs.io.logs.read_days returns them, in a session of the mapping's zone; the events are in
    the session that is given.
    """
    types = {name: type_ for name, type_ in EVENT_FIELDS.items() if name != "event_ts"}
    fields, unfit = typed_fields(records, mapping.fields, types)
    timed = with_time(records, mapping)
    fields |= times_of(timed, mapping)
    fields |= {name: _unless_blank(fields[name]) for name in IDS}
    fields |= {name: with_unique_keys(fields[name]) for name in ("attributes", "extra")}
    # A retraction only removes its target; it has no text of its own.
    fields["text"] = F.when(fields["event_type"] != "retract", fields["text"])
    scale = mapping.rating_max - mapping.rating_min
    fields["rating"] = (fields["rating"] - F.lit(mapping.rating_min)) / F.lit(scale)
    unreadable = F.col(quoted(UNREADABLE))
    passed = F.lit(True)
    if mapping.filter is not None:
        # Where a filter is NULL because a value has the wrong type, it says nothing about the record.
        is_wrong = F.col(quoted(WRONG_TYPE)).isNotNull()
        passed = F.coalesce(F.expr(mapping.filter), is_wrong) | unreadable.isNotNull()
    own = [name for name in records.columns if name not in ADDED]
    mapped = timed.select(
        F.col(quoted(LOG_DATE)).alias("log_date"),
        F.col(quoted(SOURCE_FILE)).alias("source_file"),
        unreadable.alias("unreadable"),
        first_wrong(unfit).alias("wrong_type"),
        *[F.col(quoted(name)).alias(f"{AS_READ}{name}") for name in own],
        passed.alias("passed"),
        *[column.alias(name) for name, column in fields.items()],
    )
    return moved(mapped, spark)


def misfit(records: DataFrame, mapping: EventSource) -> str:
    """The first field of the mapping whose expression the records can't answer, to start a sentence."""
    for name, expression in mapping.expressions.items():
        try:
            records.select(F.expr(expression))
        except AnalysisException:
            return f"{name}: "
    return ""


def typed_fields(
    records: DataFrame, expressions: Mapping[str, str], types: Mapping[str, T.DataType]
) -> tuple[dict[str, Column], dict[str, Column]]:
    """Each field's expression as its type; and of those that may give other values whether one does not fit.

    Fields without an expression are NULL. What an expression itself makes NULL fits.
    """
    given = {name: F.expr(expressions[name]) for name in types if name in expressions}
    kinds = records.select(*[column.alias(name) for name, column in given.items()]).schema
    fields = {name: F.lit(None).cast(type_) for name, type_ in types.items()}
    unfit = {}
    for name, column in given.items():
        fields[name], is_unfit = fitted(column, kinds[name].dataType, types[name])
        if is_unfit is not None:
            unfit[name] = is_unfit
    return fields, unfit


def first_wrong(unfit: Mapping[str, Column]) -> Column:
    """The first column of the source, or else field, that is not of its type; NULL without one."""
    return F.coalesce(quoted(WRONG_TYPE), *[F.when(column, F.lit(name)) for name, column in unfit.items()])


def _unless_blank(text: Column) -> Column:
    # A text that sorts after "!" does not start with a blank; comparing is cheaper than trimming every id.
    return F.when((text >= "!") | (F.trim(text) != ""), text)


def with_unique_keys(map_: Column) -> Column:
    """A map with each key once, keeping the last entry: JSON's reader keeps duplicates.

    map_from_entries applies the session's rule (mapKeyDedupPolicy).
    """
    return F.map_from_entries(F.map_entries(map_))


def is_visible(text: Column) -> Column:
    """Whether a text has more than white space and characters that are not seen.

    Most start with a visible ASCII character and need no search.
    """
    return text.between("!", "~") | text.rlike(VISIBLE)


def is_cleaned(text: Column) -> Column:
    """Whether the normal form strips something from a text that is no white space; never NULL."""
    # Each search is slower than the one before, and rarer.
    found = ~text.rlike(PLAIN) & text.rlike(f"[{ODD}]") & text.rlike(STRIPPED)
    return F.coalesce(found, F.lit(False))
