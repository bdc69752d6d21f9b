"""The engine inside the worker: its limits without a model, then vLLM itself on hostile texts.

Each test that runs vLLM has a process of its own (tests/udfs/engines/models.py).
"""

import csv
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import ROOT
from tests.udfs.engines.configs import config
from tests.udfs.engines.models import WORDS, by_transformers, cosines, in_own_process, save_bge, save_qwen3
from udfs.embed import OUTPUT_SCHEMA, Expected, embed_stream
from udfs.engines import vllm_local
from udfs.engines.contract import EngineConfig, Tokens
from udfs.engines.load import load_embedder
from udfs.engines.model import model_folder, model_key
from udfs.engines.vllm_local import VllmEmbedder, cache_gib, pick_dtype, product_seconds
from udfs.errors import EngineError

# ---- without a model


class Slow(VllmEmbedder):
    """The real engine around a model that only sleeps."""

    seconds = 0.0

    def _load(self):
        self.dtype = "float32"

    def _run(self, ids):
        time.sleep(self.seconds)
        return np.ones((len(ids), 4))


def test_a_hanging_engine_is_abandoned_within_the_timeout():
    hanging = Slow(config(timeout_s=1))
    assert hanging.embed(["a"]).tolist() == [[0.5] * 4]
    hanging.seconds = 3
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"the engine has not answered for 1 s \(engine.timeout_s\)"):
        hanging.embed(["a"])
    assert time.monotonic() - began < hanging.seconds


