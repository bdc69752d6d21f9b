"""The embed stage against failing engines: a text at fault is refused, an engine at fault stops the job."""

import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.udfs.engines.configs import config
from udfs.embed import CALL_BYTES, OUTPUT_SCHEMA, Expected, cut, embed_stream
from udfs.engines.contract import EngineConfig
from udfs.engines.hashed_words import HashEmbedder
from udfs.engines.model import model_key
from udfs.errors import EngineError

CONFIG = config(kind="hash", hash_dimensions=8, max_tokens=16, call_tokens=64)
EXPECTED = Expected(model_key(CONFIG))
NUMBERS = {
    word: HashEmbedder(CONFIG).tokenise([word]).ids[0][0]
    for word in ("raise", "nan", "infinite", "zero", "dies")
}
# The reason for which a text with the word is refused.
REASONS = {
    "raise": "engine_error",
    "unreadable": "engine_error",
    "nan": "not_finite",
    "infinite": "not_finite",
    "zero": "zero_vector",
}


class Faulty(HashEmbedder):
    """The hash engine, with faults triggered by words in a text."""

    def __init__(self, config: EngineConfig = CONFIG) -> None:
        super().__init__(config)
        self.calls: list[int] = []
        self.is_dead = False

    def tokenise(self, texts):
        if any("unreadable" in text for text in texts):
            raise OverflowError("no tokens for this")
        return super().tokenise(texts)

    def embed_tokens(self, ids):
        self.calls.append(len(ids))
        self.is_dead = self.is_dead or any(NUMBERS["dies"] in numbers for numbers in ids)
        if self.is_dead or any(NUMBERS["raise"] in numbers for numbers in ids):
            raise ValueError("no such token\nand a stack")
        vectors = super().embed_tokens(ids)
        for word, number in (("nan", np.nan), ("infinite", np.inf), ("zero", 0.0)):
            vectors[[row for row, numbers in enumerate(ids) if NUMBERS[word] in numbers]] = number
        return vectors


def batch(texts: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "text_key": pa.array([f"key of {text}" for text in texts], pa.string()),
            "text": pa.array(texts, pa.string()),
        }
    )


def embed(*batches: list[str], engine: HashEmbedder | None = None, expected: Expected = EXPECTED) -> pa.Table:
    engine = engine or Faulty()
    return pa.Table.from_batches(
        list(embed_stream(map(batch, batches), CONFIG, expected, lambda config: engine)), OUTPUT_SCHEMA
    )


WORDS = st.sampled_from(["tea", "pot", "red", "ä", "日本", *REASONS])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=20).map(" ".join), max_size=30)


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(TEXTS, max_size=3))
def test_each_text_comes_back_once_in_order_with_its_own_vector_or_its_own_reason(batches):
    texts = [text for part in batches for text in part]
    result = embed(*batches)
    assert result["text_key"].to_pylist() == [f"key of {text}" for text in texts]
    clean = HashEmbedder(CONFIG)
    for row, text in zip(result.to_pylist(), texts, strict=True):
        words = text.split()
        seen = words if "unreadable" in words else words[: CONFIG.max_tokens]
        wanted = {REASONS[word] for word in seen if word in REASONS}
        if wanted:
            assert row["reason"] in wanted and row["message"]
            assert row["vector"] is row["dim"] is row["token_count"] is row["truncated"] is None
        else:
            assert row["reason"] is row["message"] is None
            assert np.array_equal(np.array(row["vector"], np.float32), clean.embed([text])[0])
            assert (row["token_count"], row["truncated"]) == (min(len(words), 16), len(words) > 16)


@settings(deadline=None)
@given(
    texts=st.lists(st.text(max_size=80), min_size=1, max_size=40),
    call_tokens=st.integers(1, 100),
    prefix=st.text(max_size=5),
)
def test_calls_are_bounded_and_cover_the_batch_in_order(texts, call_tokens, prefix):
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    small = replace(CONFIG, call_tokens=call_tokens, prefix=prefix.encode("utf-8", "replace").decode())
    parts = [part["text"].to_pylist() for part in cut(batch(texts), small, dim=8)]
    assert [text for part in parts for text in part] == texts
    tokens = [sum(min(len((small.prefix + text).encode()) + 2, 16) for text in part) for part in parts]
    assert all(
        total <= call_tokens + 1e-6 or len(part) == 1 for total, part in zip(tokens, parts, strict=True)
    )


