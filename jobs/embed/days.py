"""Embeds the texts of log days in tiles that each commit."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from typing import Final

import numpy as np
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.embed.stage import embed_tile, engine_workers, shown
from jobs.io import delta
from jobs.io.messages import say, time_left
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from schemas import behavior_events, rejected_texts, text_embeddings
from schemas.settings import EngineSettings, Settings
from udfs.embed import Expected

JOB = "embed_texts"

# A commit takes seconds on a small machine: with smaller tiles the engine would wait for it.
LEAST_TILE: Final = 2048
# However few texts there are: a job killed near its end has embedded nearly all of them for good.
LEAST_TILES: Final = 8
# Texts that an engine must give the stored vectors of, before it may add others.
EXAMPLES: Final = 8
# Stored vectors among which they are looked for; more would be read for nothing.
EXAMPLES_AMONG: Final = 4096


def missing_texts(events: DataFrame, embedded: DataFrame, rejected: DataFrame) -> DataFrame:
    """Distinct (text_key, text) of the events that have neither a vector nor a refusal of this model."""
    texts = events.where("text_key IS NOT NULL").groupBy("text_key").agg(F.first("text").alias("text"))
    return texts.join(embedded.select("text_key"), "text_key", "left_anti").join(
        rejected.select("text_key"), "text_key", "left_anti"
    )


def tile_count(texts: int, most: int) -> int:
    """In how many tiles of at most `most` texts they are embedded, one commit each."""
    return max(-(-texts // most), min(LEAST_TILES, -(-texts // LEAST_TILE)))


def tile_of(tiles: int) -> Column:
    """The tile of a text: a hash of its key, so that a retried stage finds the same texts in it."""
    return F.pmod(F.xxhash64("text_key"), F.lit(tiles))


def examples(texts: DataFrame, embedded: DataFrame, model_key: str) -> Expected:
    """The model that must embed, with a few of the texts that have a vector of it and these vectors."""
    few = F.broadcast(embedded.select("text_key", "vector").limit(EXAMPLES_AMONG))
    rows = texts.join(few, "text_key").limit(EXAMPLES).collect()
    return Expected(
        model_key, [row["text"] for row in rows], np.array([row["vector"] for row in rows], np.float32)
    )


def embed_days(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    run: Run,
    first: date,
    last: date,
    retry_rejected: bool = False,
) -> None:
    """Embeds what the events of the log days lack; counts texts reused, embedded and rejected."""
    model_key = model_key_of(settings.engine)
    of_model = F.col("model_key") == model_key
    events = delta.read_table(spark, warehouse, behavior_events.TABLE).where(
        F.col("log_date").between(first, last)
    )
    embedded = delta.read_table(spark, warehouse, text_embeddings.TABLE).where(of_model)
    rejected = delta.read_table(spark, warehouse, rejected_texts.TABLE).where(of_model)
    with run.phase("find"):
        missing = missing_texts(events, embedded, rejected.limit(0) if retry_rejected else rejected).persist()
        count = missing.count()
        expected = (
            examples(shown(events, settings.engine), embedded, model_key) if count else Expected(model_key)
        )
    tiles = tile_count(count, settings.engine.tile_texts)
    if tiles:
        say(f"{JOB}: {count:,} texts have no vector yet; {beginning(settings.engine)}")
    began, done = time.monotonic(), 0
    # Beside the engine, one at a time: first how many texts there are in all, then each tile's commit.
    with run.phase("embed"), ThreadPoolExecutor(1, "beside the engine") as beside:
        texts = beside.submit(events.where("text_key IS NOT NULL").select("text_key").distinct().count)
        run.counts |= {"texts": 0, "reused": 0, "embedded": 0, "rejected": 0}
        committing: Future[None] | None = None
        for tile in range(tiles):
            results, embedded_now, refused_now = embedded_tile(
                spark, missing.where(tile_of(tiles) == tile), settings.engine, expected
            )
            if committing is not None:
                committing.result()
            committing = beside.submit(
                commit_tile, spark, warehouse, run, model_key, results, embedded_now, refused_now
            )
            done += embedded_now + refused_now
            seconds = time.monotonic() - began
            speed = done / max(seconds, 1e-3)
            # The first tiles may be empty where they are small.
            say(
                f"{JOB}: tile {tile + 1} of {tiles}, {done:,} of {count:,} texts, {speed:,.0f} texts/s, {time_left(done, count, seconds)}"
            )
        if committing is not None:
            committing.result()
        run.counts |= {"texts": texts.result(), "reused": texts.result() - count}
    missing.unpersist()


def beginning(settings: EngineSettings) -> str:
    """What the job waits for next, and how long at most."""
    if settings.kind == "vllm_server":
        return f"asking {', '.join(settings.endpoints)}, for {settings.timeout_s:,} s until one answers (engine.timeout_s)"
    return f"starting the {settings.kind} engine"


def embedded_tile(
    spark: SparkSession, texts: DataFrame, settings: EngineSettings, expected: Expected
) -> tuple[DataFrame, int, int]:
    """A tile's results, computed and kept, with how many are vectors and how many refusals."""
    with engine_workers(spark, settings):
        results = embed_tile(texts, settings, expected).persist()
    counts = results.agg(F.count("vector"), F.count("reason")).first()
    assert counts is not None  # an aggregate of everything has one row
    return results, counts[0], counts[1]


def commit_tile(
    spark: SparkSession,
    warehouse: str,
    run: Run,
    model_key: str,
    results: DataFrame,
    embedded: int,
    refused: int,
) -> None:
    """Adds a tile's rows, insert-if-absent: a text that is there keeps its vector."""
    with_key = results.withColumns({"model_key": F.lit(model_key), "created_run": F.lit(run.run_id)})
    within = F.col("t.model_key") == F.lit(model_key)
    if embedded:
        delta.insert_absent(
            spark, warehouse, text_embeddings.TABLE, with_key.where("vector IS NOT NULL"), within
        )
    if refused:
        delta.insert_absent(spark, warehouse, rejected_texts.TABLE, with_key.where("vector IS NULL"), within)
    run.counts["embedded"] += embedded
    run.counts["rejected"] += refused
    results.unpersist()
