"""The embed job under SIGKILL, as a separate process.

The rerun loses and duplicates nothing, and no process outlives the job.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.e2e.tables import rows_of
from tests.embedding_server import EmbeddingServer, embedding_server
from tests.faults.embedding import DAY, settings_file, text_key, vectors, write_events
from tests.faults.processes import Job, below, parents, started, until
from tests.vllm_server import KEY, MODEL, free_port, vllm_server

pytestmark = pytest.mark.slow

TEXTS = [f"a pot of tea number {i}" for i in range(60)]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        server.delay_s = 0.5
        yield server


def embedding(warehouse: str, config: str, folder: Path) -> AbstractContextManager[Job]:
    """The embed job as a process, with its output in the folder."""
    argv = ["--date", str(DAY), "--warehouse", warehouse, "--config", config]
    return started("embed_texts", argv, folder)


def engine_workers(pid: int) -> set[int]:
    """The job's Python workers with an engine: children of a daemon whose environment says so."""

    def is_engine(process: int) -> bool:
        try:
            return b"NIGHTFOLD_WORKERS=engine " in Path(f"/proc/{process}/environ").read_bytes()
        except OSError:
            return False

    of = parents()
    engines = {process for process in below(pid) if is_engine(process)}
    return {process for process in engines if of.get(process) in engines}


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_a_job_killed_mid_stage_continues_where_it_stopped(spark, warehouse, tmp_path, server, victim):
    write_events(spark, warehouse, TEXTS)
    config = settings_file(
        tmp_path, f"kind: vllm_server, endpoints: ['{server.url}'], tile_texts: 5, timeout_s: 60"
    )
    with embedding(warehouse, config, tmp_path / "killed") as job:
        until(lambda: len(vectors(warehouse)) >= 10, 240, "two tiles")
        server.delay_s = 8.0
        until(lambda: server.open and engine_workers(job.process.pid), 60, "a worker waiting for vectors")
        processes = below(job.process.pid)
        for process in [job.process.pid] if victim == "driver" else engine_workers(job.process.pid):
            os.kill(process, signal.SIGKILL)
        assert job.wait() == (-signal.SIGKILL if victim == "driver" else 1), (
            tmp_path / "killed.txt"
        ).read_text()
        until(lambda: not processes & set(parents()), 60, "the end of every process of the job")
    first = vectors(warehouse)
    assert 10 <= len(first) < len(TEXTS)
    server.delay_s = 0.0
    with embedding(warehouse, config, tmp_path / "again") as job:
        assert job.wait() == 0, job.said()
    after = vectors(warehouse)
    assert set(after) == {text_key(text) for text in TEXTS} and {key: after[key] for key in first} == first
    (done,) = [dict(row["counts"]) for row in rows_of(warehouse, "pipeline_runs") if row["status"] == "done"]
    assert (done["reused"], done["embedded"]) == (len(first), len(TEXTS) - len(first))


@pytest.mark.vllm
def test_a_job_whose_server_is_killed_mid_stage_continues_where_it_stopped(
    spark, warehouse, tmp_path, monkeypatch
):
    texts = [f"a pot of tea number {i} for the garden" for i in range(3000)]
    write_events(spark, warehouse, texts)
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", KEY)
    port = free_port()

    endpoint = f"kind: vllm_server, endpoints: ['http://127.0.0.1:{port}'], served_model: {MODEL}"
    # Long enough for a server to start; the job waits as long for one that died.
    config = settings_file(tmp_path, f"{endpoint}, tile_texts: 200, timeout_s: 60")
    with (
        vllm_server(port, tmp_path / "server.txt") as server,
        embedding(warehouse, config, tmp_path / "killed") as job,
    ):
        until(lambda: len(vectors(warehouse)) >= 400, 240, "two tiles")
        processes = below(job.process.pid)
        server.kill()
        assert job.wait() == 1, job.said()
        until(lambda: not processes & set(parents()), 60, "the end of every process of the job")
    assert "no server has answered for 60 s (engine.timeout_s)" in job.said()
    first = vectors(warehouse)
    assert 400 <= len(first) < len(texts)
    with (
        vllm_server(port, tmp_path / "server.txt"),
        embedding(warehouse, config, tmp_path / "again") as job,
    ):
        assert job.wait() == 0, job.said()
    after = vectors(warehouse)
    assert set(after) == {text_key(text) for text in texts} and {key: after[key] for key in first} == first
