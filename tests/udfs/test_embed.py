"""The embed stage against engines that fail in every way: what is the text's fault is refused, what is the engine's stops."""

import numpy as np
import pyarrow as pa
import pytest

from udfs.embed import OUTPUT_SCHEMA, embed_stream
from udfs.engine import Embedded, EngineConfig, EngineError, HashEmbedder

CONFIG = EngineConfig(kind="hash", hash_dimensions=8, batch_texts=4)


class Faulty(HashEmbedder):
    """The hash engine, but for texts that name what goes wrong with them."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.calls: list[int] = []

    def embed_batch(self, texts):
        self.calls.append(len(texts))
        if any(text.startswith("raise") for text in texts):
            raise ValueError("no such token\nand a stack")
        vectors, counts, truncated = super().embed_batch(texts)
        for row, text in enumerate(texts):
            vectors[row] = {"nan": np.nan, "zero": 0.0}.get(text, vectors[row])
        return Embedded(vectors, counts, truncated)


def batch(texts: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text_key": [f"key of {text}" for text in texts], "text": texts})


def embed(*batches: list[str], faulty: Faulty | None = None) -> pa.Table:
    faulty = faulty or Faulty(CONFIG)
    return pa.Table.from_batches(list(embed_stream(map(batch, batches), CONFIG, lambda config: faulty)), OUTPUT_SCHEMA)


def test_every_text_comes_back_once_and_in_order():
    texts = [f"text {i}" for i in range(11)]
    faulty = Faulty(CONFIG)
    result = embed(texts[:9], texts[9:], faulty=faulty)
    assert result["text_key"].to_pylist() == [f"key of {text}" for text in texts]
    assert faulty.calls == [4, 4, 1, 2]
    assert np.array_equal(np.array(result["vector"].to_pylist(), np.float32), HashEmbedder(CONFIG).embed(texts))


def test_vectors_that_no_table_takes_are_refused_with_a_reason():
    result = embed(["good", "nan", "zero"])
    assert result["reason"].to_pylist() == [None, "not_finite", "zero_vector"]
    assert [vector is None for vector in result["vector"].to_pylist()] == [False, True, True]


@pytest.mark.parametrize("at", range(4))
def test_the_text_that_breaks_a_call_is_found_alone(at):
    texts = ["a", "b", "c", "d"]
    texts[at] = "raise"
    result = embed(texts)
    assert [reason == "engine_error" for reason in result["reason"].to_pylist()] == [i == at for i in range(4)]
    assert result["message"][at].as_py() == "ValueError: no such token"


def test_an_engine_that_fails_on_every_text_stops_the_job():
    with pytest.raises(EngineError, match="fails on every text"):
        embed(["raise 1", "raise 2"])


def test_no_text_starts_no_engine():
    def no_engine(config):
        raise AssertionError("the engine was loaded")

    assert list(embed_stream(iter([batch([])]), CONFIG, no_engine)) == []
