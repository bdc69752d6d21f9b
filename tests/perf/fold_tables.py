"""Events and vectors written directly into tables, for the benchmarks of the fold.

Every value is a function of its row's number, so a table is the same each time it is made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.fold.days import JOB, fold_days
from jobs.io.days import Days
from jobs.io.model import model_key_of
from jobs.io.runs import Run, RunLog, RunSpec
from jobs.io.session import fit_to_size, release_checkpoints
from jobs.io.warehouse import Warehouse, open_writer
from schemas import behavior_events, text_embeddings
from schemas.settings import Settings
from schemas.table import VECTOR

DIM = 384
SETTINGS = Settings.model_validate({"engine": {"kind": "hash", "hash_dimensions": DIM}})
FIRST = date(2025, 3, 3)
EVENT_TYPES = ("view", "click", "purchase", "rating")


@dataclass(frozen=True)
class Traffic:
    """Events of consecutive days from `first` on.

    a_day: events on each day; users, texts: how many they are drawn from, by a hash (with texts = 0 each
    event has its own); before, user_from: numbers of the first event and user, so that two writes differ.
    """

    a_day: int
    users: int
    texts: int
    first: date = FIRST
    days: int = 1
    before: int = 0
    user_from: int = 0


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def draw(seed: int, below: int, *of: str) -> Column:
    """A number in 0..below - 1 for each row, by a hash."""
    return F.pmod(F.xxhash64(F.lit(seed), *of), F.lit(below))


def text_key(number: Column) -> Column:
    return F.sha2(number.cast("string"), 256)


def write_events(warehouse: Warehouse, traffic: Traffic) -> None:
    """Appends the events."""
    first, count = F.lit(traffic.first), traffic.days * traffic.a_day
    ids = warehouse.spark.range(traffic.before, traffic.before + count)
    rows = ids.withColumn("day", F.expr(f"CAST((id - {traffic.before}) DIV {traffic.a_day} AS INT)"))
    text = F.col("id") if traffic.texts == 0 else draw(2, traffic.texts, "id")
    seconds = F.unix_seconds(first.cast("timestamp")) + F.col("day") * 86_400 + draw(3, 86_400, "id")
    user = (draw(1, traffic.users, "id") + traffic.user_from).cast("string")
    kind = draw(4, len(EVENT_TYPES), "id")
    rating = F.when(draw(5, 10, "id") == 0, 0.25).otherwise(0.75)
    made = rows.select(
        F.sha2(F.concat(F.lit("event"), F.col("id")), 256).alias("event_id"),
        F.concat(F.lit("user-"), F.lpad(user, 9, "0")).alias("user_id"),
        F.timestamp_seconds(seconds).alias("event_ts"),
        F.date_add(first, F.col("day")).alias("event_date"),
        F.element_at(F.array(*map(F.lit, EVENT_TYPES)), (kind + 1).cast("int")).alias("event_type"),
        text_key(text).alias("text_key"),
        F.lit("a text").alias("text"),
        F.when(kind == EVENT_TYPES.index("rating"), rating).alias("rating"),
        F.lit("dt/part").alias("source_file"),
        F.lit(0).alias("ordinal"),
    )
    bucket = F.pmod(F.xxhash64("user_id"), F.lit(64)).cast("int")
    made = made.withColumns({"log_date": F.col("event_date"), "user_bucket": bucket})
    absent = [c for c in behavior_events.TABLE.columns if c.name not in made.columns]
    made = made.withColumns({c.name: F.lit(None).cast(c.type) for c in absent})
    with open_writer(warehouse, "bench") as writer:
        writer.append(behavior_events.TABLE, made)


def vectors(rows: DataFrame) -> DataFrame:
    """Adds a unit vector of DIM numbers, drawn by the row's `id`."""
    schema = T.StructType([*rows.schema.fields, T.StructField("vector", VECTOR)])

    def drawn(number: int) -> np.ndarray:
        return np.random.default_rng(number).standard_normal(DIM, np.float32)

    def made(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            block = np.stack([drawn(int(number)) for number in batch["id"].to_numpy()])
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            offsets = pa.array(np.arange(len(block) + 1, dtype=np.int32) * DIM)
            column = pa.ListArray.from_arrays(offsets, pa.array(block.ravel()))
            yield pa.RecordBatch.from_arrays([*batch.columns, column], schema.names)

    return rows.mapInArrow(made, schema)


def write_vectors(warehouse: Warehouse, texts: int) -> None:
    """Replaces the vectors by those of this many texts."""
    rows = vectors(warehouse.spark.range(texts)).select(
        text_key(F.col("id")).alias("text_key"),
        F.lit(model_key_of(SETTINGS.engine)).alias("model_key"),
        F.lit(DIM).alias("dim"),
        F.lit(5).alias("token_count"),
        F.lit(False).alias("truncated"),
        F.lit("hash").alias("engine"),
        F.lit("float32").alias("dtype"),
        F.lit("bench").alias("created_run"),
        "vector",
    )
    with open_writer(warehouse, "bench") as writer:
        writer.overwrite(text_embeddings.TABLE, rows)


def fold(warehouse: Warehouse, first: date, last: date) -> Run:
    """Folds the days as the job does, but without run records; returns the run with counts and phases."""
    spark, days = warehouse.spark, Days(first, last)
    fit_to_size(spark, [warehouse.uri])
    with open_writer(warehouse, "bench") as writer, release_checkpoints(spark):
        run = Run(RunLog(warehouse), writer, RunSpec(JOB, "bench", days, SETTINGS.config_hash()))
        fold_days(run, SETTINGS, days)
    return run
