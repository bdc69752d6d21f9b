"""The engines: what names a model, and that vectors come back whole, in order and of unit length."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from udfs.engines import vllm_local
from udfs.engines.contract import EngineConfig, unit
from udfs.engines.hashed_words import HashEmbedder
from udfs.engines.model import load_tokenizer, model_key, tokenise
from udfs.engines.vllm_local import VllmEmbedder, cache_gib, pick_dtype, product_seconds
from udfs.errors import EngineError

HASH = EngineConfig(kind="hash", hash_dimensions=32, max_tokens=8)


def test_hashed_texts_are_unit_vectors_and_deterministic():
    texts = ["Running shoes", "running SHOES", "tea pot", "!!!", "", "a " * 50]
    engine = HashEmbedder(HASH)
    vectors, tokens = engine.embed(texts), tokenise(texts)
    assert vectors.shape == (6, 32) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors, HashEmbedder(HASH).embed(texts))
    assert tokens.truncated.tolist() == [False] * 5 + [True]
    assert [len(ids) for ids in tokens.ids] == [2, 2, 2, 3, 0, 8]


def test_a_hashed_text_does_not_depend_on_its_batch():
    texts = [f"word{i} other{i % 7}" for i in range(50)]
    together = HashEmbedder(HASH).embed(texts)
    assert all(
        np.array_equal(together[i], HashEmbedder(HASH).embed([text])[0]) for i, text in enumerate(texts)
    )


@pytest.mark.parametrize(
    "change", [{"pooling": "CLS"}, {"prefix": "query: "}, {"max_tokens": 128}, {"dimensions": 64}]
)
def test_what_changes_meaning_changes_the_key(change):
    assert model_key(replace(EngineConfig(), **change)) != model_key(EngineConfig())


@pytest.mark.parametrize("change", [{"dtype": "float32"}, {"threads": 1}, {"call_tokens": 7}])
def test_what_only_changes_bits_or_speed_does_not(change):
    assert model_key(replace(EngineConfig(), **change)) == model_key(EngineConfig())


def test_the_key_follows_the_weights_and_the_tokenizer(tmp_path):
    keys = set()
    for weights, tokens in (("a", "x"), ("b", "x"), ("b", "y")):
        folder = tmp_path / (weights + tokens) / "Some Model"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(weights)
        (folder / "tokenizer.json").write_text(tokens)
        keys.add(model_key(EngineConfig(model=str(folder))))
    assert len(keys) == 3 and all(key.startswith("some-model-") for key in keys)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(EngineError, match="safetensors"):
        model_key(EngineConfig(model=str(tmp_path)))


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(EngineError, match="there is no folder /no/such/model"):
        model_key(EngineConfig(model="/no/such/model"))


def test_damaged_files_of_a_model_are_named(tmp_path):
    config = EngineConfig(model=str(tmp_path))
    with pytest.raises(EngineError, match=r"has no tokenizer\.json"):
        load_tokenizer(config)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EngineError, match=r"tokenizer\.json can't be read"):
        load_tokenizer(config)
    with pytest.raises(EngineError, match=r"no config\.json that can be read: FileNotFoundError"):
        cache_gib(tmp_path, 256)
    for content in ("", "[1]", "{"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(EngineError, match=r"no config\.json that can be read"):
            cache_gib(tmp_path, 256)


@pytest.mark.parametrize("name", ["foo--bar", "some/model-", "a..b", "no-one/has-this"])
def test_a_name_that_the_hub_has_not_is_told(name):
    with pytest.raises(EngineError, match="is no folder and not in the local hub cache"):
        model_key(EngineConfig(model=name))


def test_a_home_of_nobody_is_told():
    with pytest.raises(EngineError, match="there is no folder ~nobody-of-this-name/model"):
        model_key(EngineConfig(model="~nobody-of-this-name/model"))


def test_a_row_without_length_stays_what_it_is():
    assert np.array_equal(
        unit(np.array([[0.0, 0.0], [3.0, 4.0]])), np.array([[0, 0], [0.6, 0.8]], np.float32)
    )
    assert np.array_equal(unit(np.array([[1e-30, 0.0]])), np.array([[1e-30, 0]], np.float32))


class Slow(VllmEmbedder):
    """The real engine's shell around a model that takes its time."""

    seconds = 0.0

    def _load(self):
        self.dtype = "float32"

    def _run(self, ids):
        time.sleep(self.seconds)
        return np.ones((len(ids), 4))


