"""The embed stage inside Spark beside the bare engine and sentence-transformers: same texts, same weights, engines loaded.

Each contender has a process of its own and they take turns, so that a slow moment of the machine meets all of them.
"""

import csv
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.embed.stage import embed_tile, engine_workers, fed
from jobs.io.model import engine_config, model_key_of
from jobs.io.session import open_session
from schemas.settings import EngineSettings, SparkSettings
from tests.e2e.tables import rows_of
from tests.faults.embedding import DAY, write_events
from tests.perf.report import Ratio, report
from udfs.embed import OUTPUT_SCHEMA, Expected, embed_stream
from udfs.engines.contract import Embedder
from udfs.engines.load import load_embedder
from udfs.engines.model import load_tokenizer, model_folder, tokenise
from udfs.engines.vllm_local import environment, has_gpu, pick_dtype, quiet

MOVIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "ml-latest-small" / "movies.csv"
NEXT_DAY = DAY + timedelta(days=1)
ROUNDS = 3
# Enough that the 0.3 s in which a stage begins are little.
MIXED_TEXTS = 1000
MAX_TOKENS = EngineSettings().max_tokens
# The default of SentenceTransformer.encode.
ST_BATCH = 32


def titles() -> list[str]:
    with MOVIES.open(encoding="utf-8", newline="") as file:
        return sorted({row["title"] for row in csv.DictReader(file)})


def mixed_texts() -> list[str]:
    """Texts of 5 to 400 tokens, as many of each order of length."""
    chance = random.Random(7)
    words = sorted({word for title in titles() for word in title.split() if word.isalpha()})
    return [" ".join(chance.choices(words, k=int(3 * 75 ** chance.random()))) for _ in range(MIXED_TEXTS)]


@lru_cache(maxsize=1)
def bare_engine(settings: EngineSettings):
    """vLLM's own class as its documents use it, with the settings that were fastest here."""
    config = engine_config(settings)
    os.environ |= environment(config, 1)
    with quiet():
        from vllm import LLM
        from vllm.config import PoolerConfig

        return LLM(
            model=str(model_folder(config)), runner="pooling", dtype=pick_dtype() if config.dtype == "auto" else config.dtype,
            enforce_eager=True, max_model_len=MAX_TOKENS, block_size=None if has_gpu() else 32,
            pooler_config=PoolerConfig(seq_pooling_type=config.pooling), disable_log_stats=True,
        )  # fmt: skip


def bare(settings: EngineSettings, texts: list[str]) -> float:
    """Seconds of LLM.embed; the texts are sorted by length, which it does not do itself."""
    engine = bare_engine(settings)
    began = time.monotonic()
    engine.embed(
        sorted(texts, key=len), use_tqdm=False, tokenization_kwargs={"truncate_prompt_tokens": MAX_TOKENS}
    )
    return time.monotonic() - began


@lru_cache(maxsize=1)
def sentence_transformer(dtype: str):
    import torch
    from sentence_transformers import SentenceTransformer

    folder = str(model_folder(engine_config(EngineSettings())))
    model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    model.max_seq_length = MAX_TOKENS
    return model


def sentence_transformers(dtype: str, texts: list[str]) -> float:
    """Seconds of SentenceTransformer.encode, which sorts by length itself; torch takes every core."""
    model = sentence_transformer(dtype)
    began = time.monotonic()
    model.encode(texts, batch_size=ST_BATCH, normalize_embeddings=True)
    return time.monotonic() - began


class Timed(Embedder):
    """The stage's own engine, which notes in a file how long it tokenised and how long its model computed, seconds."""

    def __init__(self, engine: Embedder, file: str) -> None:
        self.model_key, self.dim, self.engine, self.dtype = (
            engine.model_key,
            engine.dim,
            engine.engine,
            engine.dtype,
        )
        self._engine, self._file, self._spent = engine, Path(file), {"tokenise": 0.0, "model": 0.0}

    def tokenise(self, texts):
        return self._timed("tokenise", self._engine.tokenise, texts)

    def embed_tokens(self, ids):
        return self._timed("model", self._engine.embed_tokens, ids)

    def _timed(self, what, work, given):
        began = time.monotonic()
        done = work(given)
        self._spent[what] += time.monotonic() - began
        self._file.write_text(json.dumps(self._spent))
        return done


def shares(rows: DataFrame, settings: EngineSettings, file: str) -> dict[str, float]:
    """Which parts of the stage's time are tokenising, the model, and what waits for both: Spark, Arrow and the pipe.

    Tokenising runs beside the model, so that the three are more than one.
    """
    config, expected = engine_config(settings), Expected(model_key_of(settings))

    def embed(batches):
        return embed_stream(batches, config, expected, lambda config: Timed(load_embedder(config), file))

    began = time.monotonic()
    with engine_workers(rows.sparkSession, settings):
        fed(rows, settings).mapInArrow(embed, from_arrow_schema(OUTPUT_SCHEMA)).write.format("noop").mode(
            "overwrite"
        ).save()
    taken = time.monotonic() - began
    spent = json.loads(Path(file).read_text())
    parts = {"tokenising": spent["tokenise"], "model": spent["model"], "transport": taken - spent["model"]}
    return {f"{part}_share": round(seconds / taken, 3) for part, seconds in parts.items()}


