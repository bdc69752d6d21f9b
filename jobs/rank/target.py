"""Which events say that a user chose an item, and which count at all."""

from typing import Final

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.io.messages import JobError, one_sentence
from jobs.io.plans import require_plain
from schemas.fold_settings import FoldSettings

IMPRESSION: Final = "impression"
RETRACT: Final = "retract"
# The least rating of a choice, of 0..1: 4 of 5 stars and more.
LEAST_RATING: Final = 0.75
# A choice is of a type with at least this share of the largest weight.
LEAST_WEIGHT: Final = 0.5


def counted(fold: FoldSettings) -> Column:
    """Whether an event says anything of a user and an item: its type has a weight above 0."""
    return F.col("item_id").isNotNull() & _weighs(fold, 0.0, strictly=True)


def default_target(fold: FoldSettings, negative: Column) -> Column:
    """A choice by default: of a type that weighs enough, not negative, and well rated where it is rated.

    negative: whether the event enters the facet `negative`.
    """
    heaviest = max([*fold.type_weights.values(), fold.default_type_weight])
    is_heavy = _weighs(fold, LEAST_WEIGHT * heaviest, strictly=False)
    is_liked = F.col("rating").isNull() | (F.col("rating") >= LEAST_RATING)
    return is_heavy & ~negative & is_liked


def target(seen: DataFrame, text: str) -> Column:
    """A choice by the user's own predicate, NULL counting as false. Raises JobError where it does not fit.

    seen: events with the columns that a predicate may use.
    """
    try:
        require_plain(seen, {"--target": text})
        _ = seen.where(text).schema
    except AnalysisException as error:
        raise JobError(f"--target: {one_sentence(error)}") from error
    return F.coalesce(F.expr(text), F.lit(False))


def _weighs(fold: FoldSettings, least: float, strictly: bool) -> Column:
    """Whether the event's type weighs at least, or more than, so much; impressions and retractions don't."""

    def is_enough(weight: float) -> bool:
        return weight > least if strictly else weight >= least

    types = [name for name, weight in fold.type_weights.items() if is_enough(weight)]
    is_listed = F.col("event_type").isin(types)
    if is_enough(fold.default_type_weight):
        is_listed |= ~F.col("event_type").isin(list(fold.type_weights))
    return is_listed & ~F.col("event_type").isin(IMPRESSION, RETRACT)