def test_an_engine_that_holds_the_interpreter_ends_its_process():
    code = """
import ctypes
from tests.udfs.engines.configs import config
from tests.udfs.engines.test_vllm_local import Slow
from udfs.engines import vllm_local
vllm_local.GRACE_S = 0
slow = Slow(config(timeout_s=1))
slow._run = lambda ids: ctypes.PyDLL(None).sleep(60)
slow.embed(["a"])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1 and "Timeout (0:00:01)" in ended.stderr


def test_dimensions_are_cut_and_never_invented():
    assert Slow(config(dimensions=2)).embed(["a"]).tolist() == [[np.float32(0.5**0.5)] * 2]
    with pytest.raises(EngineError, match="dimensions is 5, but the model gives 4"):
        Slow(config(dimensions=5))


@pytest.mark.parametrize(
    ("bfloat16_s", "dtype"), [(0.5, "bfloat16"), (0.79, "bfloat16"), (0.81, "float32"), (2.0, "float32")]
)
def test_the_dtype_is_the_one_that_the_processor_multiplies_fastest_in(bfloat16_s, dtype, monkeypatch):
    monkeypatch.setattr(vllm_local, "has_gpu", lambda: False)
    assert pick_dtype({"float32": 1.0, "bfloat16": bfloat16_s}.__getitem__) == dtype
    monkeypatch.setattr(vllm_local, "has_gpu", lambda: True)
    assert pick_dtype({}.__getitem__) == "bfloat16"


def test_a_product_takes_some_time():
    assert all(0 < product_seconds(dtype) < 60 for dtype in ("float32", "bfloat16"))


def test_a_missing_or_corrupt_model_configuration_is_reported(tmp_path):
    with pytest.raises(EngineError, match=r"no readable config\.json: FileNotFoundError"):
        cache_gib(tmp_path, 256)
    for content in ("", "[1]", "{"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(EngineError, match=r"no readable config\.json: "):
            cache_gib(tmp_path, 256)


def test_the_cache_has_room_for_the_longest_text(tmp_path):
    qwen = {
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_size": 1024,
    }
    (tmp_path / "config.json").write_text(json.dumps(qwen))
    assert cache_gib(tmp_path, 30_000) * 2**30 > 2 * 28 * 8 * 128 * 4 * 30_000
    (tmp_path / "config.json").write_text(
        json.dumps({"num_hidden_layers": 6, "num_attention_heads": 12, "hidden_size": 384})
    )
    assert cache_gib(tmp_path, 256) == 1


def test_a_worker_keeps_the_gpus_of_its_engine(monkeypatch):
    two = config(devices=("0", "1"))
    assert vllm_local.environment(two, 1)["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert vllm_local.environment(two, 1)["CUDA_VISIBLE_DEVICES"] == "0,1"
    with pytest.raises(EngineError, match="this worker's engine has GPU 0,1, and the task was given 2"):
        vllm_local.environment(replace(two, devices=("2",)), 1)


def test_missing_gpus_are_not_replaced_by_a_cpu():
    vllm_local.require_gpus(config(), 0)
    vllm_local.require_gpus(config(gpus=1), 2)
    with pytest.raises(EngineError, match=r"engine\.gpus is 2, but this worker sees 1"):
        vllm_local.require_gpus(config(gpus=2), 1)


# ---- vLLM itself

POISON = [
    "", "x", "ab " * 1_700_000, "\U0001f600" * 50, "[CLS] [SEP] [PAD] [MASK] [UNK]", "\ud800 lone \udfff",
    "word " * 100_000, "x" * 5_000_000, "\x00\x01\x7f", "\u202e\u200b\ufeff", "é" * 3000,
    "<s></s><|endoftext|>",
]  # fmt: skip


def embedded(texts: list[str], given: EngineConfig) -> pa.Table:
    keys = [str(i) for i in range(len(texts))]
    # Arrow has no lone surrogates; a log's reader replaces them. The engine gets one directly, below.
    column = [text.encode("utf-8", "replace").decode() for text in texts]
    batch = pa.RecordBatch.from_pydict({"text_key": keys, "text": column})
    return pa.Table.from_batches(
        list(embed_stream(iter([batch]), given, Expected(model_key(given)))), OUTPUT_SCHEMA
    )


def hostile_and_clean() -> dict[str, Any]:
    """Vectors of normal texts with and without hostile ones among them, then a failing model and recovery."""
    normal = [f"{WORDS[i % 13]} {WORDS[i % 7]} number {i} for the garden" for i in range(100)]
    texts = [
        text
        for i, text in enumerate(normal)
        for text in ([POISON[i // 8], text] if i % 8 == 0 and i // 8 < len(POISON) else [text])
    ]
    try:
        load_embedder(config(max_tokens=100_000))
        message = ""
    except EngineError as error:
        message = str(error)
    engine = load_embedder(config())
    clean, mixed = embedded(normal, config()), embedded(texts, config())
    surrogate = engine.embed([POISON[5]])
    with_bad_token = [*engine.tokenise(normal[:7]).ids, [10**7]]
    real, engine.tokenise = (
        engine.tokenise,
        lambda texts: Tokens(with_bad_token, np.zeros(8, np.bool_)) if len(texts) == 8 else real(texts),
    )
    bad = embedded(normal[:8], config())
    engine.tokenise = real
    try:
        load_embedder(config(max_tokens=128))
    except EngineError as error:
        message += f"; {error}"
    return {
        "texts": texts,
        "normal": normal,
        "clean": clean,
        "mixed": mixed,
        "surrogate": surrogate,
        "bad": bad,
        "message": message,
        "related": engine.embed(["trail running shoes", "jogging footwear", "a pot of green tea"]),
        "loaded": {"sklearn", "scipy"} & set(sys.modules),
    }


@pytest.mark.vllm
def test_one_bad_text_costs_one_text():
    got = in_own_process(hostile_and_clean)
    rows = dict(zip(got["texts"], got["mixed"].to_pylist(), strict=True))
    clean = np.array(got["clean"]["vector"].to_pylist())
    assert clean.shape == (100, 384) and np.allclose(np.linalg.norm(clean, axis=1), 1, atol=1e-5)
    assert cosines(np.array([rows[text]["vector"] for text in got["normal"]]), clean).min() > 0.9999
    assert all(rows[text]["vector"] or rows[text]["reason"] for text in POISON)
    assert [rows[text]["truncated"] for text in POISON] == [i in (2, 6, 7) for i in range(12)]
    assert rows[POISON[6]]["token_count"] == 256 and np.isfinite(got["surrogate"]).all()
    # A token that the model does not know fails the entire call.
    assert got["bad"]["reason"].to_pylist() == [None] * 7 + ["engine_error"]
    assert cosines(np.array(got["bad"]["vector"].to_pylist()[:7]), clean[:7]).min() > 0.9999
    assert got["message"].startswith(
        "vLLM could not load all-minilm-l6-v2: User-specified max_model_len (100000) is greater"
    )
    assert got["message"].endswith("; this process already has an engine with another configuration")
    running, jogging, tea = got["related"]
    assert running @ jogging > running @ tea + 0.2
    assert got["loaded"] == set()  # packages hidden from vLLM's import


def message_for_cut_weights(folder: Path, length: int) -> str:
    """The error of a copy of the packaged model whose weights end early."""
    shutil.copytree(model_folder(config()), folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:length])
    try:
        load_embedder(config(model=str(folder)))
    except EngineError as error:
        return str(error)
    return ""


@pytest.mark.vllm
@pytest.mark.slow
def test_truncated_weights_are_reported(tmp_path):
    message = in_own_process(message_for_cut_weights, tmp_path / "cut", 10**6)
    assert message.startswith("vLLM could not load ") and "incomplete metadata" in message


def cosines_with_sentence_transformers(texts: list[str]) -> np.ndarray:
    """Cosine of both implementations' vectors of each text."""
    from sentence_transformers import SentenceTransformer

    other = SentenceTransformer(str(model_folder(config())), device="cpu")
    theirs = other.encode(texts, normalize_embeddings=True)
    return cosines(load_embedder(config()).embed(texts), theirs)


