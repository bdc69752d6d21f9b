"""The fold on Spark.

Prior states and ordered events through the compiled kernel, one stream for each task.
"""

from collections.abc import Iterator, Mapping
from functools import reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.fold.dirty import KEY, digest_of
from jobs.io.session import configured
from schemas import profile_states
from udfs.fold.contract import (
    EVENT_ROW,
    INPUT_SCHEMA,
    OUTPUT_SCHEMA,
    PRIOR_ROW,
    VECTOR_ROW,
    FoldConstants,
)

# Events of one task, and the numbers of its distinct vectors (400 MB): with more, tasks get fewer events.
TASK_EVENTS, TASK_NUMBERS = 1_000_000, 100_000_000
# More numbers than any model's vector has.
LARGEST_DIM = 1 << 14
# Vectors sent to tasks whose keys are broadcast, some fifty megabytes: then the vectors are shuffled once,
# not twice.
FEW_USES = 400_000
# Disables Spark's byte limit per Arrow batch: it measures every column again after each row, which dominated
# the fold. Rows here have a bounded size, so maxRecordsPerBatch is enough: 30 MB for a batch of vectors of
# 384 numbers.
BATCHES = {"spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1)}


def fold_frame(
    folded: DataFrame,
    priors: DataFrame,
    embeddings: DataFrame,
    uses: int,
    partitions: int,
    constants: Mapping[str, FoldConstants],
) -> DataFrame:
    """States (udfs/fold/contract.py OUTPUT_SCHEMA) of events on their priors, computed and checkpointed.

    folded: rows of marks.by_facet; priors: rows of profile_states; embeddings: the model's rows of
    text_embeddings; constants: by facet. Each partition gets each vector it needs once, about `uses` in all
    at most.
    """
    # Sorted by a hash before the id: ids begin alike, and numbers that differ sort in half the time.
    place = {"place": F.xxhash64("user_id"), "part": F.pmod(F.hash("user_id"), F.lit(partitions))}
    events = folded.withColumns({"kind": F.lit(EVENT_ROW), "day": F.col("event_date")} | place)
    old = priors.withColumns({"kind": F.lit(PRIOR_ROW), "day": F.col("as_of_date")} | place)
    wanted = events.select("part", "text_key").distinct()
    needed = embeddings.join(wanted.hint("broadcast") if uses <= FEW_USES else wanted, "text_key")
    vectors = needed.select("part", "text_key", "vector", F.lit(VECTOR_ROW).alias("kind"))
    rows = _streamed(vectors).unionByName(_streamed(old)).unionByName(_streamed(events))
    order: list[Column | str] = [F.col("place").asc_nulls_first(), *KEY, "kind", "event_ts", "event_id"]
    stream = rows.repartitionById(partitions, "part").sortWithinPartitions(*order).drop("part", "place")

    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from udfs.fold.stream import fold_stream  # in the worker: a driver need not load a compiler

        return fold_stream(batches, constants)

    with configured(folded.sparkSession, BATCHES):
        return stream.mapInArrow(fold, from_arrow_schema(OUTPUT_SCHEMA)).localCheckpoint()


def _streamed(rows: DataFrame) -> DataFrame:
    """The stream's columns for one kind of row; columns it does not have are NULL."""
    present = set(rows.columns)
    fields = [(f.name, f.dataType.simpleString()) for f in from_arrow_schema(INPUT_SCHEMA)]
    columns = [("place", "bigint"), *fields]
    casts = [f"CAST({name if name in present else 'NULL'} AS {kind}) AS {name}" for name, kind in columns]
    return rows.selectExpr("part", *casts)


def to_states(output: DataFrame, model_key: str, facet_hashes: Mapping[str, str]) -> DataFrame:
    """The columns of profile_states, and is_last."""
    digest = digest_of(F.col("digest_high"), F.col("digest_low"))
    fold_hash = reduce(
        lambda rest, facet: F.when(F.col("facet") == facet, facet_hashes[facet]).otherwise(rest),
        facet_hashes,
        F.lit(None),
    )
    named = {"events_digest": digest, "model_key": F.lit(model_key), "fold_hash": fold_hash}
    return output.withColumns(named).select(*profile_states.TABLE.names, "is_last")


def task_count(to_fold: DataFrame, most: int, is_exact: bool, share: int) -> int:
    """The number of tasks for `share` events each, at least one for each core.

    There are at most `most` events, or exactly as many where is_exact.
    """
    cores = int(to_fold.sparkSession.sparkContext.defaultParallelism)
    if most <= cores * share:
        return cores
    return max(cores, -(-(most if is_exact else to_fold.count()) // share))


def events_per_task(embeddings: DataFrame, texts: int) -> int:
    """The most events a task may have, so that it has room for the vectors of about `texts` texts."""
    if texts * LARGEST_DIM <= TASK_NUMBERS or (row := embeddings.select("dim").first()) is None:
        return TASK_EVENTS
    return TASK_EVENTS if texts * row["dim"] <= TASK_NUMBERS else max(1, TASK_NUMBERS // row["dim"])
