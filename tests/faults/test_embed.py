"""The embed job when servers die or change during a run, in the test's session.

Committed vectors stay, and no key gets two rows.
"""

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

import jobs.embed.days
from jobs import embed_texts
from jobs.embed.stage import gpu_profile
from jobs.io.messages import one_sentence
from schemas.settings import EngineSettings
from tests.e2e.tables import call, rows_of, version_of
from tests.embedding_server import embedding_server
from tests.faults.embedding import DAY, settings_file, text_key, vectors, write_events
from tests.udfs.engines import configs
from udfs.engines.model import load_tokenizer

TEXTS = [f"a pot of tea number {i}" for i in range(60)]
NEXT = date(2025, 3, 4)


@pytest.fixture
def server():
    with embedding_server() as server:
        yield server


def config_of(folder, server, more="") -> str:
    return settings_file(
        folder, f"kind: vllm_server, endpoints: ['{server.url}'], tile_texts: 15, timeout_s: 2{more}"
    )


def test_each_distinct_text_is_embedded_once_and_a_rerun_sends_no_request(spark, warehouse, tmp_path, server):
    write_events(spark, warehouse, [*TEXTS, *TEXTS])
    config = config_of(tmp_path, server)
    call(spark, embed_texts, warehouse, config, "--date", DAY)
    assert set(vectors(warehouse)) == {text_key(text) for text in TEXTS}
    # A worker sends one more text to learn the length of the vectors; each of the four tiles is one task.
    assert len(TEXTS) < sum(server.inputs) <= len(TEXTS) + 4
    assert version_of(warehouse, "text_embeddings") == 4
    before = len(server.inputs)
    call(spark, embed_texts, warehouse, config, "--date", DAY)
    write_events(spark, warehouse, TEXTS[:7], NEXT)
    call(spark, embed_texts, warehouse, config, "--date", NEXT)
    assert len(server.inputs) == before
    assert version_of(warehouse, "text_embeddings") == 4


@pytest.mark.slow
def test_a_server_that_dies_mid_stage_costs_at_most_two_tiles(
    spark, warehouse, tmp_path, server, monkeypatch
):
    write_events(spark, warehouse, TEXTS)
    committed = []
    commit_tile = jobs.embed.days.commit_tile

    def commit(*args):
        commit_tile(*args)
        committed.append(len(vectors(warehouse)))
        if len(committed) == 2:
            server.answers = [(0, {})] * 100

    monkeypatch.setattr("jobs.embed.days.commit_tile", commit)
    with pytest.raises(Exception) as caught:
        call(spark, embed_texts, warehouse, config_of(tmp_path, server), "--date", DAY)
    assert one_sentence(caught.value).startswith("no server has answered for 2 s (engine.timeout_s)")
    first = vectors(warehouse)
    assert len(first) >= committed[1] > 0 and not set(first) - {text_key(text) for text in TEXTS}
    if len(first) == len(TEXTS):
        pytest.fail("the server died after the last tile, so nothing was tested")
    server.answers = []
    asked = len(server.inputs)
    call(spark, embed_texts, warehouse, config_of(tmp_path, server), "--date", DAY)
    after = vectors(warehouse)
    assert len(after) == len(TEXTS) and {key: after[key] for key in first} == first
    assert len(server.inputs) > asked


@pytest.mark.slow
def test_a_refused_text_is_recorded_and_retried_only_on_request(spark, warehouse, tmp_path, server):
    write_events(spark, warehouse, [*TEXTS[:9], "a xylophone"])
    server.poison = load_tokenizer(configs.config()).encode("xylophone").ids[1]
    config = config_of(tmp_path, server)
    call(spark, embed_texts, warehouse, config, "--date", DAY)
    (refused,) = rows_of(warehouse, "rejected_texts")
    assert refused["text_key"] == text_key("a xylophone")
    assert refused["message"] == "RefusedError: 500 these tokens break me"
    assert len(vectors(warehouse)) == 9
    server.poison, before = None, len(server.inputs)
    call(spark, embed_texts, warehouse, config, "--date", DAY)
    assert len(server.inputs) == before
    call(spark, embed_texts, warehouse, config, "--date", DAY, "--retry-rejected")
    assert len(vectors(warehouse)) == 10


@pytest.mark.slow
def test_a_server_with_another_model_is_refused(spark, warehouse, tmp_path, server):
    write_events(spark, warehouse, TEXTS[:20])
    config = config_of(tmp_path, server)
    call(spark, embed_texts, warehouse, config, "--date", DAY)
    before = vectors(warehouse)
    write_events(spark, warehouse, [*TEXTS[:10], "something new"], NEXT)
    server.sign = -1.0
    with pytest.raises(Exception) as caught:
        call(spark, embed_texts, warehouse, config, "--date", NEXT)
    assert one_sentence(caught.value).startswith(
        "the engine gives other vectors than those stored under all-minilm-l6-v2-"
    )
    assert vectors(warehouse) == before
    server.sign = 1.0
    call(spark, embed_texts, warehouse, config, "--date", NEXT)
    assert set(vectors(warehouse)) == set(before) | {text_key("something new")}


def test_long_texts_are_truncated_before_they_are_sent_and_marked(spark, warehouse, tmp_path):
    config = settings_file(tmp_path, "kind: hash, max_tokens: 8")
    texts = ["tea " * 8, "tea " * 9, "x" * 128, "x" * 129, "tea " * 100_000]
    texts = [text.strip() for text in texts]
    write_events(spark, warehouse, texts)
    call(spark, embed_texts, warehouse, config, "--date", DAY)
    rows = {row["text_key"]: row for row in rows_of(warehouse, "text_embeddings")}
    assert [rows[text_key(text)]["truncated"] for text in texts] == [False, True, False, True, True]
    assert [rows[text_key(text)]["token_count"] for text in texts] == [8, 8, 1, 1, 8]
    assert np.allclose([np.linalg.norm(row["vector"]) for row in rows.values()], 1)


def test_empty_tiles_are_skipped(spark, warehouse, tmp_path):
    # With as many tiles as texts some tiles are empty; with these texts the first.
    texts = [f"text 3 {i}" for i in range(3)]
    write_events(spark, warehouse, texts)
    call(spark, embed_texts, warehouse, settings_file(tmp_path, "kind: hash, tile_texts: 1"), "--date", DAY)
    assert set(vectors(warehouse)) == {text_key(text) for text in texts}


@pytest.mark.parametrize(
    ("master", "requests"),
    [("local", False), ("local[*]", False), ("local[4,1]", False), ("spark://host:7077", True)],
)
def test_a_local_session_requests_no_gpus(spark, master, requests):
    session = SimpleNamespace(sparkContext=SimpleNamespace(master=master))
    assert (gpu_profile(session, EngineSettings(gpus=1)) is not None) == requests
    assert gpu_profile(session, EngineSettings()) is None