@pytest.mark.vllm
@pytest.mark.slow
def test_vectors_agree_with_sentence_transformers(shared_data):
    with (shared_data / "ml-latest-small" / "movies.csv").open(encoding="utf-8", newline="") as file:
        titles = sorted({row["title"] for row in csv.DictReader(file)})[::20]
    # Titles, and runs of titles up to the most that the model sees.
    texts = titles[:400] + [" ".join(titles[i : i + 1 + i // 3]) for i in range(100)]
    assert len(texts) == 500
    assert in_own_process(cosines_with_sentence_transformers, texts).min() >= 0.999


SENTENCES = [
    "tea",
    "red bicycle",
    "running shoes for the garden",
    "a pot of green tea " * 20,
    "chair lamp " * 9,
]
LONG_TEXTS = ["green tea " * 14_000, "red bicycle " * 20_000, "tea"]
# Settings, texts, the tokens that the model sees of each text, and which texts are cut.
FAMILIES: dict[str, tuple[dict[str, Any], list[str], list[int], list[int]]] = {
    "bge": ({"pooling": "CLS", "max_tokens": 64}, SENTENCES, [3, 4, 7, 64, 20], [3]),
    "bge query": ({"prefix": "query : ", "max_tokens": 64}, SENTENCES, [5, 6, 9, 64, 22], [3]),
    "qwen3": ({"pooling": "LAST", "max_tokens": 128, "dimensions": 16}, SENTENCES, [2, 3, 6, 101, 19], []),
    "qwen3 long": ({"pooling": "LAST", "max_tokens": 30_000}, LONG_TEXTS, [28_001, 30_000, 2], [1]),
}


def engine_and_reference(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, Tokens]:
    """Vectors of the engine and of the reference implementation, and the tokens."""
    changes, texts, _, _ = FAMILIES[name]
    (save_bge if name.startswith("bge") else save_qwen3)(folder)
    family = config(model=str(folder), dtype="float32", **changes)
    engine = load_embedder(family)
    tokens = engine.tokenise(texts)
    return engine.embed_tokens(tokens.ids), by_transformers(family, tokens.ids), tokens


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_other_model_families_agree_with_their_reference(tmp_path, name):
    changes, texts, counts, cut = FAMILIES[name]
    vectors, reference, tokens = in_own_process(engine_and_reference, tmp_path / name, name)
    assert vectors.shape == reference.shape == (len(texts), changes.get("dimensions", 64))
    assert cosines(vectors, reference).min() > 0.999
    assert [len(ids) for ids in tokens.ids] == counts and np.flatnonzero(tokens.truncated).tolist() == cut
    # Different texts differ by more than the tolerance.
    assert abs(cosines(reference[:1], reference[1:2])[0]) < 0.99
