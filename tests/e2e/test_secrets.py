"""A job's secrets stand nowhere: not in Spark's event log, arguments, output, tables or scratch."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from jobs.io.session import java_options
from tests.conftest import ROOT
from tests.e2e.test_private_files import open_to_others
from tests.embedding_server import embedding_server
from tests.faults.processes import QUICK_JAVA
from tests.jobs.ingest.days import FIRST, deliver, event

# Of this run alone: what another run shows its own processes is no matter of this one.
ENGINE_KEY, USER_KEY = f"engine-{token_hex(8)}", f"user-{token_hex(8)}"
NAME = "spark.executorEnv.NIGHTFOLD_ENGINE_KEY"
SUBMIT = Path(sys.executable).with_name("spark-submit")


def holders(secret: str, folder: Path) -> list[str]:
    """The files in a folder and below that hold the secret."""
    found = []
    # Unlike rglob, walk takes it that folders are removed meanwhile, as scratch is.
    for below, _, names in os.walk(folder):
        for path in (Path(below, name) for name in names):
            try:
                if path.is_file() and secret.encode() in path.read_bytes():
                    found.append(str(path))
            except OSError:
                continue
    return found


def arguments() -> set[str]:
    """The command line of every process."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@contextmanager
def watched(scratch: Path) -> Iterator[tuple[set[str], set[str]]]:
    """All command lines, and the scratch files that hold a secret, seen while the context lasts."""
    commands: set[str] = set()
    spilled: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            commands.update(arguments())
            for secret in (ENGINE_KEY, USER_KEY):
                spilled.update(holders(secret, scratch))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield commands, spilled
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def submitted(tmp_path):
    """Submits a night with a key of user ids and one of its servers; returns it and what was seen."""
    deliver(tmp_path, FIRST, event(title="tea"), event(user_id="bernadett", title="pot", item_id="S2"))
    for name in ("events", "scratch"):
        (tmp_path / name).mkdir()

    def run(*given, more=""):
        with embedding_server() as server, watched(tmp_path / "scratch") as (commands, spilled):
            server.key = ENGINE_KEY
            config = tmp_path / "config.yaml"
            engine = f"{{kind: vllm_server, endpoints: ['{server.url}'], timeout_s: 60{more}}}"
            config.write_text(f"engine: {engine}\nprivacy: {{user_ids: keyed}}\n", encoding="utf-8")
            conf = {
                "spark.eventLog.enabled": "true",
                "spark.eventLog.compress": "false",
                "spark.eventLog.dir": f"file:{tmp_path}/events",
                "spark.driver.memory": "1g",
            }
            words = [word for pair in conf.items() for word in ("--conf", "=".join(pair))]
            arguments = ["--logs", tmp_path / "logs", "--warehouse", tmp_path / "w", "--config", config]
            night = subprocess.run(
                [SUBMIT, "--master", "local[2]", *given, *words, ROOT / "jobs" / "run_night.py",
                 *arguments, "--date", str(FIRST), "--bootstrap"],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable,
                     "NIGHTFOLD_KEY": USER_KEY, "TMPDIR": str(tmp_path / "scratch"),
                     "SPARK_SUBMIT_OPTS": f"{java_options('1g')} {QUICK_JAVA}"},
                capture_output=True, text=True, timeout=300, umask=0o022,
            )  # fmt: skip
        assert night.returncode == 0, night.stdout + night.stderr
        return night, commands, spilled

    return run


def private(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.touch(0o600)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("way", [pytest.param("properties file", marks=pytest.mark.slow), "key file"])
def test_a_secret_stands_nowhere(submitted, tmp_path, way):
    keys = tmp_path / "keys"
    keys.mkdir()
    if way == "properties file":
        given = ["--properties-file", private(keys, "spark.conf", f"{NAME}={ENGINE_KEY}\n")]
        night, commands, spilled = submitted(*given)
    else:
        night, commands, spilled = submitted(more=f", key_file: {private(keys, 'key', ENGINE_KEY)}")
    assert "1 quarantined" not in night.stdout and "2 embedded" in night.stdout
    for secret in (ENGINE_KEY, USER_KEY):
        for folder in ("events", "w", "scratch", "logs"):
            assert holders(secret, tmp_path / folder) == []
        assert secret not in night.stdout + night.stderr
        assert not [command for command in commands if secret in command]
    assert not spilled
    # Under spark-submit Java's own umask is the shell's.
    assert open_to_others(tmp_path / "w") == []
    # What was looked at is what a secret would stand in.
    assert any("jobs/run_night.py" in command for command in commands)
    files = [path for path in (tmp_path / "events").rglob("events_*") if path.is_file()]
    logged = "".join(path.read_text(encoding="utf-8") for path in files)
    assert '"spark.master":"local[2]"' in logged and (NAME in logged) == (way == "properties file")


@pytest.mark.slow
def test_a_secret_given_as_an_argument_is_told_and_not_logged(submitted, tmp_path):
    night, commands, _ = submitted("--conf", f"{NAME}={ENGINE_KEY}")
    assert any(ENGINE_KEY in command for command in commands)
    assert holders(ENGINE_KEY, tmp_path / "events") == []
    assert f"{NAME} was given as an argument, which everybody on this machine can read" in night.stdout
    assert ENGINE_KEY not in night.stdout + night.stderr
