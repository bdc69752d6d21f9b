"""The engine of running servers, against servers that fail: what may pass is tried again elsewhere, what is a text's fault is told."""

import socket
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.embedding_server import VECTORS, embedding_server
from udfs.embed import Expected, embed_stream
from udfs.engine import EngineConfig, EngineError, model_key
from udfs.engine_server import REQUEST_TOKENS, RefusedError, ServerEmbedder, requests

CONFIG = EngineConfig(kind="vllm_server", timeout_s=20)
TEXTS = [f"a pot of tea number {i}" for i in range(40)]


@pytest.fixture
def server():
    with embedding_server() as server:
        yield server


@pytest.fixture
def second():
    with embedding_server() as server:
        yield server


def config_of(*servers, **changes) -> EngineConfig:
    return replace(CONFIG, endpoints=tuple(server.url for server in servers), **changes)


def expected(engine) -> np.ndarray:
    return VECTORS.embed_tokens(engine.tokenise(TEXTS).ids)


def test_vectors_come_back_in_order_from_concurrent_requests(server):
    engine = ServerEmbedder(config_of(server))
    ids = engine.tokenise(TEXTS * 100).ids
    assert np.allclose(engine.embed_tokens(ids), np.tile(expected(engine), (100, 1)), atol=1e-6)
    assert len(server.inputs) > 4 and sum(server.inputs) == 1 + 4000 and 1 < server.most_at_once <= 4
    assert engine.model_key == model_key(EngineConfig()) and engine.dim == 8
    assert engine.embed([]).shape == (0, 8)


def test_requests_are_bounded_by_tokens():
    ids = [[0] * length for length in (REQUEST_TOKENS, 1, REQUEST_TOKENS - 1, 1, REQUEST_TOKENS + 1, 1)]
    assert [[len(numbers) for numbers in part] for part in requests(ids)] == [
        [REQUEST_TOKENS], [1, REQUEST_TOKENS - 1], [1], [REQUEST_TOKENS + 1], [1]
    ]  # fmt: skip
    assert requests([]) == []


@pytest.mark.parametrize("answers", [[(503, {})], [(429, {"Retry-After": "0"})] * 3, [(500, {})], [(502, {}), (504, {})]])
def test_what_may_pass_is_tried_again(server, answers):
    engine = ServerEmbedder(config_of(server))
    server.answers = list(answers)
    assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    assert server.answers == []


def test_a_server_that_is_gone_is_passed_over(server, second):
    engine = ServerEmbedder(config_of(server, second))
    server.shutdown()
    server.server_close()
    for _ in range(4):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    assert sum(second.inputs) >= 160


def test_a_server_that_hangs_is_passed_over(server, second):
    engine = ServerEmbedder(config_of(server, second, timeout_s=3))
    server.answers = [(0, {})] * 4
    for _ in range(2):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)


def test_silence_ends_within_the_configured_time(server):
    engine = ServerEmbedder(config_of(server, timeout_s=1))
    server.answers = [(0, {})] * 100
    with pytest.raises(EngineError, match=r"no server has answered for 1 s \(engine.timeout_s\)"):
        engine.embed(TEXTS)


def test_no_server_at_all_is_told():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(EngineError, match=r"no server has answered for 1 s .*Connection"):
            ServerEmbedder(replace(CONFIG, endpoints=(f"http://127.0.0.1:{unused.getsockname()[1]}",), timeout_s=1))


def test_a_text_that_breaks_the_server_costs_one_text(server):
    engine = ServerEmbedder(config_of(server))
    server.poison = engine.tokenise(["xylophone"]).ids[0][1]
    with pytest.raises(RefusedError, match="500 these tokens break me"):
        engine.embed(["a xylophone"])
    texts = [*TEXTS[:5], "a xylophone", *TEXTS[5:9]]
    batch = pa.RecordBatch.from_pydict({"text_key": texts, "text": texts})
    (result,) = embed_stream(iter([batch]), engine._config, Expected(engine.model_key), lambda config: engine)
    assert [row for row, reason in enumerate(result["reason"].to_pylist()) if reason] == [5]
    assert result["message"][5].as_py() == "RefusedError: 500 these tokens break me"


def test_the_key_comes_from_the_environment(server, monkeypatch):
    server.key = "secret"
    with pytest.raises(EngineError, match="401 who are you"):
        ServerEmbedder(config_of(server))
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "secret")
    assert ServerEmbedder(config_of(server)).dim == 8
    monkeypatch.delenv("NIGHTFOLD_ENGINE_KEY")
    monkeypatch.setenv("OTHER_KEY", "secret")
    assert ServerEmbedder(config_of(server, key_variable="OTHER_KEY")).dim == 8


def test_the_served_model_is_named_where_there_are_several(server):
    server.models = ["one", "two"]
    with pytest.raises(EngineError, match="the servers have one, two; name one"):
        ServerEmbedder(config_of(server))
    assert ServerEmbedder(config_of(server, served_model="two")).dim == 8


def test_dimensions_are_cut_and_never_invented(server):
    engine = ServerEmbedder(config_of(server, dimensions=4))
    whole = expected(engine)[:, :4]
    assert np.allclose(engine.embed(TEXTS), whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(EngineError, match="dimensions is 9, but the model gives 8"):
        ServerEmbedder(config_of(server, dimensions=9))
