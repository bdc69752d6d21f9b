"""The embed stage on Spark: mapInArrow with one engine in each worker, and what it asks of the cluster."""

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
    """Vectors or refusals (udfs/embed.py OUTPUT_SCHEMA) of (text_key, text); one engine a partition."""
    config = engine_config(settings)

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return embed_stream(batches, replace(config, devices=task_gpus()), expected)

    profile = gpu_profile(texts.sparkSession, settings)
    return arranged(texts, settings).mapInArrow(embed, from_arrow_schema(OUTPUT_SCHEMA), profile=profile)


def arranged(texts: DataFrame, settings: EngineSettings) -> DataFrame:
    """(text_key, text) with a partition for each engine, sorted by length.

    An engine pads a call to its longest text.
    """
    parts = truncated(texts, settings).repartition(settings.partitions, "text_key")
    return parts.sortWithinPartitions(F.length("text"), "text_key")


def truncated(texts: DataFrame, settings: EngineSettings) -> DataFrame:
    """(text_key, text) cut to what the engine reads, plus one character that marks a longer text."""
    limit = character_limit(engine_config(settings))
    return texts.select("text_key", F.substring("text", 1, limit + 1).alias("text"))


def gpu_profile(spark: SparkSession, settings: EngineSettings) -> ResourceProfile | None:
    """The resources of each task: an engine's GPUs, or its share of one. Local mode refuses profiles."""
    if not settings.gpus or re.fullmatch(r"local(\[.*\])?", spark.sparkContext.master or ""):
        return None
    task = TaskResourceRequests().cpus(1).resource("gpu", settings.gpus / settings.engines_per_gpu)
    return ResourceProfileBuilder().require(task).build


def task_gpus() -> tuple[str, ...]:
    """The addresses of the GPUs that Spark assigned to this task."""
    context = TaskContext.get()
    given = context.resources() if context else {}
    return tuple(given["gpu"].addresses) if "gpu" in given else ()


@contextmanager
def engine_workers(spark: SparkSession, settings: EngineSettings) -> Iterator[None]:
    """Functions made inside run in Python workers of their own, which keep an engine of these settings.

    Spark pools idle workers by their environment and reuses the longest idle first. In a shared pool a second
    tile would meet a worker without an engine, and load another; a worker has room for one.
    """
    environment = spark.sparkContext.environment
    environment["NIGHTFOLD_WORKERS"] = f"engine {settings.model_dump_json()}"
    try:
        yield
    finally:
        del environment["NIGHTFOLD_WORKERS"]