def test_an_engine_that_hangs_is_left_behind_within_the_configured_time():
    hanging = Slow(EngineConfig(timeout_s=1))
    assert hanging.embed(["a"]).tolist() == [[0.5] * 4]
    hanging.seconds = 3
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"the engine has not answered for 1 s \(engine.timeout_s\)"):
        hanging.embed(["a"])
    assert time.monotonic() - began < hanging.seconds


def test_an_engine_that_holds_the_interpreter_ends_its_process():
    code = """
import ctypes
from tests.udfs.test_engine import Slow
from udfs.engines import vllm_local
from udfs.engines.contract import EngineConfig
vllm_local.GRACE_S = 0
slow = Slow(EngineConfig(timeout_s=1))
slow._run = lambda ids: ctypes.PyDLL(None).sleep(60)
slow.embed(["a"])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1 and "Timeout (0:00:01)" in ended.stderr


def test_dimensions_are_cut_and_never_invented():
    assert Slow(EngineConfig(dimensions=2)).embed(["a"]).tolist() == [[np.float32(0.5**0.5)] * 2]
    with pytest.raises(EngineError, match="dimensions is 5, but the model gives 4"):
        Slow(EngineConfig(dimensions=5))


def test_a_text_is_cut_by_characters_and_then_by_tokens():
    config = EngineConfig(max_tokens=16)
    tokenizer = load_tokenizer(config)
    texts = ["tea", "tea " * 14, "tea " * 15, "x" * 1000, "", "\ud800", "[PAD] [SEP]", "😀" * 40]
    tokens = tokenise(tokenizer, config, texts)
    assert [len(ids) for ids in tokens.ids[:4]] == [3, 16, 16, 3] and all(
        len(ids) <= 16 for ids in tokens.ids
    )
    assert tokens.truncated.tolist() == [False, False, True, True, False, False, False, False]
    assert tokenise(tokenizer, replace(config, prefix="tea "), ["tea " * 14]).truncated.tolist() == [True]
    assert tokenise(tokenizer, config, []).ids == []


@pytest.mark.parametrize(
    ("bfloat16_s", "dtype"), [(0.5, "bfloat16"), (0.79, "bfloat16"), (0.81, "float32"), (2.0, "float32")]
)
def test_the_dtype_is_what_the_processor_multiplies_fastest_in(bfloat16_s, dtype, monkeypatch):
    monkeypatch.setattr(vllm_local, "has_gpu", lambda: False)
    assert pick_dtype({"float32": 1.0, "bfloat16": bfloat16_s}.__getitem__) == dtype
    monkeypatch.setattr(vllm_local, "has_gpu", lambda: True)
    assert pick_dtype({}.__getitem__) == "bfloat16"


def test_a_product_takes_some_time():
    assert all(0 < product_seconds(dtype) < 60 for dtype in ("float32", "bfloat16"))


def test_a_prefix_that_leaves_no_room_for_a_text_is_told():
    with pytest.raises(EngineError, match=r"prefix alone has the 8 tokens of engine\.max_tokens"):
        load_tokenizer(EngineConfig(max_tokens=8, prefix="one two three four five six "))
    load_tokenizer(EngineConfig(max_tokens=8, prefix="one two three four five "))


def test_room_for_the_longest_text_is_made(tmp_path):
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
    config = EngineConfig(devices=("0", "1"))
    assert vllm_local._environment(config, 1)["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert vllm_local._environment(config, 1)["CUDA_VISIBLE_DEVICES"] == "0,1"
    with pytest.raises(EngineError, match="this worker's engine has GPU 0,1, and the task was given 2"):
        vllm_local._environment(replace(config, devices=("2",)), 1)


def test_gpus_that_are_not_there_are_not_replaced_by_a_cpu():
    vllm_local.require_gpus(EngineConfig(), 0)
    vllm_local.require_gpus(EngineConfig(gpus=1), 2)
    with pytest.raises(EngineError, match=r"engine\.gpus is 2, but this worker sees 1"):
        vllm_local.require_gpus(EngineConfig(gpus=2), 1)


def test_hidden_packages_come_back(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with vllm_local._without("wave", "json"), pytest.raises(ModuleNotFoundError):
        import wave  # noqa: F401
    import wave as back

    assert back and json is sys.modules["json"]
