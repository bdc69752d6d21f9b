"""What the log says of items that were shown: events of type `impression`, which have weight 0.

`extra` may hold `position` (from 1) and `propensity`, the probability with which the item was shown there.
Weighted by its inverse, figures are those of a page that shows all items alike (self-normalised, Swaminathan
and Joachims, 2015); without it they are those of the pages that were shown.
"""

from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.rank.target import IMPRESSION

CLICK: Final = "click"
# Impressions at a later position do not count for conversion.
LAST_POSITION: Final = 10


def exposure_of(events: DataFrame, horizon: int) -> dict[str, Any] | None:
    """Click-through and conversion of what was shown; None where the log has no impressions.

    events: with `chosen`. An impression is clicked, or converted, where the same user clicks, or chooses,
    the item at its time or up to `horizon` days later.
    """
    shown = events.where((F.col("event_type") == IMPRESSION) & F.col("item_id").isNotNull())
    acts = events.where(F.col("item_id").isNotNull() & ((F.col("event_type") == CLICK) | F.col("chosen")))
    times = acts.groupBy("user_id", "item_id").agg(
        F.collect_list(F.when(F.col("event_type") == CLICK, F.col("event_ts"))).alias("clicks"),
        F.collect_list(F.when(F.col("chosen"), F.col("event_ts"))).alias("choices"),
    )
    until = F.col("event_ts") + F.make_interval(days=F.lit(horizon))

    def follows(name: str) -> Column:
        later = F.exists(name, lambda time: (time >= F.col("event_ts")) & (time <= until))
        return F.coalesce(later, F.lit(False)).cast("double")

    propensity = F.try_element_at("extra", F.lit("propensity")).cast("double")
    position = F.try_element_at("extra", F.lit("position")).cast("int")
    is_first = F.coalesce(position <= LAST_POSITION, F.lit(True))
    rows = shown.join(times, ["user_id", "item_id"], "left").select(
        "user_id",
        follows("clicks").alias("clicked"),
        F.when(is_first, follows("choices")).alias("converted"),
        F.when((propensity > 0) & (propensity <= 1), 1 / propensity).alias("weight"),
    )
    found = rows.agg(
        F.count("*").alias("impressions"),
        F.countDistinct("user_id").alias("users"),
        F.avg("clicked").alias("ctr"),
        F.avg("converted").alias("conversion"),
        F.count("weight").alias("with_propensity"),
        _weighted("clicked").alias("ctr_weighted"),
        _weighted("converted").alias("conversion_weighted"),
    )
    values = found.collect()[0].asDict()
    return values if values["impressions"] else None


def _weighted(name: str) -> Column:
    """The mean of a figure, weighted by inverse propensity; NULL without any."""
    weight = F.when(F.col(name).isNotNull(), F.col("weight"))
    return F.sum(F.col(name) * weight) / F.sum(weight)
