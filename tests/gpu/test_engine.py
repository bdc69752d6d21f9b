"""The engine on a GPU: the vectors of the models' reference implementation on the CPU.

Run by `make test-gpu`.
"""

from pathlib import Path

import pytest

from tests.udfs.engines.configs import config
from tests.udfs.engines.models import WORDS, by_transformers, cosines, in_own_process, save_bge, save_qwen3
from udfs.engines.load import load_embedder
from udfs.engines.vllm_local import has_gpu

pytestmark = pytest.mark.gpu


def compared_with_reference(folder: Path, model: str) -> tuple[float, str]:
    """The least cosine with the reference, and the dtype that the engine computed in."""
    if not has_gpu():
        raise RuntimeError("torch sees no GPU here")
    {"packaged": lambda folder: None, "bge": save_bge, "qwen3": save_qwen3}[model](folder)
    settings = {
        "packaged": config(),
        "bge": config(model=str(folder), dtype="float32", pooling="CLS", max_tokens=64),
        "qwen3": config(
            model=str(folder), dtype="float32", pooling="LAST", max_tokens=128, engines_per_gpu=2
        ),
    }[model]
    engine = load_embedder(settings)
    ids = engine.tokenise([f"{WORDS[i % 13]} {WORDS[i % 7]} for the {WORDS[i % 11]}" for i in range(500)]).ids
    return float(cosines(engine.embed_tokens(ids), by_transformers(settings, ids)).min()), engine.dtype


@pytest.mark.parametrize(
    ("model", "dtype"), [("packaged", "bfloat16"), ("bge", "float32"), ("qwen3", "float32")]
)
def test_vectors_on_a_gpu_agree_with_the_reference(tmp_path, model, dtype):
    least, computed_in = in_own_process(compared_with_reference, tmp_path, model)
    assert least >= 0.999 and computed_in == dtype
