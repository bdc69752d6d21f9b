"""Embeds the texts of log days that have no vector yet, in tiles that each commit.

A tile commits while the engine works on the next one: a killed job has at most two tiles to embed again. With
nothing missing no engine starts.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.embed.catalogue import write_stats
from jobs.embed.stage import embed_tile, engine_workers, truncated
from jobs.io.days import Days
from jobs.io.messages import say, time_left
from jobs.io.model import model_key_of
from jobs.io.runs import Run
from jobs.io.secret import warn_if_open
from schemas import behavior_events, items, rejected_texts, text_embeddings
from schemas.settings import EngineSettings
from udfs.embed import Expected

JOB = "embed_texts"
# Texts of the smallest tile: a commit takes seconds on a small machine, and the engine would wait for it.
LEAST_TILE: Final = 2048
# Tiles however few texts there are: a job killed near its end has embedded nearly all of them for good.
LEAST_TILES: Final = 8
# Texts for which an engine must give the stored vectors before it may add others.
EXAMPLES: Final = 8
# Stored vectors searched for these texts; reading more would gain nothing.
EXAMPLES_AMONG: Final = 4096


@dataclass(frozen=True)
class Missing:
    """(text_key, text, of_event) without a vector, cached, and the model that must embed them.

    count: how many; of_items: how many of them no event of the days has.
    """

    texts: DataFrame
    count: int
    of_items: int
    expected: Expected


def embed_days(run: Run, settings: EngineSettings, days: Days, retry_rejected: bool = False) -> None:
    """Embeds what the events of the log days lack, and the items known by then.

    Counts the events' texts, those of them reused, all that were embedded and rejected, and item_texts: those
    without a vector that no event of the days has.
    """
    events = run.warehouse.read(behavior_events.TABLE).where(days.sql("log_date"))
    texts = events.where("text_key IS NOT NULL")
    known = run.warehouse.read(items.TABLE).where(F.col("valid_from") <= days.last)
    model_key = model_key_of(settings)
    with run.phase("find"):
        missing = find_missing(run, settings, model_key, wanted_texts(settings, texts, known), retry_rejected)
    # One thread for what runs in parallel with the engine: first the count of all texts, then each tile's
    # commit.
    with run.phase("embed"), ThreadPoolExecutor(1, "during embedding") as parallel:
        total = parallel.submit(texts.select("text_key").distinct().count)
        run.counts |= {"texts": 0, "reused": 0, "embedded": 0, "rejected": 0, "item_texts": missing.of_items}
        embed_tiles(run, settings, missing, parallel)
        of_events = missing.count - missing.of_items
        run.counts |= {"texts": total.result(), "reused": total.result() - of_events}
    missing.texts.unpersist()
    with run.phase("catalogue"):
        write_stats(run, model_key, days)


def wanted_texts(settings: EngineSettings, events: DataFrame, versions: DataFrame) -> DataFrame:
    """(text_key, text, of_event) of texts that should have a vector; a text may come several times.

    events, versions: of events and items, with text_key and text.
    """
    named = [(events, True), (versions.where("text_key IS NOT NULL"), False)]
    of_both = [rows.select("text_key", "text", F.lit(of).alias("of_event")) for rows, of in named]
    return of_both[0].unionByName(of_both[1]) if settings.embed_items else of_both[0]


def find_missing(
    run: Run, settings: EngineSettings, model_key: str, texts: DataFrame, retry_rejected: bool
) -> Missing:
    """The texts without a vector of the model. texts: as wanted_texts returns them."""
    of_model = F.col("model_key") == model_key
    embedded = run.warehouse.read(text_embeddings.TABLE).where(of_model)
    rejected = run.warehouse.read(rejected_texts.TABLE).where(of_model)
    missing = missing_texts(texts, embedded, rejected.limit(0) if retry_rejected else rejected).persist()
    count, of_items = missing.agg(F.count("*"), F.count_if(~F.col("of_event"))).collect()[0]
    known = examples(truncated(texts, settings), embedded, model_key) if count else Expected(model_key)
    return Missing(missing, count, of_items, known)


def missing_texts(texts: DataFrame, embedded: DataFrame, rejected: DataFrame) -> DataFrame:
    """(text_key, text, of_event) of the distinct texts with neither a vector nor a refusal of this model.

    of_event: whether an event has it. texts: as wanted_texts returns them.
    """
    found = F.first("text").alias("text"), F.bool_or("of_event").alias("of_event")
    distinct = texts.groupBy("text_key").agg(*found)
    for known in (embedded, rejected):
        distinct = distinct.join(known.select("text_key"), "text_key", "left_anti")
    return distinct


def examples(texts: DataFrame, embedded: DataFrame, model_key: str) -> Expected:
    """The model that must embed, with a few texts that have a vector of it and these vectors."""
    few = F.broadcast(embedded.select("text_key", "vector").limit(EXAMPLES_AMONG))
    rows = texts.join(few, "text_key").limit(EXAMPLES).collect()
    vectors = np.array([row["vector"] for row in rows], np.float32)
    return Expected(model_key, [row["text"] for row in rows], vectors)


def tile_count(texts: int, most: int) -> int:
    """The number of tiles, each of at most about `most` texts and one commit."""
    return max(-(-texts // most), min(LEAST_TILES, -(-texts // LEAST_TILE)))


def tile_of(tiles: int) -> Column:
    """The tile of a text, by a hash of its key: a retried stage finds the same texts in it."""
    return F.pmod(F.xxhash64("text_key"), F.lit(tiles))


def embed_tiles(run: Run, settings: EngineSettings, missing: Missing, parallel: ThreadPoolExecutor) -> None:
    """Embeds the missing texts tile by tile; each commits in `parallel` while the engine has the next."""
    tiles = tile_count(missing.count, settings.tile_texts)
    if tiles:
        if settings.key_file is not None:
            warn_if_open(settings.key_file)
        say(f"{JOB}: {missing.count:,} texts have no vector yet; {waiting_for(settings)}")
    began, done = time.monotonic(), 0
    commit: Future[None] | None = None
    for tile in range(tiles):
        texts = missing.texts.where(tile_of(tiles) == tile)
        results, embedded, refused = embedded_tile(texts, settings, missing.expected)
        if commit is not None:
            commit.result()
        commit = parallel.submit(commit_tile, run, missing.expected.model_key, results, embedded, refused)
        done += embedded + refused
        rate = tile_progress(done, missing.count, time.monotonic() - began)
        say(f"{JOB}: tile {tile + 1} of {tiles}, {rate}")
    if commit is not None:
        commit.result()


def tile_progress(done: int, total: int, seconds: float) -> str:
    """Texts done, throughput and time left."""
    speed = done / max(seconds, 1e-3)
    return f"{done:,} of {total:,} texts, {speed:,.0f} texts/s, {time_left(done, total, seconds)}"


def waiting_for(settings: EngineSettings) -> str:
    """What the job waits for next, and for how long at most."""
    if settings.kind == "vllm_server":
        servers = ", ".join(settings.endpoints)
        return f"waiting up to {settings.timeout_s:,} s for {servers} (engine.timeout_s)"
    return f"starting the {settings.kind} engine"


def embedded_tile(
    texts: DataFrame, settings: EngineSettings, expected: Expected
) -> tuple[DataFrame, int, int]:
    """A tile's results, computed and cached, with the number of vectors and of refusals."""
    with engine_workers(texts.sparkSession, settings):
        results = embed_tile(texts, settings, expected).persist()
    counts = results.agg(F.count("vector"), F.count("reason")).first()
    assert counts is not None  # an aggregate over everything has one row
    return results, counts[0], counts[1]


def commit_tile(run: Run, model_key: str, results: DataFrame, embedded: int, refused: int) -> None:
    """Inserts a tile's rows where they are absent: a text that has a vector keeps it."""
    named = results.withColumns({"model_key": F.lit(model_key), "created_run": F.lit(run.spec.run_id)})
    within = F.col("t.model_key") == F.lit(model_key)
    if embedded:
        run.writer.insert_absent(text_embeddings.TABLE, named.where("vector IS NOT NULL"), within)
    if refused:
        run.writer.insert_absent(rejected_texts.TABLE, named.where("vector IS NULL"), within)
    run.add_counts({"embedded": embedded, "rejected": refused})
    results.unpersist()
