"""On a GPU the engine gives the vectors of the reference implementation on the CPU: `make test-gpu`."""

from pathlib import Path

import pytest

from tests.udfs.test_engine_models import (
    WORDS,
    by_transformers,
    cosines,
    in_own_process,
    save_bge,
    save_qwen3,
)
from udfs.engines.contract import EngineConfig
from udfs.engines.load import load_embedder
from udfs.engines.vllm_local import has_gpu

pytestmark = pytest.mark.gpu


def compared_with_reference(folder: Path, model: str) -> tuple[float, str]:
    """The smallest cosine with the reference, and the engine's dtype."""
    if not has_gpu():
        raise RuntimeError("torch sees no GPU here")
    {"packaged": lambda folder: None, "bge": save_bge, "qwen3": save_qwen3}[model](folder)
    config = {
        "packaged": EngineConfig(),
        "bge": EngineConfig(model=str(folder), dtype="float32", pooling="CLS", max_tokens=64),
        "qwen3": EngineConfig(
            model=str(folder), dtype="float32", pooling="LAST", max_tokens=128, engines_per_gpu=2
        ),
    }[model]
    engine = load_embedder(config)
    ids = engine.tokenise([f"{WORDS[i % 13]} {WORDS[i % 7]} for the {WORDS[i % 11]}" for i in range(500)]).ids
    return float(cosines(engine.embed_tokens(ids), by_transformers(config, ids)).min()), engine.dtype


@pytest.mark.parametrize(
    ("model", "dtype"), [("packaged", "bfloat16"), ("bge", "float32"), ("qwen3", "float32")]
)
def test_a_gpu_gives_the_reference_vectors(tmp_path, model, dtype):
    smallest, engine_dtype = in_own_process(compared_with_reference, tmp_path, model)
    assert smallest >= 0.999 and engine_dtype == dtype
