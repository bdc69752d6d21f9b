"""The text of every event: what the mapping makes of it, else its own, else its item's on the log day."""

from collections.abc import Mapping

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.ingest.privacy import ColumnFunction, text_key
from jobs.io.messages import JobError, one_sentence
from schemas.behavior_events import TABLE as EVENTS
from schemas.mapping import OTHER_TYPES


def with_texts(of_item: DataFrame, texts: Mapping[str, str], stored_text: ColumnFunction) -> DataFrame:
    """The events with text, text_key and own_text_key.

    Texts: the mapping's, by event type; stored_text: a text's stored form.
    """
    own = of_item.withColumn("own_key", F.col("text_key"))
    resolved = resolve_texts(_made_texts(own, texts, stored_text) if texts else own)
    is_another = ~F.col("own_key").eqNullSafe(F.col("text_key"))
    return resolved.withColumn("own_text_key", F.when(is_another, F.coalesce("own_key", F.lit(""))))


def _made_texts(of_item: DataFrame, texts: Mapping[str, str], stored_text: ColumnFunction) -> DataFrame:
    """The mapping's texts in place of the events' own, where it makes one."""
    try:
        made = of_item.withColumn("made", made_text(texts))
    except AnalysisException as error:
        raise JobError(f"the mapping's texts do not fit: {one_sentence(error)}") from error
    made = made.withColumn("made", stored_text(F.col("made")))
    key = F.coalesce(text_key(F.col("made")), "text_key")
    return made.withColumns({"text": F.coalesce("made", "text"), "text_key": key})


def resolve_texts(of_item: DataFrame) -> DataFrame:
    """Gives each event its own text, else its item's; a retraction has none."""
    names = ("text", "text_key")
    return of_item.withColumns({n: F.coalesce(n, _unless_retract(F.col(f"item_{n}"))) for n in names})


def made_text(texts: Mapping[str, str]) -> Column:
    """The text that the mapping's expressions make of an event and its item.

    NULL where none is given for its type.
    """
    made = F.expr(texts[OTHER_TYPES]) if OTHER_TYPES in texts else F.lit(None)
    for type_, expression in texts.items():
        if type_ != OTHER_TYPES:
            made = F.when(F.col("event_type") == type_, F.expr(expression)).otherwise(made)
    return _unless_retract(made.cast("string"))


def _unless_retract(text: Column) -> Column:
    return F.when(F.col("event_type") != "retract", text)


def to_events(resolved: DataFrame, user_buckets: int) -> DataFrame:
    """The rows of behavior_events."""
    bucket = F.pmod(F.xxhash64("user_id"), F.lit(user_buckets)).cast("int")
    return resolved.withColumn("user_bucket", bucket).select(*EVENTS.names)
