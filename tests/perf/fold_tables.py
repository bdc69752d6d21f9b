"""Events, vectors and profiles straight into tables, for the benchmarks of the fold: nothing is ingested or embedded for them.

Every value is a function of its row's number, so that a table is the same however often it is made.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs import fold_profiles
from jobs.fold.days import fold_days
from jobs.io import delta
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from jobs.io.session import fit_to_size, letting_go
from schemas import behavior_events, text_embeddings
from schemas.settings import Settings
from schemas.table import VECTOR

DIM = 384
SETTINGS = Settings.model_validate({"engine": {"kind": "hash", "hash_dimensions": DIM}})
FIRST = date(2025, 3, 3)


def draw(seed: int, below: int, *of: str) -> Column:
    """A number in 0..below - 1 for each row, by a hash."""
    return F.pmod(F.xxhash64(F.lit(seed), *of), F.lit(below))


def text_key(number: Column) -> Column:
    return F.sha2(number.cast("string"), 256)


def write_events(
    spark: SparkSession,
    warehouse: str,
    first: date,
    days: int,
    a_day: int,
    users: int,
    texts: int,
    before: int = 0,
    user_from: int = 0,
) -> None:
    """a_day events on each day of users by a hash, each with one of the texts; with texts = 0 every event has its own.

    `before` is the number of the first event and `user_from` that of the first user, so that two calls give others. Appends.
    """
    rows = spark.range(before, before + days * a_day).withColumn(
        "day", F.expr(f"CAST((id - {before}) DIV {a_day} AS INT)")
    )
    text = F.col("id") if texts == 0 else draw(2, texts, "id")
    seconds = F.unix_seconds(F.lit(first).cast("timestamp")) + F.col("day") * 86_400 + draw(3, 86_400, "id")
    user = F.concat(F.lit("user-"), F.lpad((draw(1, users, "id") + user_from).cast("string"), 9, "0"))
    made = rows.select(
        F.sha2(F.concat(F.lit("event"), F.col("id")), 256).alias("event_id"),
        user.alias("user_id"),
        F.timestamp_seconds(seconds).alias("event_ts"),
        F.date_add(F.lit(first), F.col("day")).alias("event_date"),
        F.element_at(
            F.array(*map(F.lit, ("view", "click", "purchase", "rating"))), (draw(4, 4, "id") + 1).cast("int")
        ).alias("event_type"),
        text_key(text).alias("text_key"),
        F.lit("a text").alias("text"),
        F.when(draw(4, 4, "id") == 3, F.when(draw(5, 10, "id") == 0, 0.25).otherwise(0.75)).alias("rating"),
        F.lit("dt/part").alias("source_file"),
        F.lit(0).alias("ordinal"),
    ).withColumns(
        {"log_date": F.col("event_date"), "user_bucket": F.pmod(F.xxhash64("user_id"), F.lit(64)).cast("int")}
    )
    present = set(made.columns)
    missing = {
        c.name: F.lit(None).cast(c.type) for c in behavior_events.TABLE.columns if c.name not in present
    }
    delta.append(spark, warehouse, behavior_events.TABLE, made.withColumns(missing))


def vectors(rows: DataFrame) -> DataFrame:
    """Adds a unit vector of DIM numbers by the row's `id`."""
    schema = T.StructType([*rows.schema.fields, T.StructField("vector", VECTOR)])

    def made(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            drawn = np.stack(
                [
                    np.random.default_rng(int(i)).standard_normal(DIM, np.float32)
                    for i in batch["id"].to_numpy()
                ]
            )
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
            offsets = pa.array(np.arange(len(drawn) + 1, dtype=np.int32) * DIM)
            yield pa.RecordBatch.from_arrays(
                [*batch.columns, pa.ListArray.from_arrays(offsets, pa.array(drawn.ravel()))], schema.names
            )

    return rows.mapInArrow(made, schema)


def write_vectors(spark: SparkSession, warehouse: str, texts: int) -> None:
    rows = vectors(spark.range(texts)).select(
        text_key(F.col("id")).alias("text_key"), F.lit(model_key_of(SETTINGS.engine)).alias("model_key"), F.lit(DIM).alias("dim"),
        F.lit(5).alias("token_count"), F.lit(False).alias("truncated"), F.lit("hash").alias("engine"), F.lit("float32").alias("dtype"),
        F.lit("bench").alias("created_run"), "vector",
    )  # fmt: skip
    delta.overwrite(spark, warehouse, text_embeddings.TABLE, rows)


def fold(spark: SparkSession, warehouse: str, first: date, last: date) -> Run:
    """The fold of the days as the job does it, but for its records; returns its counts and seconds by phase."""
    fit_to_size(spark, [warehouse])
    run = Run("bench", fold_profiles.JOB, first, last, SETTINGS.config_hash())
    with letting_go(spark):
        fold_days(spark, warehouse, SETTINGS, run, first, last)
    return run


def day(number: int) -> date:
    return FIRST + timedelta(days=number)
