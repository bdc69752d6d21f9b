"""Embeds the texts that have no vector yet, each distinct text once and for ever.

Missing texts are embedded in tiles, and each tile is committed while the engine has the next one: a killed job has to embed at
most two tiles again. With nothing missing no engine starts.

    python -m jobs.embed_texts (--date D | --start D --end D) --warehouse URI [--retry-rejected]
"""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark import TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.io import delta
from jobs.io.runs import Run, new_run_id, recorded
from jobs.io.shell import JobError, Parser, iso_day, job_parser, range_problem, run_main, say, time_left
from schemas import behavior_events, rejected_texts, text_embeddings
from schemas.settings import EngineSettings, Settings
from udfs import engine
from udfs.embed import OUTPUT_SCHEMA, Expected, embed_stream

JOB = "embed_texts"
# A commit takes seconds on a small machine: with smaller tiles the engine would wait for it.
LEAST_TILE: Final = 2048
# However few texts there are: a job killed near its end has embedded nearly all of them for good.
LEAST_TILES: Final = 8
# Texts that an engine must give the stored vectors of, before it may add others.
EXAMPLES: Final = 8
# Stored vectors among which they are looked for; more would be read for nothing.
EXAMPLES_AMONG: Final = 4096


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--date", type=iso_day, metavar="D", help="the log day")
    parser.add_argument("--start", type=iso_day, metavar="D", help="first log day of a range")
    parser.add_argument("--end", type=iso_day, metavar="D", help="last log day of a range")
    parser.add_argument("--retry-rejected", action="store_true", help="also try texts again that the model refused before")
    return parser


def days_problem(args: argparse.Namespace) -> str | None:
    is_day, is_range = args.date is not None, args.start is not None and args.end is not None
    if is_day == is_range or (is_day and (args.start or args.end)):
        return "give --date, or --start and --end"
    return range_problem(args)


def missing_texts(events: DataFrame, embedded: DataFrame, rejected: DataFrame) -> DataFrame:
    """Distinct (text_key, text) of the events that have neither a vector nor a refusal of this model."""
    texts = events.where("text_key IS NOT NULL").groupBy("text_key").agg(F.first("text").alias("text"))
    return texts.join(embedded.select("text_key"), "text_key", "left_anti").join(rejected.select("text_key"), "text_key", "left_anti")


