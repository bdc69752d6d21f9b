"""The server engine against failing servers: temporary errors are retried, errors of a text are reported."""

import base64
import socket
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.embedding_server import VECTORS, embedding_server
from tests.udfs.engines.configs import config
from tests.udfs.engines.models import WORDS, cosines, in_own_process
from tests.vllm_server import KEY, MODEL, free_port, vllm_server
from udfs.embed import Expected, embed_stream, refuse_other_model
from udfs.engines import vllm_server as engine_server
from udfs.engines.contract import EngineConfig
from udfs.engines.load import load_embedder
from udfs.engines.model import model_key
from udfs.engines.vllm_server import REQUEST_TOKENS, RefusedError, ServerEmbedder, requests
from udfs.errors import EngineError

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
    endpoints = tuple(server.url for server in servers)
    return config(**{"kind": "vllm_server", "timeout_s": 20, "endpoints": endpoints} | changes)


def expected(engine) -> np.ndarray:
    return VECTORS.embed_tokens(engine.tokenise(TEXTS).ids)


def test_vectors_come_back_in_order_from_concurrent_requests(server):
    engine = ServerEmbedder(config_of(server))
    ids = engine.tokenise(TEXTS * 100).ids
    assert np.allclose(engine.embed_tokens(ids), np.tile(expected(engine), (100, 1)), atol=1e-6)
    assert len(server.inputs) > 4 and sum(server.inputs) == 1 + 4000 and 1 < server.most_at_once <= 4
    assert engine.model_key == model_key(config()) and engine.dim == 8
    assert engine.embed([]).shape == (0, 8)


def test_requests_are_bounded_by_tokens():
    ids = [[0] * length for length in (REQUEST_TOKENS, 1, REQUEST_TOKENS - 1, 1, REQUEST_TOKENS + 1, 1)]
    assert [[len(numbers) for numbers in part] for part in requests(ids)] == [
        [REQUEST_TOKENS], [1, REQUEST_TOKENS - 1], [1], [REQUEST_TOKENS + 1], [1]
    ]  # fmt: skip
    assert requests([]) == []


@pytest.mark.parametrize(
    "answers", [[(503, {})], [(429, {"Retry-After": "0"})] * 3, [(500, {})], [(502, {}), (504, {})]]
)
def test_a_temporary_error_is_retried(server, answers):
    engine = ServerEmbedder(config_of(server))
    server.answers = list(answers)
    assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    assert server.answers == []


def test_a_server_that_is_down_is_skipped(server, second):
    engine = ServerEmbedder(config_of(server, second))
    server.shutdown()
    server.server_close()
    for _ in range(4):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    assert sum(second.inputs) >= 160


def test_a_hanging_server_is_skipped(server, second):
    engine = ServerEmbedder(config_of(server, second, timeout_s=3))
    server.answers = [(0, {})] * 4
    for _ in range(2):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)


def test_a_hanging_server_is_waited_for_once(server, second):
    engine = ServerEmbedder(config_of(server, second, timeout_s=9))
    server.answers = [(0, {})] * 100
    began = time.monotonic()
    for _ in range(8):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    # Four of the eight requests were its turn, and each would have waited 3 s.
    assert time.monotonic() - began < 7 and len(server.answers) == 99
    second.shutdown()
    second.server_close()
    server.answers = []
    assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)


def test_a_server_that_asks_for_a_long_pause_is_skipped(server, second):
    engine = ServerEmbedder(config_of(server, second, timeout_s=5))
    server.answers = [(429, {"Retry-After": "600"}), (503, {"Retry-After": "\xb2"})] * 4
    for _ in range(4):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    assert len(server.answers) < 8


def test_silence_ends_within_the_timeout(server):
    engine = ServerEmbedder(config_of(server, timeout_s=1))
    server.answers = [(0, {})] * 100
    with pytest.raises(EngineError, match=r"no server has answered for 1 s \(engine.timeout_s\)"):
        engine.embed(TEXTS)