def test_calls_are_bounded_in_bytes():
    long = ["x" * (CALL_BYTES // 3)] * 7
    parts = cut(batch(long), replace(CONFIG, call_tokens=10**9), dim=8)
    assert [part.num_rows for part in parts] == [2, 2, 2, 1]


def test_the_text_that_breaks_a_call_costs_few_calls():
    engine = Faulty()
    texts = [f"text {i}" for i in range(8)]
    texts[5] = "raise"
    result = embed(texts, engine=engine)
    assert result["message"][5].as_py() == "ValueError: no such token"
    assert sum(reason is None for reason in result["reason"].to_pylist()) == 7
    # All eight, then halves around the text, with a probe of one text after each failure.
    assert engine.calls == [8, 1, 4, 4, 1, 2, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("texts", [["dies"], ["a", "b", "dies"], ["dies", "raise", "a"]])
def test_a_dead_engine_stops_the_job_and_refuses_no_text(texts):
    with pytest.raises(EngineError, match="fails on every text: ValueError: no such token"):
        embed(["before"], texts)


def test_an_error_of_the_engine_itself_is_passed_on():
    class Late(Faulty):
        def embed_tokens(self, ids):
            raise EngineError("it has not answered")

    with pytest.raises(EngineError, match="it has not answered"):
        embed(["a", "b"], engine=Late())


def test_fewer_vectors_than_texts_are_given_to_no_text():
    class One(Faulty):
        def embed_tokens(self, ids):
            return super().embed_tokens(ids)[:1]

    result = embed(["a", "b", "a b c"], engine=One())
    assert np.allclose(result["vector"].to_pylist(), HashEmbedder(CONFIG).embed(["a", "b", "a b c"]))


def test_vectors_of_another_size_are_refused():
    class Short(Faulty):
        def embed_tokens(self, ids):
            return super().embed_tokens(ids)[:, :7]

    result = embed(["a", "b"], engine=Short())
    assert (
        result["reason"].to_pylist() == ["wrong_size"] * 2
        and "7 numbers instead of 8" in result["message"][0].as_py()
    )


def test_the_next_call_is_tokenised_while_the_engine_runs_this_one():
    class Waiting(HashEmbedder):
        """Its first call ends once the texts of the second call are tokenised."""

        def __init__(self) -> None:
            super().__init__(CONFIG)
            self.tokenised = [threading.Event(), threading.Event()]

        def tokenise(self, texts):
            self.tokenised[0 if "first" in texts[0] else 1].set()
            return super().tokenise(texts)

        def embed_tokens(self, ids):
            assert self.tokenised[1].wait(20)
            return super().embed_tokens(ids)

    assert embed(["first"], ["second"], engine=Waiting()).num_rows == 2


def test_another_model_on_this_machine_is_refused():
    with pytest.raises(
        EngineError, match=r"this machine's model is hash-8-\w+, but the job embeds with other-0123"
    ):
        embed(["a"], expected=Expected("other-0123"))


def test_an_engine_must_reproduce_stored_vectors():
    texts = ["a red bicycle", "a pot of tea"]
    vectors = HashEmbedder(CONFIG).embed(texts)
    assert embed(["a"], expected=EXPECTED._replace(texts=texts, vectors=vectors)).num_rows == 1
    turned = EXPECTED._replace(texts=texts, vectors=vectors * np.array([[1], [-1]], np.float32))
    with pytest.raises(EngineError, match="gives other vectors than those stored under hash-8"):
        embed(["a"], expected=turned)
    longer = EXPECTED._replace(texts=texts, vectors=np.ones((2, 9), np.float32))
    with pytest.raises(EngineError, match="gives other vectors"):
        embed(["a"], expected=longer)


def test_a_partition_without_texts_starts_no_engine():
    def no_engine(config):
        raise AssertionError("the engine was loaded")

    assert list(embed_stream(iter([batch([])]), CONFIG, EXPECTED, no_engine)) == []