def tile_count(texts: int, most: int) -> int:
    """In how many tiles of at most `most` texts they are embedded, one commit each."""
    return max(-(-texts // most), min(LEAST_TILES, -(-texts // LEAST_TILE)))


def tile_of(tiles: int) -> Column:
    """The tile of a text: a hash of its key, so that a retried stage finds the same texts in it."""
    return F.pmod(F.xxhash64("text_key"), F.lit(tiles))


def embed_tile(texts: DataFrame, settings: EngineSettings, expected: Expected) -> DataFrame:
    """Vectors or refusals (udfs/embed.py OUTPUT_SCHEMA) of (text_key, text), by one engine for each partition."""
    config = engine_config(settings)

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return embed_stream(batches, replace(config, devices=task_gpus()), expected)

    return fed(texts, settings).mapInArrow(embed, from_arrow_schema(OUTPUT_SCHEMA), profile=gpu_profile(texts.sparkSession, settings))


def fed(texts: DataFrame, settings: EngineSettings) -> DataFrame:
    """(text_key, text) as the engines take it: a partition for each, like lengths side by side, so that a call waits for few long ones."""
    return shown(texts, settings).repartition(settings.partitions, "text_key").sortWithinPartitions(F.length("text"), "text_key")


def shown(texts: DataFrame, settings: EngineSettings) -> DataFrame:
    """(text_key, text) without what the engine would cut anyway; one character more tells it that there was more."""
    return texts.select("text_key", F.substring("text", 1, engine.character_limit(engine_config(settings)) + 1).alias("text"))


def gpu_profile(spark: SparkSession, settings: EngineSettings) -> ResourceProfile | None:
    """What Spark must give each task of the stage: an engine's GPUs, or its share of one. Local mode knows no profiles."""
    if not settings.gpus or re.fullmatch(r"local(\[.*\])?", spark.sparkContext.master or ""):
        return None
    task = TaskResourceRequests().cpus(1).resource("gpu", settings.gpus / settings.engines_per_gpu)
    return ResourceProfileBuilder().require(task).build


def task_gpus() -> tuple[str, ...]:
    """The addresses of the GPUs that Spark gave this task."""
    context = TaskContext.get()
    given = context.resources() if context else {}
    return tuple(given["gpu"].addresses) if "gpu" in given else ()


def examples(texts: DataFrame, embedded: DataFrame, model_key: str) -> Expected:
    """The model that must embed, with a few of the texts that have a vector of it and these vectors."""
    few = F.broadcast(embedded.select("text_key", "vector").limit(EXAMPLES_AMONG))
    rows = texts.join(few, "text_key").limit(EXAMPLES).collect()
    return Expected(model_key, [row["text"] for row in rows], np.array([row["vector"] for row in rows], np.float32))


def engine_config(settings: EngineSettings) -> engine.EngineConfig:
    return engine.EngineConfig(**settings.model_dump(exclude={"tile_texts", "partitions"}))


def model_key_of(settings: EngineSettings) -> str:
    """The key of the configured model, without starting it."""
    try:
        return engine.model_key(engine_config(settings))
    except engine.EngineError as error:
        raise JobError(str(error)) from error


@contextmanager
def engine_workers(spark: SparkSession, settings: EngineSettings) -> Iterator[None]:
    """Python workers of their own for the functions made inside, which embed by these settings.

    Spark keeps idle workers by their environment and hands out the longest idle first; shared with other Python stages
    a second tile would meet a worker without an engine, and load another one. A worker has room for one engine.
    """
    environment = spark.sparkContext.environment
    environment["NIGHTFOLD_WORKERS"] = f"engine {settings.model_dump_json()}"
    try:
        yield
    finally:
        del environment["NIGHTFOLD_WORKERS"]


def embed_days(
    spark: SparkSession, warehouse: str, settings: Settings, run: Run, first: date, last: date, retry_rejected: bool = False
) -> None:
    """Embeds what the events of the log days lack; counts texts reused, embedded and rejected."""
    model_key = model_key_of(settings.engine)
    of_model = F.col("model_key") == model_key
    events = delta.read_table(spark, warehouse, behavior_events.TABLE).where(F.col("log_date").between(first, last))
    embedded = delta.read_table(spark, warehouse, text_embeddings.TABLE).where(of_model)
    rejected = delta.read_table(spark, warehouse, rejected_texts.TABLE).where(of_model)
    with run.phase("find"):
        missing = missing_texts(events, embedded, rejected.limit(0) if retry_rejected else rejected).persist()
        count = missing.count()
        expected = examples(shown(events, settings.engine), embedded, model_key) if count else Expected(model_key)
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
            results, embedded_now, refused_now = embedded_tile(spark, missing.where(tile_of(tiles) == tile), settings.engine, expected)
            if committing is not None:
                committing.result()
            committing = beside.submit(commit_tile, spark, warehouse, run, model_key, results, embedded_now, refused_now)
            done += embedded_now + refused_now
            seconds = time.monotonic() - began
            speed = done / max(seconds, 1e-3)
            # The first tiles may be empty where they are small.
            say(f"{JOB}: tile {tile + 1} of {tiles}, {done:,} of {count:,} texts, {speed:,.0f} texts/s, {time_left(done, count, seconds)}")
        if committing is not None:
            committing.result()
        run.counts |= {"texts": texts.result(), "reused": texts.result() - count}
    missing.unpersist()


def beginning(settings: EngineSettings) -> str:
    """What the job waits for next, and how long at most."""
    if settings.kind == "vllm_server":
        return f"asking {', '.join(settings.endpoints)}, for {settings.timeout_s:,} s until one answers (engine.timeout_s)"
    return f"starting the {settings.kind} engine"


def embedded_tile(spark: SparkSession, texts: DataFrame, settings: EngineSettings, expected: Expected) -> tuple[DataFrame, int, int]:
    """A tile's results, computed and kept, with how many are vectors and how many refusals."""
    with engine_workers(spark, settings):
        results = embed_tile(texts, settings, expected).persist()
    counts = results.agg(F.count("vector"), F.count("reason")).first()
    assert counts is not None  # an aggregate of everything has one row
    return results, counts[0], counts[1]


def commit_tile(
    spark: SparkSession, warehouse: str, run: Run, model_key: str, results: DataFrame, embedded: int, refused: int
) -> None:
    """Adds a tile's rows, insert-if-absent: a text that is there keeps its vector."""
    with_key = results.withColumns({"model_key": F.lit(model_key), "created_run": F.lit(run.run_id)})
    within = F.col("t.model_key") == F.lit(model_key)
    if embedded:
        delta.insert_absent(spark, warehouse, text_embeddings.TABLE, with_key.where("vector IS NOT NULL"), within)
    if refused:
        delta.insert_absent(spark, warehouse, rejected_texts.TABLE, with_key.where("vector IS NULL"), within)
    run.counts["embedded"] += embedded
    run.counts["rejected"] += refused
    results.unpersist()


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    first, last = args.date or args.start, args.date or args.end
    with recorded(spark, args.warehouse, args.config, JOB, args.run_id or new_run_id(JOB, last), first, last) as record:
        embed_days(spark, args.warehouse, args.config, record, first, last, args.retry_rejected)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, days_problem)


if __name__ == "__main__":
    sys.exit(main())