@pytest.mark.parametrize("length", [10**5, 10**13])
def test_an_endless_answer_is_abandoned_within_the_timeout(server, length):
    engine = ServerEmbedder(config_of(server, timeout_s=2))
    server.answers = [(429, {"Content-Length": str(length)})] * 100
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"no server has answered for 2 s "):
        engine.embed(TEXTS)
    assert time.monotonic() - began < 6


def test_an_answer_that_is_too_long_is_reported(server, monkeypatch):
    monkeypatch.setattr(engine_server, "ANSWER_BYTES", 1 << 20)
    server.spoil = lambda answer: b" " * (2 << 20)
    with pytest.raises(EngineError, match="the answer is longer than 1 MiB"):
        ServerEmbedder(config_of(server, timeout_s=3))


def test_a_shortened_last_attempt_does_not_hide_the_error_before_it(server):
    engine = ServerEmbedder(config_of(server, timeout_s=3))
    # The second attempt has less than a third of the time.
    server.answers = [(503, {"Retry-After": "2"}), (0, {}), (0, {})]
    with pytest.raises(EngineError, match=r"the last said .* 503 not now"):
        engine.embed(TEXTS)


def test_no_server_at_all_is_reported():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(EngineError, match=r"no server has answered for 1 s .*Connection"):
            ServerEmbedder(config_of(endpoints=(f"http://127.0.0.1:{unused.getsockname()[1]}",), timeout_s=1))


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


SPOILT = {
    "a proxy's page": lambda answer: b"<html>",
    "no data": lambda answer: {"object": "list"},
    "a word": lambda answer: "hello",
    "one too few": lambda answer: {"data": answer["data"][1:]},
    "places twice": lambda answer: {"data": answer["data"] * 2},
    "other places": lambda answer: {"data": [row | {"index": row["index"] + 1} for row in answer["data"]]},
    "no base64": lambda answer: {"data": [row | {"embedding": [0.5, 0.5]} for row in answer["data"]]},
    "empty vectors": lambda answer: {"data": [row | {"embedding": ""} for row in answer["data"]]},
    "too deep": lambda answer: b"[" * 100_000,
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_an_unusable_answer_is_requested_elsewhere_and_never_stored(server, second, spoilt):
    engine = ServerEmbedder(config_of(server, second))
    server.spoil = SPOILT[spoilt]
    for _ in range(2):
        assert np.allclose(engine.embed(TEXTS), expected(engine), atol=1e-6)
    second.spoil = SPOILT[spoilt]
    for work in (lambda: engine.embed(TEXTS), lambda: ServerEmbedder(config_of(server))):
        with pytest.raises(RefusedError, match="an answer that can't be used: "):
            work()


def test_the_key_comes_from_the_environment(server, monkeypatch):
    server.key = "secret"
    with pytest.raises(
        EngineError, match=r"refuses the key, which is taken from NIGHTFOLD_ENGINE_KEY: .* 401 who are you"
    ):
        ServerEmbedder(config_of(server))
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "secret")
    assert ServerEmbedder(config_of(server)).dim == 8
    monkeypatch.delenv("NIGHTFOLD_ENGINE_KEY")
    monkeypatch.setenv("OTHER_KEY", "secret")
    assert ServerEmbedder(config_of(server, key_variable="OTHER_KEY")).dim == 8


def test_the_key_comes_from_its_file_rather_than_from_the_environment(server, monkeypatch, tmp_path):
    server.key, file = "secret", tmp_path / "key"
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "a-wrong-one")
    file.write_text("secret\n", encoding="utf-8")
    assert ServerEmbedder(config_of(server, key_file=str(file))).dim == 8
    file.write_text("another", encoding="utf-8")
    with pytest.raises(
        EngineError, match=rf"refuses the key, which is taken from {file}: .* not Bearer \*\*\*$"
    ):
        ServerEmbedder(config_of(server, key_file=str(file)))
    file.write_bytes(b"secr\xff\xfe")
    with pytest.raises(EngineError, match=rf"^the key in {file} has characters that can't be sent$"):
        ServerEmbedder(config_of(server, key_file=str(file)))
    file.unlink()
    with pytest.raises(EngineError, match=r"^engine\.key_file can't be read on this machine: .*No such file"):
        ServerEmbedder(config_of(server, key_file=str(file)))


