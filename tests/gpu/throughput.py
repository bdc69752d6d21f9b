"""Throughput of the embed stage on a GPU: tokens per second, share of the card's peak, Spark's overhead.

    python -m tests.gpu.throughput [FOLDER OR HUB NAME OF A MODEL] [POOLING]

The share is relative to one large matrix product on the same card in the same run, so that no table of cards
is needed.
"""

import json
import sys
import time
from pathlib import Path

from jobs.embed.stage import embed_tile, engine_workers
from jobs.io.model import engine_config, model_key_of
from jobs.io.session import open_session
from schemas.settings import EngineSettings, SparkSettings
from tests.perf.bench_embed import bare, mixed_texts, own_process
from tests.perf.report import Ratio, report
from udfs.embed import Expected
from udfs.engines.contract import EngineConfig
from udfs.engines.model import load_tokenizer, model_folder, tokenise

# Copies of the texts, enough to keep a card busy for a while.
COPIES = 100


def product_flops() -> float:
    """Floating-point operations per second of a large bfloat16 matrix product."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("bench-gpu: torch sees no GPU here")
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
    """Operations of the model on texts of these token counts.

    Two for each weight of a layer and token, and the products of attention.
    """
    model = json.loads((model_folder(config) / "config.json").read_text(encoding="utf-8"))
    width, layers, inner = model["hidden_size"], model["num_hidden_layers"], model["intermediate_size"]
    heads = model["num_attention_heads"]
    head = model.get("head_dim") or width // heads
    kv_heads = model.get("num_key_value_heads") or heads
    # A gated layer has three products with the inner width, a BERT two.
    weights = (
        width * head * (2 * heads + 2 * kv_heads)
        + (2 if "bert" in model["model_type"] else 3) * width * inner
    )
    return float(sum(layers * (2 * weights * n + 4 * heads * head * n * n) for n in lengths))


def main(argv: list[str]) -> int:
    settings = EngineSettings(
        gpus=1, model=argv[0] if argv else None, pooling=argv[1] if argv[1:] else "MEAN"
    )  # type: ignore[arg-type]
    config = engine_config(settings)
    texts = [f"{text} {i}" for i in range(COPIES) for text in mixed_texts()]
    lengths = [len(ids) for ids in tokenise(load_tokenizer(config), config, texts).ids]
    # One after the other, since an engine takes nearly all of a card's memory.
    with own_process() as process:
        flops = process.submit(product_flops).result()
    with own_process() as process:
        process.submit(bare, settings, texts[:500]).result()
        bare_s = process.submit(bare, settings, texts).result()
    with open_session("bench gpu", SparkSettings(driver_memory="4g")) as spark:
        rows = spark.createDataFrame(
            [(f"{i:08}", text) for i, text in enumerate(texts)], "text_key string, text string"
        ).persist()
        rows.count()
        expected = Expected(model_key_of(settings))
        for part in (rows.limit(500), rows):
            began = time.monotonic()
            with engine_workers(spark, settings):
                embed_tile(part, settings, expected).write.format("noop").mode("overwrite").save()
            stage_s = time.monotonic() - began
    figures = {
        "texts": len(texts),
        "tokens": sum(lengths),
        "model": str(Path(settings.model or "packaged").name),
        "bare_tokens_per_s": round(sum(lengths) / bare_s),
        "stage_tokens_per_s": round(sum(lengths) / stage_s),
        "matrix_product_tflops": round(flops / 1e12, 1),
        "bare_flops_share": round(model_flops(config, lengths) / bare_s / flops, 4),
        "stage_flops_share": round(model_flops(config, lengths) / stage_s / flops, 4),
    }
    return report("embed_gpu", [Ratio("stage / bare LLM.embed", bare_s / stage_s, least=0.9)], figures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
