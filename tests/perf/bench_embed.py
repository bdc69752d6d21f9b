"""The embed stage inside Spark beside the bare engine and sentence-transformers: same texts, same weights, engines loaded.

Each contender has a process of its own and they take turns, so that a slow moment of the machine meets all of them.
"""

import csv
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

from jobs.embed_texts import embed_tile, engine_config, engine_workers, model_key_of
from jobs.io.session import open_session
from schemas.settings import EngineSettings, SparkSettings
from tests.e2e.tables import rows_of
from tests.faults.embedding import DAY, write_events
from tests.perf.report import Ratio, report
from udfs.embed import Expected

MOVIES = Path(__file__).resolve().parents[3] / "shared" / "data" / "ml-latest-small" / "movies.csv"
NEXT_DAY = DAY + timedelta(days=1)
ROUNDS = 3
MIXED_TEXTS = 400
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
    from udfs.engine import _environment, _quiet, has_gpu, model_folder, pick_dtype

    config = engine_config(settings)
    os.environ |= _environment(config, 1)
    with _quiet():
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
    engine.embed(sorted(texts, key=len), use_tqdm=False, tokenization_kwargs={"truncate_prompt_tokens": MAX_TOKENS})
    return time.monotonic() - began


@lru_cache(maxsize=1)
def sentence_transformer(dtype: str):
    import torch
    from sentence_transformers import SentenceTransformer

    from udfs.engine import model_folder

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


def shares(texts: list[str]) -> dict[str, float]:
    """Seconds of tokenising and of the model in the stage's own engine, the tokens, and the padding of sentence-transformers' batches."""
    from udfs.engine import load_embedder

    engine = load_embedder(engine_config(EngineSettings()))
    engine.embed(texts)  # as warm as the stage's engine is by then
    began = time.monotonic()
    tokens = engine.tokenise(sorted(texts, key=len)).ids
    tokenised = time.monotonic()
    engine.embed_tokens(tokens)
    ended = time.monotonic()
    lengths = sorted((len(ids) for ids in tokens), reverse=True)
    padded = sum(lengths[i] * len(lengths[i : i + ST_BATCH]) for i in range(0, len(lengths), ST_BATCH))
    return {"tokenise_s": tokenised - began, "model_s": ended - tokenised, "tokens": sum(lengths), "st_padding": 1 - sum(lengths) / padded}


@contextmanager
def own_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield process


def compare(contenders: dict[str, Callable[[list[str]], float]], texts: list[str], rounds: int) -> dict[str, float]:
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
            command = [sys.executable, "-m", "jobs.embed_texts", "--date", str(day), "--warehouse", f"{folder}/w", "--run-id", name]
            subprocess.run(command, check=True, stdout=sys.stderr)
            job_s = round(time.monotonic() - began, 1)
            (row,) = [row for row in rows_of(f"{folder}/w", "pipeline_runs") if row["run_id"] == name and row["status"] == "done"]
            phases = {f"{phase}_s": seconds for phase, seconds in dict(row["seconds"]).items()}
            told[name] = {"job_s": job_s, "embedded": dict(row["counts"])["embedded"], **phases}
    return told


def main() -> int:
    sets = {"titles": titles(), "mixed": mixed_texts()}
    settings = EngineSettings()
    expected = Expected(model_key_of(settings))
    figures: dict[str, object] = {}
    ratios = []
    with open_session("bench embed", SparkSettings(driver_memory="2g")) as spark, own_process() as vllm, own_process() as st:

        def stage(texts: list[str]) -> float:
            rows = spark.createDataFrame([(f"{i:08}", text) for i, text in enumerate(texts)], "text_key string, text string").persist()
            rows.count()
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
                    "bare": lambda texts: vllm.submit(bare, settings, texts).result(),
                    "st": lambda texts: st.submit(sentence_transformers, "float32", texts).result(),
                },
                texts,
                ROUNDS,
            )
            with own_process() as process:
                parts = process.submit(shares, texts).result()
            ratios += [
                Ratio(f"{name}: stage / bare LLM.embed", seconds["bare"] / seconds["stage"], least=0.9),
                # docs/decisions/0004-embedding.md says why 1.5 is out of reach where both must compute in float32.
                Ratio(f"{name}: stage / sentence-transformers in float32", seconds["st"] / seconds["stage"], least=1.1),
            ]
            figures[name] = {
                "texts": len(texts),
                "tokens": parts["tokens"],
                **{f"{who}_texts_per_s": round(len(texts) / taken, 1) for who, taken in seconds.items()},
                "stage_tokens_per_s": round(parts["tokens"] / seconds["stage"]),
                "tokenising_share": round(parts["tokenise_s"] / seconds["stage"], 3),
                "model_share": round(parts["model_s"] / seconds["stage"], 3),
                # Spark, Arrow and the pipe; tokenising runs beside the model.
                "transport_share": round(1 - parts["model_s"] / seconds["stage"], 3),
                "padding_share": 0.0,  # vLLM packs texts end to end
                "sentence_transformers_padding_share": round(parts["st_padding"], 3),
            }
    with own_process() as vllm, own_process() as st:
        few = sets["titles"][::4]
        seconds = compare(
            {
                "bare": lambda texts: vllm.submit(bare, EngineSettings(dtype="bfloat16"), texts).result(),
                "st": lambda texts: st.submit(sentence_transformers, "bfloat16", texts).result(),
            },
            few,
            1,
        )
        ratios.append(Ratio("titles: bare LLM.embed / sentence-transformers, both bfloat16", seconds["st"] / seconds["bare"]))
        figures["bfloat16"] = {f"{who}_texts_per_s": round(len(few) / taken, 1) for who, taken in seconds.items()}
    figures["jobs"] = nights(sets["titles"])
    return report("embed", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
