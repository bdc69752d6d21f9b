"""The fold on Spark: events and prior states through the compiled kernel, a stream for each task."""

from collections.abc import Iterator, Mapping
from functools import reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.fold.dirty import KEY, digest_of
from schemas import profile_states
from udfs.fold.contract import EVENT_ROW, INPUT_SCHEMA, OUTPUT_SCHEMA, PRIOR_ROW, VECTOR_ROW, FoldConstants
from udfs.fold.stream import fold_stream

# Events of one fold task, and where its distinct texts could have more numbers than the second says, 400 MB, so few that they have not.
TASK_EVENTS, TASK_NUMBERS = 1_000_000, 100_000_000
# More numbers than a vector of any model has.
LARGEST_DIM = 1 << 14
# Vectors brought to tasks of which the keys are sent to every machine, some fifty megabytes, so that vectors are moved once and not twice.
FEW_USES = 400_000


# ---- pure: the kernel's stream


def fold_frame(
    folded: DataFrame,
    priors: DataFrame,
    embeddings: DataFrame,
    uses: int,
    partitions: int,
    constants: FoldConstants,
) -> DataFrame:
    """States (udfs/fold/contract.py OUTPUT_SCHEMA) of events on their priors; each partition gets each vector it needs once, at most about `uses` in
    all.
    """
    # In the order of a hash, then of the id: ids begin alike, and numbers that differ at once are sorted in half the time.
    place = {"place": F.xxhash64("user_id"), "part": F.pmod(F.hash("user_id"), F.lit(partitions))}
    events = folded.withColumns({"kind": F.lit(EVENT_ROW), "day": F.col("event_date")} | place)
    old = priors.withColumns({"kind": F.lit(PRIOR_ROW), "day": F.col("as_of_date")} | place)
    wanted = events.select("part", "text_key").distinct()
    brought = embeddings.join(wanted.hint("broadcast") if uses <= FEW_USES else wanted, "text_key")
    vectors = brought.select("part", "text_key", "vector", F.lit(VECTOR_ROW).alias("kind"))
    stream = (
        _streamed(vectors)
        .unionByName(_streamed(old))
        .unionByName(_streamed(events))
        .repartitionById(partitions, "part")
    )
    order: list[Column | str] = [F.col("place").asc_nulls_first(), *KEY, "kind", "event_ts", "event_id"]
    ordered = stream.sortWithinPartitions(*order).drop("part", "place")

    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return fold_stream(batches, constants)

    return ordered.mapInArrow(fold, from_arrow_schema(OUTPUT_SCHEMA))


def _streamed(rows: DataFrame) -> DataFrame:
    """The stream's columns of one kind of row; those it does not have are NULL."""
    present = set(rows.columns)
    schema = [
        ("place", "bigint"),
        *((f.name, f.dataType.simpleString()) for f in from_arrow_schema(INPUT_SCHEMA)),
    ]
    return rows.selectExpr(
        "part", *[f"CAST({name if name in present else 'NULL'} AS {kind}) AS {name}" for name, kind in schema]
    )


def to_states(output: DataFrame, model_key: str, facet_hashes: Mapping[str, str]) -> DataFrame:
    """Columns of profile_states, and is_last."""
    digest = digest_of(F.col("digest_high"), F.col("digest_low"))
    fold_hash = reduce(
        lambda rest, facet: F.when(F.col("facet") == facet, facet_hashes[facet]).otherwise(rest),
        facet_hashes,
        F.lit(None),
    )
    named = {"events_digest": digest, "model_key": F.lit(model_key), "fold_hash": fold_hash}
    return output.withColumns(named).select(*profile_states.TABLE.names, "is_last")


def tasks_of(to_fold: DataFrame, most: int, is_known: bool, share: int) -> int:
    """In how many tasks of `share` events these are folded; at least one for each core.

    There are at most `most` events, or just as many where that is known.
    """
    cores = int(to_fold.sparkSession.sparkContext.defaultParallelism)
    if most <= cores * share:
        return cores
    return max(cores, -(-(most if is_known else to_fold.count()) // share))


def share_of(embeddings: DataFrame, texts: int) -> int:
    """How many events of at most about so many distinct texts a task may have, so that its memory is bounded."""
    if texts * LARGEST_DIM <= TASK_NUMBERS or (row := embeddings.select("dim").first()) is None:
        return TASK_EVENTS
    return TASK_EVENTS if texts * row["dim"] <= TASK_NUMBERS else max(1, TASK_NUMBERS // row["dim"])
