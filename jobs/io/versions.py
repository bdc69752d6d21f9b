"""The version of an item that was valid on a day."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F


def with_item(events: DataFrame, versions: DataFrame, shown: Sequence[str]) -> DataFrame:
    """The events with the columns `shown` of their item's version valid on their log day, as item_ + name.

    versions: rows of items.
    """
    in_time = Window.partitionBy("item_id").orderBy("valid_from")
    named = [F.col(name).alias(f"item_{name}") for name in shown]
    until = F.lead("valid_from").over(in_time).alias("valid_to")
    ranges = versions.select("item_id", *named, "valid_from", until).alias("v")
    valid = (
        (F.col("e.item_id") == F.col("v.item_id"))
        & (F.col("e.log_date") >= F.col("v.valid_from"))
        & (F.col("v.valid_to").isNull() | (F.col("e.log_date") < F.col("v.valid_to")))
    )
    joined = events.alias("e").join(ranges, valid, "left")
    return joined.select("e.*", *[f"v.item_{name}" for name in shown])