def test_a_key_that_the_server_repeats_is_redacted(server, monkeypatch):
    server.key = "secret"
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "a-wrong-one")
    with pytest.raises(EngineError, match=r"401 who are you\? not Bearer \*\*\*$"):
        ServerEmbedder(config_of(server))


def test_a_key_is_sent_without_its_line_break_and_appears_in_no_message(server, monkeypatch):
    server.key = "secret"
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "secret\n")
    assert ServerEmbedder(config_of(server)).dim == 8
    for key in ("secret\nsecret", "secr\u00e9t"):
        monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", key)
        with pytest.raises(
            EngineError, match=r"^the key in NIGHTFOLD_ENGINE_KEY has characters that can't be sent$"
        ):
            ServerEmbedder(config_of(server))


def test_one_of_several_served_models_must_be_named(server):
    server.models = ["one", "two"]
    with pytest.raises(EngineError, match="the servers have one, two; name one"):
        ServerEmbedder(config_of(server))
    assert ServerEmbedder(config_of(server, served_model="two")).dim == 8


def test_a_server_with_too_small_a_token_limit_is_refused(server):
    server.max_model_len = 255
    with pytest.raises(EngineError, match="max_tokens is 256, but the server takes only 255"):
        ServerEmbedder(config_of(server))
    server.max_model_len = 256
    assert ServerEmbedder(config_of(server)).dim == 8


def test_every_server_must_reproduce_the_stored_vectors(server, second):
    for turn in range(2):
        second.sign = 1.0
        engine = ServerEmbedder(config_of(server, second))
        stored = Expected(engine.model_key, TEXTS[:8], expected(engine)[:8])
        refuse_other_model(engine, stored)
        second.sign = -1.0
        for _ in range(turn):
            engine.embed(["a"])
        with pytest.raises(EngineError, match="gives other vectors than those stored"):
            refuse_other_model(engine, stored)


WIDE = base64.b64encode(np.ones(16, "<f4").tobytes()).decode()


def test_longer_vectors_from_another_server_are_not_cut_to_fit(server, second):
    engine = ServerEmbedder(config_of(server, second))
    second.spoil = lambda answer: {"data": [row | {"embedding": WIDE} for row in answer["data"]]}
    with pytest.raises(
        EngineError, match="the servers have different models: one gave 8 numbers for a text, another 16"
    ):
        for _ in range(2):
            engine.embed(TEXTS)


def test_dimensions_are_cut_and_never_invented(server):
    engine = ServerEmbedder(config_of(server, dimensions=4))
    whole = expected(engine)[:, :4]
    assert np.allclose(engine.embed(TEXTS), whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(EngineError, match="dimensions is 9, but the model gives 8"):
        ServerEmbedder(config_of(server, dimensions=9))


def vectors_of(texts: list[str]) -> np.ndarray:
    return load_embedder(config(dtype="float32")).embed(texts)


@pytest.mark.vllm
@pytest.mark.slow
def test_a_real_server_agrees_with_the_local_engine_and_dies_without_loss(tmp_path, monkeypatch):
    texts = [f"{WORDS[i % 13]} {WORDS[i % 7]} for the {WORDS[i % 11]} " * (1 + i % 20) for i in range(300)]
    local = in_own_process(vectors_of, texts)
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", KEY)
    # The client waits for a server that is still starting.
    with vllm_server(free_port(), tmp_path / "server.txt") as server:
        served = config_of(server, served_model=MODEL, timeout_s=300)
        engine = load_embedder(served)
        assert cosines(engine.embed(texts), local).min() >= 0.999
        assert engine.model_key == model_key(config())
        with pytest.raises(EngineError, match="401"):
            monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "wrong")
            engine.embed(texts[:1])
        monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", KEY)
        server.kill()
        monkeypatch.setattr(engine, "_config", replace(served, timeout_s=2))
        with pytest.raises(EngineError, match=r"no server has answered for 2 s .*Connection"):
            engine.embed(texts[:1])
