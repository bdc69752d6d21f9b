"""Throughput of the embed stage on a GPU: tokens per second, share of peak, Spark against the bare engine.

    python -m tests.gpu.throughput [FOLDER OR HUB NAME OF A MODEL] [POOLING]

The peak is measured in the same run, as the rate of one large matrix product; no table of cards is needed.
"""

import json
import random
import sys
import time
from pathlib import Path

from jobs.embed.stage import embed_tile, engine_workers
from jobs.io.model import engine_config, model_key_of
from jobs.io.session import open_session
from schemas.settings import EngineSettings, SparkSettings
from tests.perf.bench_embed import bare, own_process
from tests.perf.report import Ratio, report
from tests.udfs.test_engine_models import WORDS
from udfs.embed import Expected
from udfs.engines.contract import EngineConfig
from udfs.engines.model import load_tokenizer, model_folder, tokenise

# Enough to keep a card busy for a while.
TEXTS = 100_000
# The engine and the stage are warm after this many.
WARM_UP_TEXTS = 500
# Bounds of the length of a text, in words; each order of magnitude is equally frequent.
SHORTEST, LONGEST = 3, 225


def mixed_texts(count: int) -> list[str]:
    """Seeded texts of 6 to 230 tokens. Each starts with its number, so no prefix cache helps."""
    chance = random.Random(7)
    sizes = [int(SHORTEST * (LONGEST / SHORTEST) ** chance.random()) for _ in range(count)]
    return [" ".join([str(i), *chance.choices(WORDS, k=size)]) for i, size in enumerate(sizes)]


def product_flops() -> float:
    """Floating-point operations per second of a large bfloat16 matrix product."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("bench-gpu: torch sees no GPU; docs/gpu.md explains the set-up")
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(50):
        a @ b
    torch.cuda.synchronize()
    return 50 * 2 * 8192**3 / (time.monotonic() - began)


def model_flops(config: EngineConfig, lengths: list[int]) -> float:
    """Operations of the model on texts of these token counts: two per weight and token, plus attention."""
    model = json.loads((model_folder(config) / "config.json").read_text(encoding="utf-8"))
    width, layers, inner = model["hidden_size"], model["num_hidden_layers"], model["intermediate_size"]
    heads = model["num_attention_heads"]
    head = model.get("head_dim") or width // heads
    kv_heads = model.get("num_key_value_heads") or heads
    # A gated layer has three products with the inner width, BERT has two.
    weights = (
        width * head * (2 * heads + 2 * kv_heads)
        + (2 if "bert" in model["model_type"] else 3) * width * inner
    )
    return float(sum(layers * (2 * weights * n + 4 * heads * head * n * n) for n in lengths))


def bare_seconds(settings: EngineSettings, texts: list[str]) -> float:
    """Seconds of vLLM's own LLM.embed, warm."""
    with own_process() as process:
        process.submit(bare, settings, texts[:WARM_UP_TEXTS]).result()
        return float(process.submit(bare, settings, texts).result())


def stage_seconds(settings: EngineSettings, texts: list[str]) -> float:
    """Seconds of the embed stage in Spark, warm."""
    with open_session("bench gpu", SparkSettings(driver_memory="4g")) as spark:
        numbered = [(f"{i:08}", text) for i, text in enumerate(texts)]
        rows = spark.createDataFrame(numbered, "text_key string, text string").persist()
        rows.count()
        expected = Expected(model_key_of(settings))
        for part in (rows.limit(WARM_UP_TEXTS), rows):
            began = time.monotonic()
            with engine_workers(spark, settings):
                embed_tile(part, settings, expected).write.format("noop").mode("overwrite").save()
        return time.monotonic() - began


def main(argv: list[str]) -> int:
    pooling = argv[1] if argv[1:] else "MEAN"
    settings = EngineSettings(gpus=1, model=argv[0] if argv else None, pooling=pooling)
    config = engine_config(settings)
    texts = mixed_texts(TEXTS)
    lengths = [len(ids) for ids in tokenise(load_tokenizer(config), config, texts).ids]
    # One after the other: an engine takes nearly all of a card's memory.
    with own_process() as process:
        peak = process.submit(product_flops).result()
    bare_s, stage_s = bare_seconds(settings, texts), stage_seconds(settings, texts)
    tokens, flops = sum(lengths), model_flops(config, lengths)
    figures = {
        "texts": len(texts),
        "tokens": tokens,
        "model": str(Path(settings.model or "packaged").name),
        "bare_tokens_per_s": round(tokens / bare_s),
        "stage_tokens_per_s": round(tokens / stage_s),
        "matrix_product_tflops": round(peak / 1e12, 1),
        "bare_flops_share": round(flops / bare_s / peak, 4),
        "stage_flops_share": round(flops / stage_s / peak, 4),
    }
    return report("embed_gpu", [Ratio("stage / bare LLM.embed", bare_s / stage_s, least=0.9)], figures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
