"""From records as they were read to event fields, by the mapping's expressions."""

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.times import times_of
from jobs.io import logs
from schemas.mapping import EVENT_FIELDS, LogMapping

IDS = ["event_id", "user_id", "event_type", "item_id", "retracts_event_id", "session_id"]
# Before the names of the source's own fields, which keeps them apart from ours.
AS_READ = "as read "
# Tabs and line ends are white space in a text, and nothing in an id; nor is what stands for bytes of another encoding, which would make
# one id of several.
NOT_IN_IDS, NOT_IN_TEXTS = "[\\x00-\\x1f\\x7f-\\x9f\ufffd]", r"[\x00-\x08\x0e-\x1b\x7f]"
# What normalise (udfs/text.py) takes for white space.
BLANKS = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# What an id begins with that the log did not give, so that no log can give it too.
DERIVED, GIVEN = "~", "given "


def map_records(records: DataFrame, mapping: LogMapping) -> DataFrame:
    """Every event field by the mapping's expressions, and whether the filter lets the record pass; with the source's own fields."""
    fields = {name: field(mapping.fields.get(name), type_) for name, type_ in EVENT_FIELDS.items()}
    fields |= times_of(records, mapping)
    fields |= {name: _unless_blank(fields[name]) for name in IDS}
    fields |= {name: once_each(fields[name]) for name in ("attributes", "extra")}
    # A retraction says nothing of its own: it takes its target away, and has no text.
    fields["text"] = F.when(fields["event_type"] != "retract", fields["text"])
    scale = mapping.rating_max - mapping.rating_min
    fields["rating"] = (fields["rating"] - F.lit(mapping.rating_min)) / F.lit(scale)
    unreadable = F.col(logs.quoted(logs.UNREADABLE))
    passed = (
        F.coalesce(F.expr(mapping.filter), F.lit(False)) | unreadable.isNotNull()
        if mapping.filter is not None
        else F.lit(True)
    )
    return records.select(
        F.col(logs.quoted(logs.LOG_DATE)).alias("log_date"),
        F.col(logs.quoted(logs.SOURCE_FILE)).alias("source_file"),
        unreadable.alias("unreadable"),
        F.col(logs.quoted(logs.WRONG_TYPE)).alias("wrong_type"),
        *[
            F.col(logs.quoted(name)).alias(f"{AS_READ}{name}")
            for name in records.columns
            if name not in logs.ADDED
        ],
        passed.alias("passed"),
        *[column.alias(name) for name, column in fields.items()],
    )


def misfit(records: DataFrame, mapping: LogMapping) -> str:
    """The name of the first expression of the mapping that can't be asked of the records, as the beginning of a sentence."""
    for name, expression in {**mapping.fields, "filter": mapping.filter or "true"}.items():
        try:
            records.select(F.expr(expression))
        except AnalysisException:
            return f"{name}: "
    return ""


def field(expression: str | None, type_: T.DataType) -> Column:
    return (F.lit(None) if expression is None else F.expr(expression)).cast(type_)


def _unless_blank(text: Column) -> Column:
    # What begins with anything above a blank is not blank: comparing costs less than trimming every id.
    return F.when((text >= "!") | (F.trim(text) != ""), text)


def once_each(map_: Column) -> Column:
    """A map with each key once, the last of several (jobs/io/session.py): JSON's reader keeps all that there are."""
    return F.map_from_entries(F.map_entries(map_))


def can_be_seen(text: Column) -> Column:
    """Whether a text is more than white space. Most begin with a character of ASCII that can be seen, and are not searched."""
    return text.between("!", "~") | text.rlike(f"[^{BLANKS}]")
