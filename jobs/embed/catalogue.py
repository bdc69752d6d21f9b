"""Writes the mean vector of the catalogue for the log days on which an item began or changed."""

from datetime import date, timedelta

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.io.days import Days
from jobs.io.runs import Run
from schemas import catalogue_stats, items, text_embeddings
from udfs.catalogue import INPUT, OUTPUT_SCHEMA, change_stream, means_by_day

EPOCH = date(1970, 1, 1)


def write_stats(run: Run, model_key: str, days: Days) -> None:
    """Replaces the model's rows of the days; without a commit where they are the same."""
    warehouse = run.warehouse
    versions = warehouse.read(items.TABLE).where(F.col("valid_from") <= days.last)
    begun = versions.where(days.sql("valid_from")).select("valid_from").distinct().collect()
    of_model = f"{days.sql('as_of_date')} AND model_key = '{model_key}'"
    is_there = warehouse.exists(catalogue_stats.TABLE)
    stored = warehouse.read(catalogue_stats.TABLE).where(of_model).collect() if is_there else []
    if not begun and not stored:
        return
    vectors = warehouse.read(text_embeddings.TABLE).where(F.col("model_key") == model_key)
    means = means_on(sorted(row["valid_from"] for row in begun), versions, vectors)
    rows = [(day, model_key, count, mean) for day, (count, mean) in means.items()]
    if sorted(tuple(row) for row in stored) != rows:
        made = run.spark.createDataFrame(rows, catalogue_stats.TABLE.spark_schema()).coalesce(1)
        run.writer.replace(catalogue_stats.TABLE, made, of_model)


def means_on(
    days: list[date], versions: DataFrame, vectors: DataFrame
) -> dict[date, tuple[int, list[float]]]:
    """Items in force with a vector and the mean of their vectors at the end of each day, in order.

    Without days on which there is none. days: ascending. versions: rows of items, up to the last of the days.
    vectors: a model's rows of text_embeddings.
    """
    if not days:
        return {}
    in_time = Window.partitionBy("item_id").orderBy("valid_from")
    until = F.lead("valid_from").over(in_time)
    # What was over before the first day counts nowhere.
    ranges = versions.withColumn("until", until).where(F.col("until").isNull() | (F.col("until") > days[0]))
    since = F.greatest("valid_from", F.lit(days[0]))
    dated = {"since": F.unix_date(since), "until": F.unix_date("until")}
    of_items = ranges.join(vectors, "text_key").withColumns(dated).select(*INPUT)
    changes: dict[int, tuple[int, np.ndarray]] = {}
    # As many rows as days and partitions, whatever the number of items.
    for row in of_items.mapInArrow(change_stream, from_arrow_schema(OUTPUT_SCHEMA)).collect():
        count, sums = changes.get(row["day"], (0, np.int64(0)))
        changes[row["day"]] = count + row["items"], sums + np.array(row["sums"], np.int64)
    found = {
        EPOCH + timedelta(days=day): (n, mean.tolist()) for day, (n, mean) in means_by_day(changes).items()
    }
    return {day: found[day] for day in days if day in found}
