"""The embed stage on Spark: mapInArrow with one engine in each worker."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa
from pyspark import TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.io.model import engine_config
from schemas.settings import EngineSettings
from udfs.embed import OUTPUT_SCHEMA, Expected, embed_stream
from udfs.engines.contract import character_limit


def embed_tile(texts: DataFrame, settings: EngineSettings, expected: Expected) -> DataFrame:
    """Vectors or refusals (udfs/embed.py OUTPUT_SCHEMA) of (text_key, text), by one engine for each partition."""
    config = engine_config(settings)

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return embed_stream(batches, replace(config, devices=task_gpus()), expected)

    return fed(texts, settings).mapInArrow(
        embed, from_arrow_schema(OUTPUT_SCHEMA), profile=gpu_profile(texts.sparkSession, settings)
    )


def fed(texts: DataFrame, settings: EngineSettings) -> DataFrame:
    """(text_key, text) as the engines take it: a partition for each, like lengths side by side, so that a call waits for few long ones."""
    return (
        shown(texts, settings)
        .repartition(settings.partitions, "text_key")
        .sortWithinPartitions(F.length("text"), "text_key")
    )


def shown(texts: DataFrame, settings: EngineSettings) -> DataFrame:
    """(text_key, text) without what the engine would cut anyway; one character more tells it that there was more."""
    return texts.select(
        "text_key", F.substring("text", 1, character_limit(engine_config(settings)) + 1).alias("text")
    )


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
