"""The engines: what names a model, and that vectors come back whole, in order and of unit length."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from udfs.engine import EngineConfig, EngineError, HashEmbedder, load_embedder, model_key, unit

HASH = EngineConfig(kind="hash", hash_dimensions=32, max_tokens=8)


def test_hashed_texts_are_unit_vectors_and_deterministic():
    texts = ["Running shoes", "running SHOES", "tea pot", "!!!", "", "a " * 50]
    engine = HashEmbedder(HASH)
    vectors, tokens = engine.embed(texts), engine.tokenise(texts)
    assert vectors.shape == (6, 32) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors, HashEmbedder(HASH).embed(texts))
    assert tokens.truncated.tolist() == [False] * 5 + [True]
    assert [len(ids) for ids in tokens.ids] == [2, 2, 2, 3, 0, 8]


def test_a_hashed_text_does_not_depend_on_its_batch():
    texts = [f"word{i} other{i % 7}" for i in range(50)]
    together = HashEmbedder(HASH).embed(texts)
    assert all(np.array_equal(together[i], HashEmbedder(HASH).embed([text])[0]) for i, text in enumerate(texts))


@pytest.mark.parametrize("change", [{"pooling": "CLS"}, {"prefix": "query: "}, {"max_tokens": 128}, {"dimensions": 64}])
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


def test_a_row_without_length_stays_what_it_is():
    assert np.array_equal(unit(np.array([[0.0, 0.0], [3.0, 4.0]])), np.array([[0, 0], [0.6, 0.8]], np.float32))


def embed_twice(texts: list[str]):
    """What the real engine gives for the texts, and for them in reverse order; and whether it was loaded once."""
    embedder = load_embedder(EngineConfig(batch_texts=64))
    is_one = load_embedder(EngineConfig(batch_texts=64)) is embedder
    return embedder.embed_batch(texts), embedder.embed(texts[::-1])[::-1], embedder.dim, is_one


@pytest.mark.vllm
def test_the_real_engine():
    texts = ["trail running shoes", "a pot of green tea", "jogging footwear", "word " * 5000]
    # In a process of its own, as in a Spark worker: vLLM's import trips over numba's modules where they are loaded already.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        embedded, again, dim, is_one = process.submit(embed_twice, texts).result()
    assert is_one and embedded.vectors.shape == (4, 384) == (4, dim)
    assert np.allclose(np.linalg.norm(embedded.vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    assert embedded.truncated.tolist() == [False, False, False, True] and embedded.token_counts[3] == 256
    near, far = embedded.vectors[0] @ embedded.vectors[2], embedded.vectors[0] @ embedded.vectors[1]
    assert near > far + 0.2
    assert (np.sum(again * embedded.vectors, axis=1) > 0.999).all()
