"""The facets that an event enters, by predicates over what is known of it."""

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io.messages import JobError, one_sentence
from jobs.io.plans import names_used, require_plain
from jobs.io.versions import with_item
from schemas import behavior_events
from schemas.fold_settings import FoldSettings

# Columns hidden from predicates: how a record arrived says nothing about what the user did.
HIDDEN = ("log_date", "source_file", "event_id", "ordinal", "is_refused")
ATTRIBUTES = "item_attributes"


def with_seen(events: DataFrame) -> DataFrame:
    """Adds the columns that predicates have besides those of behavior_events.

    polarity: NULL, since no job measures it yet; the default of `negative_where` asks for it. local_ts: what
    the user's clock showed (TIMESTAMP_NTZ), NULL where the log does not tell; local_hour: its hour, 0 to 23;
    local_weekday: its day of the week, 1 (Monday) to 7. item_attributes: NULL, where with_attributes did not
    add it.
    """
    shifted = F.timestamp_micros(
        F.unix_micros("event_ts") + F.col("utc_offset_min").cast("long") * 60_000_000
    )
    local = shifted.cast("timestamp_ntz")
    seen = {
        "polarity": F.lit(None).cast("double"),
        "local_ts": local,
        "local_hour": F.hour(local),
        "local_weekday": F.weekday(local) + 1,
    }
    if ATTRIBUTES not in events.columns:
        seen[ATTRIBUTES] = F.lit(None).cast("map<string,string>")
    return events.withColumns(seen)


def with_attributes(events: DataFrame, versions: DataFrame, fold: FoldSettings) -> DataFrame:
    """Adds item_attributes, those of the item on the event's log day, where a predicate asks for them.

    versions: rows of items.
    """
    seen = with_seen(events.limit(0)).drop(*HIDDEN)
    answers = [_answers(seen, name, text) for name, text in fold.predicates.items()]
    are_asked = any(ATTRIBUTES in names_used(answer) for answer in answers)
    return with_item(events, versions, ["attributes"]) if are_asked else events


def facets_of(events: DataFrame, fold: FoldSettings) -> Column:
    """The facets an event enters: `negative` alone, or `main` and every named one whose predicate is true.

    events: as with_seen returns them.
    """
    seen = events.drop(*HIDDEN)
    negative, *others = [_predicate(seen, name, text) for name, text in fold.predicates.items()]
    named = [F.when(other, F.lit(f.name)) for other, f in zip(others, fold.named, strict=True)]
    rest = F.array_compact(F.array(F.lit("main"), *named))
    return F.when(negative, F.array(F.lit("negative"))).otherwise(rest)


def require_predicates(spark: SparkSession, fold: FoldSettings) -> None:
    """Raises JobError where a predicate does not fit the columns it may use. Reads nothing."""
    empty = spark.createDataFrame([], behavior_events.TABLE.spark_schema())
    facets_of(with_seen(empty), fold)


def _predicate(seen: DataFrame, name: str, text: str) -> Column:
    """A setting's predicate, checked against the columns it may use; NULL is false."""
    _answers(seen, name, text)
    try:
        # As a filter, it must be true or false.
        _ = seen.where(text).schema
    except AnalysisException as error:
        raise JobError(f"{name}: {one_sentence(error)}") from error
    return F.coalesce(F.expr(text), F.lit(False))


def _answers(seen: DataFrame, name: str, text: str) -> DataFrame:
    """What a predicate says of each event. Raises JobError where it asks for a column that is not there."""
    try:
        require_plain(seen, {name: text})
        # A filter would resolve hidden columns of the frame below; a selection does not.
        return seen.select(F.expr(text))
    except AnalysisException as error:
        raise JobError(f"{name}: {one_sentence(error)}") from error
