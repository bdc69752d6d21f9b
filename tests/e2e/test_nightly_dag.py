"""Nights through the real DAG: Airflow starts spark-submit, Spark writes the tables; a tiny log and the hash engine."""

import os
import signal
import socket
import subprocess
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs import make_demo_logs, run_night
from tests.conftest import ROOT
from tests.e2e.tables import STATE_COLUMNS, rows_of
from tests.oracle import canonical_hash

FIRST = date(2025, 3, 3)
DAYS = [FIRST + timedelta(days=i) for i in range(4)]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The logs and the settings, as the environment gives them to the scripts."""
    folder = tmp_path_factory.mktemp("dag")
    assert (
        make_demo_logs.main(
            ["--logs", str(folder / "logs"), "--days", str(len(DAYS)), "--users", "8", "--start", str(FIRST)]
        )
        == 0
    )
    (folder / "hash.yaml").write_text(
        f"engine: {{kind: hash}}\nfold: {{first_day: {FIRST}}}\n", encoding="utf-8"
    )
    return {"LOGS": str(folder / "logs"), "CONFIG": str(folder / "hash.yaml")}


def night_by_dag(day: date, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "docker" / "night_by_dag.sh"), str(day)]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=540)


def published(warehouse: str) -> list[tuple[date, str]]:
    """The published days and the names of their runs, in the order of publication."""
    rows = [row for row in rows_of(warehouse, "pipeline_runs") if row["status"] == "published"]
    return [(row["date"], row["run_id"]) for row in sorted(rows, key=lambda row: row["ended"])]


def test_a_night_through_the_dag_gives_what_run_night_gives(spark, given, tmp_path):
    by_dag, alone = str(tmp_path / "by_dag"), str(tmp_path / "alone")
    night = night_by_dag(FIRST, WAREHOUSE=by_dag, **given)
    assert night.returncode == 0, night.stderr
    jobs = ["ingest_events", "embed_texts", "fold_profiles", "check_tables", "publish_run"]
    told = [line.split()[0].rstrip(":") for line in night.stdout.splitlines()]
    assert [job for job in dict.fromkeys(told) if job in jobs] == jobs == list(dict.fromkeys(told))
    assert published(by_dag) == [(FIRST, f"profiles_nightly-{FIRST}")]
    argv = ["--logs", given["LOGS"], "--config", given["CONFIG"], "--warehouse", alone, "--date", str(FIRST)]
    run_night.run(spark, run_night.arg_parser().parse_args(argv))
    for table in ("profile_states", "user_profiles"):
        rows = rows_of(by_dag, table)
        assert rows and canonical_hash(rows, STATE_COLUMNS) == canonical_hash(
            rows_of(alone, table), STATE_COLUMNS
        )


def test_a_failed_task_fails_the_night_and_is_named(given, tmp_path):
    (tmp_path / "bad.yaml").write_text("engine: {knd: hash}", encoding="utf-8")
    night = night_by_dag(
        FIRST, **given | {"CONFIG": str(tmp_path / "bad.yaml"), "WAREHOUSE": str(tmp_path / "w")}
    )
    assert night.returncode == 1 and night.stdout.count("\n") <= 1
    assert "ingest_events failed" in night.stderr and "unknown key 'engine.knd'" in night.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("day", "sentence"),
    [("2025-03-09", "has no _SUCCESS"), ("2025-3-9", "is no date"), ("$(id)", "is no date")],
)
def test_a_night_that_can_not_be_is_refused_before_airflow_starts(day, sentence, given, tmp_path):
    night = night_by_dag(day, WAREHOUSE=str(tmp_path / "w"), **given)
    assert night.returncode == 2 and sentence in night.stderr and night.stderr.count("\n") == 1


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def processes_of(home: Path) -> list[str]:
    """The processes that live in an AIRFLOW_HOME."""
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
    settings = (
        os.environ | given | {"AIRFLOW_HOME": str(home), "AIRFLOW_PORT": free_port(), "WAREHOUSE": warehouse}
    )
    airflow = subprocess.Popen(
        [ROOT / "docker" / "airflow_local.sh"], env=settings, stdout=subprocess.PIPE, text=True
    )
    try:
        assert airflow.stdout and any("Ctrl-C ends it" in line for line in airflow.stdout), (
            "Airflow did not start"
        )
        create = "airflow backfill create --dag-id profiles_nightly --from-date $1 --to-date $2 --max-active-runs 1"
        command = [
            "bash",
            "-c",
            f"source docker/airflow_env.sh && {create}",
            "bash",
            str(DAYS[0]),
            str(DAYS[-1]),
        ]
        subprocess.run(command, env=settings, cwd=ROOT, check=True, capture_output=True, timeout=120)
        until = time.monotonic() + 1800
        while not (Path(warehouse) / "pipeline_runs" / "_delta_log").is_dir() or len(
            published(warehouse)
        ) < len(DAYS):
            assert time.monotonic() < until, f"the days were not published in time; see {home}"
            assert airflow.poll() is None
            time.sleep(5)
    finally:
        airflow.send_signal(signal.SIGTERM)
        airflow.wait(60)
    assert published(warehouse) == [(day, f"profiles_nightly-{day}") for day in DAYS]
    assert processes_of(home) == []
