"""Nights by the real DAG, in which Airflow runs spark-submit, on a tiny log with the hash engine."""

import os
import signal
import socket
import subprocess
import time
from datetime import date
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import DAYS, FIRST
from tests.e2e.tables import rows_of, state_hashes


@pytest.fixture(scope="module")
def given(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Logs and settings, as the environment variables of the scripts."""
    config = tmp_path_factory.mktemp("dag") / "hash.yaml"
    config.write_text(f"engine: {{kind: hash}}\nfold: {{first_day: {FIRST}}}\n", encoding="utf-8")
    return {"LOGS": str(logs), "CONFIG": str(config)}


def night_by_dag(day: date, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "docker" / "night_by_dag.sh"), str(day)]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=540)


def published(warehouse: str) -> list[tuple[date, str]]:
    """The published days and their run ids, in the order of publication."""
    rows = [row for row in rows_of(warehouse, "pipeline_runs") if row["status"] == "published"]
    return [(row["date"], row["run_id"]) for row in sorted(rows, key=lambda row: row["ended"])]


def test_a_night_by_the_dag_gives_the_same_as_run_night(given, after_nights, tmp_path):
    by_dag = str(tmp_path / "by_dag")
    night = night_by_dag(FIRST, WAREHOUSE=by_dag, **given)
    assert night.returncode == 0, night.stderr
    jobs = ["ingest_events", "embed_texts", "fold_profiles", "recommend_items"]
    jobs += ["check_tables", "publish_run"]
    printing = dict.fromkeys(line.split()[0].rstrip(":") for line in night.stdout.splitlines())
    assert list(printing) == jobs
    assert published(by_dag) == [(FIRST, f"profiles_nightly-{FIRST}")]
    assert rows_of(by_dag, "profile_states")
    assert state_hashes(by_dag) == state_hashes(after_nights(1))


def test_a_failed_task_fails_the_night_and_is_named(given, tmp_path):
    (tmp_path / "bad.yaml").write_text("engine: {knd: hash}", encoding="utf-8")
    bad = {"CONFIG": str(tmp_path / "bad.yaml"), "WAREHOUSE": str(tmp_path / "w")}
    night = night_by_dag(FIRST, **given | bad)
    assert night.returncode == 1 and night.stdout.count("\n") <= 1
    assert "ingest_events failed" in night.stderr and "unknown key 'engine.knd'" in night.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("day", "sentence"),
    [("2025-03-09", "has no _SUCCESS"), ("2025-3-9", "is no date"), ("$(id)", "is no date")],
)
def test_an_impossible_night_is_refused_before_airflow_starts(day, sentence, given, tmp_path):
    night = night_by_dag(day, WAREHOUSE=str(tmp_path / "w"), **given)
    assert night.returncode == 2 and sentence in night.stderr and night.stderr.count("\n") == 1


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def processes_of(home: Path) -> list[str]:
    """The processes with this AIRFLOW_HOME."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"AIRFLOW_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_backfill_by_the_scheduler_publishes_its_days_in_order(given, tmp_path):
    home, warehouse = tmp_path / "airflow", str(tmp_path / "w")
    settings = os.environ | given | {"AIRFLOW_HOME": str(home), "AIRFLOW_PORT": free_port()}
    settings["WAREHOUSE"] = warehouse
    script = ROOT / "docker" / "airflow_local.sh"
    airflow = subprocess.Popen([script], env=settings, stdout=subprocess.PIPE, text=True)
    try:
        started = airflow.stdout and any("Ctrl-C ends it" in line for line in airflow.stdout)
        assert started, "Airflow did not start"
        create = "airflow backfill create --dag-id profiles_nightly --from-date $1 --to-date $2"
        shell = f"source docker/airflow_env.sh && {create} --max-active-runs 1"
        command = ["bash", "-c", shell, "bash", str(DAYS[0]), str(DAYS[-1])]
        subprocess.run(command, env=settings, cwd=ROOT, check=True, capture_output=True, timeout=120)
        until = time.monotonic() + 1800
        runs = Path(warehouse) / "pipeline_runs" / "_delta_log"
        while not runs.is_dir() or len(published(warehouse)) < len(DAYS):
            assert time.monotonic() < until, f"the days were not published in time; see {home}"
            assert airflow.poll() is None
            time.sleep(5)
    finally:
        airflow.send_signal(signal.SIGTERM)
        airflow.wait(60)
    assert published(warehouse) == [(day, f"profiles_nightly-{day}") for day in DAYS]
    assert processes_of(home) == []
