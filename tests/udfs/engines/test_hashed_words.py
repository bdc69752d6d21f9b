"""The hash engine: deterministic unit vectors, independent of the batch."""

import numpy as np

from tests.udfs.engines.configs import config
from udfs.engines.hashed_words import HashEmbedder

HASH = config(kind="hash", hash_dimensions=32, max_tokens=8)


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
    assert all(
        np.array_equal(together[i], HashEmbedder(HASH).embed([text])[0]) for i, text in enumerate(texts)
    )