def token_counts(texts: list[str]) -> dict[str, float]:
    """Tokens of the texts, and which part of sentence-transformers' batches is padding; vLLM packs texts end to end."""
    config = engine_config(EngineSettings())
    lengths = sorted((len(ids) for ids in tokenise(load_tokenizer(config), config, texts).ids), reverse=True)
    padded = sum(lengths[i] * len(lengths[i : i + ST_BATCH]) for i in range(0, len(lengths), ST_BATCH))
    return {
        "tokens": sum(lengths),
        "padding_share": 0.0,
        "sentence_transformers_padding_share": round(1 - sum(lengths) / padded, 3),
    }


@contextmanager
def own_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield process


def in_process(
    process: ProcessPoolExecutor, contender: Callable[..., float], how: Any, texts: list[str]
) -> float:
    return process.submit(contender, how, texts).result()


def compare(
    contenders: dict[str, Callable[[list[str]], float]], texts: list[str], rounds: int
) -> dict[str, float]:
    """Median seconds of each contender, which take turns."""
    for contender in contenders.values():
        contender(texts[::50])  # loads it
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(contender(texts))
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def nights(texts: list[str]) -> dict[str, object]:
    """Whole jobs from the shell to the prompt: with one text to embed, with all of them, and once more with nothing new."""
    told: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        with open_session("bench embed", SparkSettings(driver_memory="1g")) as spark:
            write_events(spark, f"{folder}/w", ["a red bicycle"])
            write_events(spark, f"{folder}/w", ["a red bicycle", *texts], NEXT_DAY)
        for name, day in (("first_vector", DAY), ("all", NEXT_DAY), ("nothing_new", NEXT_DAY)):
            began = time.monotonic()
            command = [
                sys.executable,
                "-m",
                "jobs.embed_texts",
                "--date",
                str(day),
                "--warehouse",
                f"{folder}/w",
                "--run-id",
                name,
            ]
            subprocess.run(command, check=True, stdout=sys.stderr)
            job_s = round(time.monotonic() - began, 1)
            (row,) = [
                row
                for row in rows_of(f"{folder}/w", "pipeline_runs")
                if row["run_id"] == name and row["status"] == "done"
            ]
            phases = {f"{phase}_s": seconds for phase, seconds in dict(row["seconds"]).items()}
            told[name] = {"job_s": job_s, "embedded": dict(row["counts"])["embedded"], **phases}
    return told


def ratios_of(name: str, seconds: dict[str, float], dtype: str) -> list[Ratio]:
    # docs/decisions/0004-embedding.md says why 1.5 is out of reach where both must compute in float32.
    least = 1.5 if dtype == "bfloat16" else 1.1
    return [
        Ratio(f"{name}: stage / bare LLM.embed", seconds["bare"] / seconds["stage"], least=0.9),
        Ratio(
            f"{name}: stage in {dtype} / sentence-transformers in float32",
            seconds["st"] / seconds["stage"],
            least=least,
        ),
    ]


def main() -> int:
    sets = {"titles": titles(), "mixed": mixed_texts()}
    settings = EngineSettings()
    expected = Expected(model_key_of(settings))
    figures: dict[str, Any] = {}
    ratios = []
    with own_process() as process:
        dtype = process.submit(pick_dtype).result()  # as each engine finds for itself
    with (
        open_session("bench embed", SparkSettings(driver_memory="2g")) as spark, own_process() as vllm, own_process() as st,
        tempfile.TemporaryDirectory() as folder,
    ):  # fmt: skip

        def given(texts: list[str]) -> DataFrame:
            rows = spark.createDataFrame(
                [(f"{i:08}", text) for i, text in enumerate(texts)], "text_key string, text string"
            ).persist()
            rows.count()
            return rows

        def stage(texts: list[str]) -> float:
            rows = given(texts)
            began = time.monotonic()
            with engine_workers(spark, settings):
                embed_tile(rows, settings, expected).write.format("noop").mode("overwrite").save()
            taken = time.monotonic() - began
            rows.unpersist()
            return taken

        for name, texts in sets.items():
            seconds = compare(
                {
                    "stage": stage,
                    "bare": functools.partial(in_process, vllm, bare, settings),
                    "st": functools.partial(in_process, st, sentence_transformers, "float32"),
                },
                texts,
                ROUNDS,
            )
            ratios += ratios_of(name, seconds, dtype)
            counted = token_counts(texts)
            figures[name] = {
                "texts": len(texts),
                **{f"{who}_texts_per_s": round(len(texts) / taken, 1) for who, taken in seconds.items()},
                "stage_tokens_per_s": round(counted["tokens"] / seconds["stage"]),
                **counted,
                **shares(given(texts), settings, f"{folder}/{name}.json"),
            }
    for other in ("float32", "bfloat16"):
        with own_process() as vllm, own_process() as st:
            like = EngineSettings(dtype=other)
            seconds = compare(
                {
                    "bare": functools.partial(in_process, vllm, bare, like),
                    "st": functools.partial(in_process, st, sentence_transformers, other),
                },
                sets["titles"][::4],
                ROUNDS,
            )
        ratios.append(
            Ratio(
                f"titles: bare LLM.embed / sentence-transformers, both {other}",
                seconds["st"] / seconds["bare"],
            )
        )
        figures[other] = {
            f"{who}_texts_per_s": round(len(sets["titles"][::4]) / taken, 1) for who, taken in seconds.items()
        }
    figures["jobs"] = nights(sets["titles"])
    return report("embed", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
